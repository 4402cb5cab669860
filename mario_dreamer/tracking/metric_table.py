"""The table of every metric that a run, an evaluation or a report logs.

One row: name, meaning, unit, healthy range, where it is computed. A test compares it with what a
real run logs, both ways.
"""

from __future__ import annotations

_MODEL, _ACTOR, _CRITIC = "losses/world_model.py", "losses/actor.py", "losses/critic.py"
_LEARNER, _OPTIM = "training/learner.py", "training/optim.py"
_REPORT, _EVAL = "training/report.py", "training/pictures.py"
_SYSTEM = "tracking/system.py"
_ALIAS = "tracking/metrics.py"

_SEED_NAMES = (
    ("train_return", "the seed's name for play/return", "reward", "rises; noisy", _ALIAS),
    ("eval_return", "the seed's name for eval/sampled/return", "reward",
     "rises; above train_return when exploration costs", _ALIAS),
    ("model_loss", "sum of the world model's loss terms", "nats",
     "falls fast, then slowly; jumps when the agent reaches new ground", _ALIAS),
    ("actor_loss", "the seed's name for train/loss_actor", "nats",
     "near 0, either sign; its size says little", _ALIAS),
    ("value_loss", "train/loss_critic plus train/loss_critic_replay", "nats",
     "falls from log(255) = 5.5 to 0.5 .. 3", _ALIAS),
    ("kl", "the seed's name for train/kl", "nats", "1 .. 10", _ALIAS),
)  # fmt: skip

_TRAIN = (
    ("train/loss_recon", "reconstruction error of the observation, times its weight", "nats",
     "falls throughout", _MODEL),
    ("train/loss_reward", "cross-entropy of the predicted reward", "nats",
     "falls from 5.5 to below 1", _MODEL),
    ("train/loss_cont", "cross-entropy of the predicted continue flag", "nats",
     "below 0.1; peaks when new ways to die are found", _MODEL),
    ("train/loss_dyn", "KL[sg(q) || p], clipped below at free nats, times beta_dyn",
     "nats", "above beta_dyn * free_nats; falls", _MODEL),
    ("train/loss_rep", "KL[q || sg(p)], clipped below at free nats, times beta_rep", "nats",
     "beta_rep / beta_dyn of loss_dyn", _MODEL),
    ("train/loss_prior", "cross-entropy of reward and continue flag predicted before the frame is "
     "seen, times beta_prior (logged where it is not 0)", "nats", "above the sum of both", _MODEL),
    ("train/loss_actor", "REINFORCE term minus the entropy bonus", "nats", "near 0, either sign",
     _ACTOR),
    ("train/loss_critic", "cross-entropy of the critic on imagined returns, slow critic included",
     "nats", "falls from 5.5 (11 with the slow critic's term)", _CRITIC),
    ("train/loss_critic_replay", "the same on replayed records, times its scale", "nats",
     "about replay scale * loss_critic", _CRITIC),
    ("train/loss_total", "sum of all loss terms", "nats", "falls; must stay finite", _LEARNER),
    ("train/kl", "KL[q || p] summed over the categoricals, before free nats", "nats",
     "1 .. 10; 0 means the latent is ignored", _MODEL),
    ("train/post_entropy", "entropy of q, summed over the categoricals", "nats",
     "5 .. 60 of 110.9 (32 x log 32); laptop 6 .. 14 of 44.4 (16 x log 16)", _MODEL),
    ("train/prior_entropy", "entropy of p, summed over the categoricals", "nats",
     "a little above post_entropy", _MODEL),
    ("train/grad_norm", "norm of all gradients before clipping", "1",
     "finite; spikes are clipped", _OPTIM),
    *((f"train/grad_norm_{group}", f"norm of the gradient of the group `{group}` before clipping",
       "1", "finite; spikes are clipped", _OPTIM) for group in ("world_model", "actor", "critic")),
    ("train/clipped", "share of the parameter tensors whose gradient was clipped", "0..1",
     "below 0.5 after the warm-up", _OPTIM),
    ("train/lr", "learning rate of the first group, the world model", "1",
     "0 to its plateau in the warm-up", _OPTIM),
)  # fmt: skip

