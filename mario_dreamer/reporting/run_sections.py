"""What a run's own files tell: learning curves, furthest places, coverage, losses."""

from __future__ import annotations

import time

from mario_dreamer.reporting.charts import Line, histogram, lines, running_mean
from mario_dreamer.reporting.history import History
from mario_dreamer.reporting.page import Page
from mario_dreamer.tracking.metrics import METRICS
from mario_dreamer.training.evaluation import wilson_interval

__all__ = ["add_coverage", "add_head", "add_learning", "add_losses"]

WINDOW = 20  # episodes in a running mean
_AXES = (("step", "agent steps"), ("hours", "hours at work"))
_LOSSES = (
    ("world model", ("train/loss_recon",)),
    ("reward, continue", ("train/loss_reward", "train/loss_cont")),
    ("KL", ("train/loss_dyn", "train/loss_rep", "train/kl")),
    ("entropy of the latent", ("train/post_entropy", "train/prior_entropy")),
    ("critic", ("train/loss_critic", "train/loss_critic_replay")),
    ("dreamed return, value", ("dream/return_mean", "dream/value_mean", "dream/return_scale")),
    ("entropy of the policy", ("dream/entropy",)),
    ("spread of advantages", ("dream/advantage_std",)),
    ("open-loop error", ("eval/open_loop_error",)),
    ("gradient norms", ("train/grad_norm_world_model", "train/grad_norm_critic")),
)


def add_head(page: Page, history: History) -> None:
    """Say which run this is and how far it has come."""
    episodes, last = history.episodes, history.reports[-1] if history.reports else {}
    end = max(last.get("step", 0), episodes[-1]["step"] if episodes else 0)
    rows = [*history.reports[-1:], *episodes[-1:]]
    hours = max((row["hours"] for row in rows), default=0.0)
    frames = max((row["frames"] for row in rows), default=0)
    tiles = {
        "status": str(history.facts.get("status", "unknown")).lower(),
        "agent steps": f"{end:,.0f}", "frames": f"{frames:,.0f}", "hours at work": f"{hours:.2f}",
        "updates": f"{history.last('run/updates') or 0:,.0f}",
        "training episodes": f"{len(episodes):,}",
    }  # fmt: skip
    flags = [e["flag"] for e in episodes if "flag" in e]
    if flags:
        tiles["flags in training"] = f"{sum(flags):.0f}"
        tiles["furthest x"] = f"{max(e['x_max'] for e in episodes):,.0f}"
    page.tiles(tiles)


def provenance_of(history: History) -> dict[str, str]:
    """Return what a number is published with: commit, machine, versions, command, seed, dates."""
    tags = dict(history.facts.get("tags", {}))
    facts = {"seed": str(history.config.get("seed", "unknown"))}
    for name in ("started", "ended"):
        if history.facts.get(name):
            moment = time.gmtime(float(history.facts[name]))
            facts[name] = time.strftime("%Y-%m-%d %H:%M UTC", moment)
    return facts | {key: str(value) for key, value in sorted(tags.items())}


def flag_band(flags: list[float]) -> tuple[list[float], list[float]]:
    """Wilson's 95 % interval of the flag rate over the last WINDOW episodes, at each episode."""
    ends = []
    for i in range(len(flags)):
        recent = flags[max(0, i + 1 - WINDOW) : i + 1]
        ends.append(wilson_interval(round(sum(recent)), len(recent)))
    return [low for low, _ in ends], [high for _, high in ends]


def add_learning(page: Page, history: History) -> None:
    """Draw return, furthest x and flag rate of the training episodes over steps and hours."""
    page.section(
        "Learning curves",
        f"Training episodes: dots are single episodes, lines are means over the last {WINDOW}. "
        "Steps are agent steps of all worlds together; hours count only the time at work.",
    )
    episodes = history.episodes
    if not episodes:
        page.section("", "No training episode has ended yet.")
        return
    for over, x_label in _AXES:
        for key, title in (("return", "return"), ("x_max", "furthest x"), ("flag", "flag rate")):
            rows = [e for e in episodes if key in e]
            if not rows:
                continue
            xs, ys = [e[over] for e in rows], [e[key] for e in rows]
            means: list[Line] = [(f"mean of {WINDOW}", xs, running_mean(ys, WINDOW))]
            if key == "flag":
                picture = lines(means, x_label, title, band=(xs, *flag_band(ys)), y=(0.0, 1.0))
                note = f"share of the last {WINDOW} episodes; shaded: Wilson's 95 % interval"
            else:
                picture = lines(means, x_label, title, points=[(xs, ys)])
                note = f"{title} of {len(rows)} training episodes"
            page.figure(picture, note)
    xs, ys = history.curve("eval/sampled/return")
    if xs:
        page.figure(
            lines([("", xs, ys)], "agent steps", "return of evaluation episodes"),
            "mean over the evaluation episodes played now and then during training",
        )


def in_replay(history: History) -> tuple[list[dict[str, float]], float]:
    """Return the training episodes whose records are still in replay, and the records there."""
    size = history.last("run/replay_size") or float("inf")
    end = history.episodes[-1]["step"] if history.episodes else 0
    return [e for e in history.episodes if e["step"] > end - size], size


def add_coverage(page: Page, history: History) -> None:
    """Draw how far training episodes got, and how often each place was passed."""
    episodes, size = in_replay(history)
    reached = sorted(e["x_max"] for e in episodes if "x_max" in e)
    if not reached:
        return
    page.section("How far it gets, and what replay holds of it")
    everyone = [e["x_max"] for e in history.episodes]
    page.figure(
        histogram(everyone, "furthest x", "training episodes", mark=max(everyone)),
        f"furthest place of all {len(everyone)} training episodes; dashed: the best, "
        f"{max(everyone):.0f}",
    )
    xs = [0.0, *reached]
    passed = [float(len(reached)), *(float(len(reached) - i) for i in range(len(reached)))]
    page.figure(
        lines([("", xs, passed)], "x", "episodes in replay that got there", y=(0.0, 1.0)),
        f"replay coverage: the newest {size:,.0f} records hold {len(reached)} whole training "
        "episodes; the line counts those that got to x or further. Taken from the log of "
        "episodes: records keep no x.",
    )


def add_losses(page: Page, history: History) -> None:
    """Draw the losses and what else tells a healthy run."""
    page.section("Losses and health", "As logged; what is healthy stands below each picture.")
    for title, names in _LOSSES:
        curves = [(name.split("/")[1], *history.curve(name)) for name in names]
        curves = [curve for curve in curves if curve[1]]
        if curves:
            told = "; ".join(
                f"{name.split('/')[1]}: {METRICS[name].healthy}"
                for name in names
                if name in METRICS
            )
            page.figure(lines(curves, "agent steps", title, calm=True), told)
