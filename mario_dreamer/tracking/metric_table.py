"""Every metric that is ever logged: one line of text each, nothing else in this file.

One row: name, meaning, unit, healthy range, where it is computed. `metrics.py` reads the table.
"""

from __future__ import annotations

__all__ = ["ROWS"]

_LOSS = "losses/world_model.py"
_DREAM = "training/learner.py"
_LOOP = "training/loop.py"
_EVAL = "training/evaluation.py"
_OPTIM = "training/optim.py"
_SYSTEM = "tracking/system.py"

_SEED_NAMES = (
    ("train_return", "return of training episodes, mean since the last report", "reward",
     "rises; noisy", _LOOP),
    ("eval_return", "return of evaluation episodes, mean over episodes", "reward",
     "rises; above train_return when exploration costs", _EVAL),
    ("model_loss", "sum of the weighted world model terms", "nats",
     "falls fast, then slowly; jumps when the agent reaches new ground", _LOSS),
    ("actor_loss", "REINFORCE term minus the entropy bonus", "nats",
     "near 0, either sign; its size says little", "losses/actor.py"),
    ("value_loss", "critic's cross-entropy on dreamed returns, with the replay term", "nats",
     "falls from log(255) = 5.5 to 0.5 .. 3", "losses/critic.py"),
    ("kl", "KL[q || p] summed over the categoricals, before free nats: the surprise", "nats",
     "1 .. 10; 0 means the latent is ignored", _LOSS),
)  # fmt: skip

_TRAIN = (
    ("train/loss_recon", "how badly frames are redrawn, times its weight", "nats",
     "falls throughout", _LOSS),
    ("train/loss_reward", "cross-entropy of the predicted reward", "nats",
     "falls from 5.5 to below 1", _LOSS),
    ("train/loss_cont", "how badly the end of an episode is foreseen", "nats",
     "below 0.1; peaks when new ways to die are found", _LOSS),
    ("train/loss_dyn", "KL that teaches the guess, clipped below at free nats, times beta_dyn",
     "nats", "above beta_dyn * free_nats; falls", _LOSS),
    ("train/loss_rep", "KL that makes frames guessable, clipped below, times beta_rep", "nats",
     "beta_rep / beta_dyn of loss_dyn", _LOSS),
    ("train/loss_actor", "what the actor minimises", "nats", "near 0, either sign",
     "losses/actor.py"),
    ("train/loss_critic", "cross-entropy of the critic on dreamed returns, slow critic included",
     "nats", "falls from 5.5 (11 with the slow critic's term)", "losses/critic.py"),
    ("train/loss_critic_replay", "the same on replayed records, times its scale", "nats",
     "about replay scale * loss_critic", "losses/critic.py"),
    ("train/loss_total", "sum of all loss terms", "nats", "falls; must stay finite", _DREAM),
    ("train/kl", "the seed's `kl`, in its group", "nats", "1 .. 10", _LOSS),
    ("train/post_entropy", "entropy of q, summed over the categoricals", "nats",
     "5 .. 60 of 110.9 (32 x log 32)", _LOSS),
    ("train/prior_entropy", "entropy of p, summed over the categoricals", "nats",
     "a little above post_entropy", _LOSS),
    ("train/grad_norm", "norm of all gradients before clipping", "1",
     "finite; spikes are cut by AGC", _OPTIM),
    *((f"train/grad_norm_{group}", f"norm of the gradient of the group `{group}` before clipping",
       "1", "finite; spikes are cut", _OPTIM)
      for group in ("agent", "world_model", "actor", "critic")),
    ("train/clipped", "share of the parameter tensors whose gradient was cut", "0..1",
     "below 0.5 after the warm-up", _OPTIM),
    ("train/lr", "learning rate of this update", "1", "0 to its plateau in the warm-up", _OPTIM),
)  # fmt: skip

_IMAGINED = (
    ("dream/return_mean", "mean lambda-return over dreamed states", "reward",
     "rises; near what episodes really bring over the horizon", _DREAM),
    ("dream/return_std", "spread of the dreamed returns", "reward", "above 0", _DREAM),
    ("dream/value_mean", "mean value the critic gives dreamed states", "reward",
     "follows dream/return_mean", _DREAM),
    ("dream/reward_mean", "mean reward dreamed per step", "reward per agent step",
     "near the replayed mean; far above it: the model is being fooled", _DREAM),
    ("dream/cont_mean", "mean chance that a dreamed step is not the last", "0..1",
     "0.95 .. 1", _DREAM),
    ("dream/weight_mean", "mean weight of a dreamed step: product of the continues", "0..1",
     "0.7 .. 1", _DREAM),
    ("dream/entropy", "entropy of the policy per dreamed step", "nats",
     "starts at log(actions), falls slowly; near 0 early: stuck", "losses/actor.py"),
    ("dream/advantage_std", "spread of the normalised advantages", "1", "0.05 .. 1",
     "losses/actor.py"),
    ("dream/return_scale", "S: range of returns from the 5th to the 95th percentile, at least 1",
     "reward", "1 while rewards are rare, then grows", "agent/returns.py"),
)  # fmt: skip