_IMAGINED = (
    ("dream/return_mean", "mean lambda-return over imagined states", "reward",
     "rises; near what episodes really bring over the horizon", _LEARNER),
    ("dream/return_std", "standard deviation of the imagined returns", "reward", "above 0",
     _LEARNER),
    ("dream/value_mean", "mean value that the critic gives imagined states", "reward",
     "follows dream/return_mean", _LEARNER),
    ("dream/reward_mean", "mean imagined reward per step", "reward per agent step",
     "near the replayed mean; far above it: the policy exploits the model", _LEARNER),
    ("dream/cont_mean", "mean probability that an imagined step is not the last", "0..1",
     "0.95 .. 1", _LEARNER),
    ("dream/weight_mean", "mean weight of an imagined step: product of the continues", "0..1",
     "0.7 .. 1", _LEARNER),
    ("dream/entropy", "entropy of the policy per imagined step", "nats",
     "starts at log(actions), falls slowly; near 0 early: stuck", _ACTOR),
    ("dream/advantage_std", "standard deviation of the normalised advantages", "1", "0.05 .. 1",
     _ACTOR),
    ("dream/return_scale", "S: range of returns from the 5th to the 95th percentile, at least 1",
     "reward", "1 while rewards are rare, then grows", _LEARNER),
)  # fmt: skip


def _episodes(group: str, kind: str, where: str) -> tuple[tuple[str, str, str, str, str], ...]:
    """Rows about episodes; `group` is a prefix such as `play`, `kind` says which episodes."""
    return (
        (f"{group}/return", f"return of {kind}", "reward", "rises", where),
        (f"{group}/length", f"length of {kind}", "agent steps",
         "rises, then falls as Mario gets fast", where),
        (f"{group}/x_max", f"furthest place reached in {kind}", "pixels",
         "rises; the flag of 1-1 is at 3161", where),
        (f"{group}/x_best", f"furthest place ever reached in {kind}", "pixels", "rises", where),
        (f"{group}/flag_rate", f"share of {kind} that reached the flag", "0..1", "rises to 0.9+",
         where),
        (f"{group}/<stage>/flag_rate", "the same for one of several stages, such as 1-2", "0..1",
         "rises", where),
        (f"{group}/stats/<name>", f"a number that the env reports of {kind} under `stats`, such as "
         "collect_wood in Crafter", "the env's", "any", where),
        (f"{group}/score", f"the game's score at the end of {kind}", "points",
         "no goal; says what Mario does", where),
        (f"{group}/coins", f"coins at the end of {kind}", "coins", "no goal", where),
        (f"{group}/time_left", f"game clock at the end of {kind}", "ticks",
         "400 at the start; rises once the flag is reached", where),
    )  # fmt: skip


_EPISODES = (
    *_episodes("play", "training episodes", _REPORT),
    ("play/flag", "flag reached in a training episode", "0 or 1", "1 in the end", _REPORT),
    ("play/flags", "training episodes so far that reached the flag", "episodes", "rises", _REPORT),
    ("play/return_mean", "return of the last 20 training episodes, mean", "reward", "rises",
     _REPORT),
    ("play/length_mean", "length of the last 20 training episodes, mean", "agent steps",
     "rises, then falls as Mario gets fast", _REPORT),
    ("play/x_max_mean", "furthest place in the last 20 training episodes, mean", "pixels",
     "rises to 3161", _REPORT),
    ("play/entropy_scale", "weight of the entropy in the actor's loss", "nats",
     "constant, or falls with the share of successes", _REPORT),
    *_episodes("eval/sampled", "evaluation episodes with sampled actions", _EVAL),
    *_episodes("eval/greedy", "evaluation episodes with the most likely actions", _EVAL),
    *((f"eval/{kind}/return_std", f"standard deviation of the return, {kind} actions", "reward",
       "0 only if nothing varies", _EVAL) for kind in ("sampled", "greedy")),
    ("eval/seconds", "duration of the evaluation", "s", "a small part of the run", _EVAL),
    ("eval/open_loop_error", "mean squared error of frames predicted without observations",
     "(0..1)^2", "falls; below 0.01 looks right", _EVAL),
)  # fmt: skip

_RESULTS = (
    *((f"evaluate/<condition>/{stage}{statistic}", f"{meaning}{about}", unit,
       "judged by its interval", "reporting/evaluation_files.py")
      for statistic, meaning, unit in (
          ("return", "return of the evaluated episodes, mean", "reward"),
          ("length", "length of the evaluated episodes, mean", "agent steps"),
          ("x_max", "furthest place, mean over the evaluated episodes", "pixels"),
          ("stats/<name>", "what the env reports of an episode under `stats`, mean", "the env's"),
          ("x_max_best", "furthest place of all evaluated episodes", "pixels"),
          ("flag_rate", "share of the evaluated episodes that reached the flag", "0..1"),
          ("flag_low", "lower end of its Wilson 95 % interval", "0..1"),
          ("flag_high", "upper end of its Wilson 95 % interval", "0..1"))
      for stage, about in (("", "; a condition is such as greedy-noops-sticky"),
                           ("<stage>/", ", of one of several stages"))),
    ("report/live_classes", "classes of the latent taken more than 1 % of the time", "classes",
     "a good part of S x K", "reporting/episodes.py"),
    ("report/value_bias", "critic's mean minus the discounted return that followed, mean", "reward",
     "near 0", "reporting/calibration.py"),
    ("report/open_loop_error", "mean squared error of frames at the longest horizon", "(0..1)^2",
     "below that of repeating the last frame", "reporting/open_loop.py"),
)  # fmt: skip

_RUN = (
    ("speed/fps", "emulator frames per second of wall time, learning included", "frames/s",
     "steady", _REPORT),
    ("speed/agent_steps_per_s", "agent steps per second of wall time", "steps/s", "steady",
     _REPORT),
    ("speed/updates_per_s", "gradient steps per second of wall time", "updates/s", "steady",
     _REPORT),
    ("speed/env_time", "share of wall time spent acting", "0..1", "below 0.5 when learning",
     _REPORT),
    ("speed/learn_time", "share of wall time spent learning", "0..1", "above 0.5", _REPORT),
    ("speed/policy_age", "collectors in other processes: updates made since the oldest weights that "
     "acted in their last 100 batches", "updates", "at most collector.max_policy_age",
     "training/workers.py"),
    ("run/agent_steps", "actions chosen so far, all environments together", "steps", "rises",
     "tracking/tracker.py"),
    ("run/frames", "emulator frames so far (agent steps times action repeat, at most)", "frames",
     "rises", _REPORT),
    ("run/updates", "gradient steps so far", "updates", "rises with agent steps", _REPORT),
    ("run/episodes", "training episodes finished so far", "episodes", "rises", _REPORT),
    ("run/replay_size", "records in replay", "records", "rises to its capacity", _REPORT),
    ("run/replay_ratio", "replayed records per agent step since the last report", "1",
     "0 before learning, then the train ratio asked for", _REPORT),
    ("run/memory_gib", "resident memory of the training process", "GiB",
     "steady once replay is full", _REPORT),
    ("run/gpu_memory_gib", "peak memory of tensors on the GPU; only there", "GiB", "steady",
     _REPORT),
    ("system/cpu_utilization_percentage", "processor use of the machine", "%", "any", _SYSTEM),
    ("system/system_memory_usage_megabytes", "memory in use on the machine", "MB",
     "below what there is", _SYSTEM),
    ("system/system_memory_usage_percentage", "the same as a share", "%", "below 90", _SYSTEM),
    ("system/process_memory_megabytes", "resident memory of this process", "MB", "steady",
     _SYSTEM),
    ("system/disk_usage_percentage", "the disk that holds the run folder", "%", "below 95",
     _SYSTEM),
    ("system/gpu_0_utilization_percentage", "use of the first GPU", "%", "high when learning",
     _SYSTEM),
    ("system/gpu_0_memory_usage_megabytes", "memory in use on the first GPU", "MB", "steady",
     _SYSTEM),
)  # fmt: skip

# (name, meaning, unit, healthy range, where)
ROWS: tuple[tuple[str, str, str, str, str], ...] = (
    *_SEED_NAMES, *_TRAIN, *_IMAGINED, *_EPISODES, *_RESULTS, *_RUN,
)  # fmt: skip