def _episodes(group: str, kind: str, where: str) -> tuple[tuple[str, str, str, str, str], ...]:
    """Rows about episodes; `group` is a prefix such as `play`, `kind` says which episodes."""
    return (
        (f"{group}/return", f"return of {kind}", "reward", "rises", where),
        (f"{group}/return_std", f"spread of the return over {kind}", "reward",
         "0 only if nothing varies", where),
        (f"{group}/length", f"length of {kind}", "agent steps",
         "rises, then falls as Mario gets fast", where),
        (f"{group}/x_max", f"furthest place reached in {kind}", "pixels",
         "rises; the flag of 1-1 is at 3161", where),
        (f"{group}/x_best", f"furthest place ever reached in {kind}", "pixels", "rises", where),
        (f"{group}/flag", f"flag reached in {kind}", "0 or 1", "1 in the end", where),
        (f"{group}/flag_rate", f"share of {kind} that reached the flag", "0..1", "rises to 0.9+",
         where),
        (f"{group}/score", f"the game's score at the end of {kind}", "points",
         "no goal; says what Mario does", where),
        (f"{group}/coins", f"coins at the end of {kind}", "coins", "no goal", where),
        (f"{group}/time_left", f"game clock at the end of {kind}", "ticks",
         "400 at the start; rises once the flag is reached", where),
        (f"{group}/episodes", f"number of {kind}", "episodes", "rises", where),
    )  # fmt: skip


_EPISODES = (
    *_episodes("play", "training episodes", _LOOP),
    *_episodes("eval", "evaluation episodes", _EVAL),
    *_episodes("eval/sampled", "evaluation episodes with sampled actions", _EVAL),
    *_episodes("eval/greedy", "evaluation episodes with the likeliest actions", _EVAL),
    ("play/return_mean", "return of the last 20 training episodes, mean", "reward", "rises", _LOOP),
    ("play/length_mean", "length of the last 20 training episodes, mean", "agent steps",
     "rises, then falls as Mario gets fast", _LOOP),
    ("play/x_max_mean", "furthest place in the last 20 training episodes, mean", "pixels",
     "rises to 3161", _LOOP),
    ("play/flags", "training episodes so far that reached the flag", "episodes", "rises", _LOOP),
    ("eval/seconds", "duration of the evaluation", "s", "a small part of the run", _EVAL),
    ("eval/open_loop_error", "mean squared error of frames foreseen with the eyes shut",
     "(0..1)^2", "falls; below 0.01 looks right", "training/loop.py"),
)  # fmt: skip

_EVIDENCE = (
    *((f"evaluate/<condition>/{fact}", f"{meaning}; a condition is such as greedy-noops-sticky",
       unit, "judged by its interval", "commands/evaluate.py")
      for fact, meaning, unit in (
          ("return", "return of the evaluated episodes, mean", "reward"),
          ("length", "length of the evaluated episodes, mean", "agent steps"),
          ("x_max", "furthest place, mean over the evaluated episodes", "pixels"),
          ("x_max_best", "furthest place of all evaluated episodes", "pixels"),
          ("flag_rate", "share of the evaluated episodes that reached the flag", "0..1"),
          ("flag_low", "lower end of its Wilson 95 % interval", "0..1"),
          ("flag_high", "upper end of its Wilson 95 % interval", "0..1"))),
    ("report/live_classes", "classes of the latent taken more than 1 % of the time", "classes",
     "a good part of S x K", "reporting/latents.py"),
    ("report/value_bias", "critic's mean minus the discounted return that followed, mean", "reward",
     "near 0", "reporting/calibration.py"),
    ("report/open_loop_error", "mean squared error of frames at the longest horizon", "(0..1)^2",
     "below that of repeating the last frame", "reporting/open_loop.py"),
)  # fmt: skip

_RUN = (
    ("speed/fps", "emulator frames per second of wall time, learning included", "frames/s",
     "steady", _LOOP),
    ("speed/agent_steps_per_s", "agent steps per second of wall time", "steps/s", "steady", _LOOP),
    ("speed/updates_per_s", "gradient steps per second of wall time", "updates/s", "steady",
     _LOOP),
    ("speed/env_time", "share of wall time spent acting", "0..1", "below 0.5 when learning", _LOOP),
    ("speed/learn_time", "share of wall time spent learning", "0..1", "above 0.5", _LOOP),
    ("run/agent_steps", "actions chosen so far, all environments together", "steps", "rises",
     _LOOP),
    ("run/frames", "emulator frames so far (agent steps times action repeat, at most)", "frames",
     "rises", _LOOP),
    ("run/updates", "gradient steps so far", "updates", "rises with agent steps", _LOOP),
    ("run/episodes", "training episodes finished so far", "episodes", "rises", _LOOP),
    ("run/replay_size", "records in replay", "records", "rises to its capacity", _LOOP),
    ("run/replay_ratio", "replayed steps per agent step so far", "1", "the train ratio asked for",
     _LOOP),
    ("run/memory_gib", "resident memory of the training process", "GiB",
     "steady once replay is full", _LOOP),
    ("run/gpu_memory_gib", "peak memory of the accelerator", "GiB", "steady", _LOOP),
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
    *_SEED_NAMES,
    *_TRAIN,
    *_IMAGINED,
    *_EPISODES,
    *_EVIDENCE,
    *_RUN,
)
