"""Sections of a report that a run's own files fill: learning, coverage, losses, videos."""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path

from mario_dreamer.reporting.charts import WINDOW, embed, histogram, learning, lines
from mario_dreamer.reporting.history import History
from mario_dreamer.reporting.page import Page
from mario_dreamer.tracking.metrics import METRICS

AXES = (("step", "agent steps"), ("hours", "hours at work"))
CURVES = (("return", "return"), ("x_max", "furthest x"), ("flag", "flag rate"))
LOSSES = (
    ("reconstruction loss", ("train/loss_recon",)),
    ("reward and continue loss", ("train/loss_reward", "train/loss_cont")),
    ("KL, nats", ("train/loss_dyn", "train/loss_rep", "train/kl")),
    ("entropy of the latent, nats", ("train/post_entropy", "train/prior_entropy")),
    ("critic loss", ("train/loss_critic", "train/loss_critic_replay")),
    ("imagined return and value", ("dream/return_mean", "dream/value_mean", "dream/return_scale")),
    ("entropy of the policy, nats", ("dream/entropy",)),
    ("standard deviation of advantages", ("dream/advantage_std",)),
    ("open-loop error", ("eval/open_loop_error",)),
    ("gradient norms", ("train/grad_norm_world_model", "train/grad_norm_critic")),
)
LARGEST_VIDEO = 4 * 2**20  # bytes; a page holds a few


def add_head(page: Page, history: History) -> None:
    """Show which run this is and how far it has come."""
    episodes, last = history.episodes, history.reports[-1] if history.reports else {}
    end = max(last.get("step", 0), episodes[-1]["step"] if episodes else 0)
    rows = [*history.reports[-1:], *episodes[-1:]]
    hours = max((row["hours"] for row in rows), default=0.0)
    frames = max((row["frames"] for row in rows), default=0)
    tiles = {
        "status": str(history.info.get("status", "unknown")).lower(),
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
    tags = dict(history.info.get("tags", {}))
    rows = {"seed": str(history.config.get("seed", "unknown"))}
    for name in ("started", "ended"):
        if history.info.get(name):
            moment = time.gmtime(float(history.info[name]))
            rows[name] = time.strftime("%Y-%m-%d %H:%M UTC", moment)
    return rows | {key: str(value) for key, value in sorted(tags.items())}


def _trend(returns: list[float]) -> str:
    """Compare the newest episodes with the first ones."""
    size = min(WINDOW, len(returns) // 2)
    if size < 3:
        return "Too few episodes yet to see a trend."
    first, last = sum(returns[:size]) / size, sum(returns[-size:]) / size
    healthy = "healthy: it rises" if last > first else "not healthy: it does not rise"
    return (
        f"The return went from {first:,.4g} (first {size}) to {last:,.4g} (last {size}); {healthy}."
    )


def add_learning(page: Page, history: History) -> None:
    """Draw return, furthest x and flag rate of the training episodes over steps and hours."""
    episodes = history.episodes
    if not episodes:
        page.section("Learning curves")
        page.info({"training episodes": "none has ended yet"})
        return
    page.section(
        "Learning curves",
        f"Training episodes (dots) and their mean over the last {WINDOW} (line; of the flag rate "
        f"with Wilson's 95 % interval). {_trend([e['return'] for e in episodes])}",
    )
    for over, x_label in AXES:
        for key, title in CURVES:
            rows = [e for e in episodes if key in e]
            if rows:
                figure = learning([e[over] for e in rows], [e[key] for e in rows], title, x_label)
                about = f"{title} of {len(rows):,} training episodes over {x_label}"
                page.figure(embed(figure, about), about)
    xs, ys = history.curve("eval/sampled/return")
    if len(xs) > 1:
        chart = lines([("", xs, ys)], "agent steps", "return of evaluation episodes")
        page.figure(embed(chart, "evaluation"), "mean return of each evaluation during training")


def in_replay(history: History) -> tuple[list[dict[str, float]], float]:
    """Return the training episodes whose records are still in replay, and the records there."""
    size = history.last("run/replay_size") or float("inf")
    end = history.episodes[-1]["step"] if history.episodes else 0
    return [e for e in history.episodes if e["step"] > end - size], size


def add_coverage(page: Page, history: History) -> None:
    """Draw how far training episodes got, and how often replay passes each place."""
    episodes, size = in_replay(history)
    reached = sorted(e["x_max"] for e in episodes if "x_max" in e)
    if not reached:
        return
    everyone = [e["x_max"] for e in history.episodes]
    place, count = Counter(int(x // 40) * 40 for x in everyone[-100:]).most_common(1)[0]
    share, flags = count / len(everyone[-100:]), sum(e.get("flag", 0) for e in episodes)
    stuck = share > 0.3 and not flags
    page.section(
        "How far episodes get",
        f"Furthest place of the training episodes, and how often replay passes each place. "
        f"{share:.0%} of the newest {len(everyone[-100:])} got furthest at x {place} to "
        f"{place + 40}; {'not healthy: it is stuck there' if stuck else 'healthy: not stuck'}.",
    )
    page.figure(
        embed(histogram(everyone, "furthest x"), "furthest x"),
        f"furthest x of all {len(everyone):,} training episodes",
    )
    passed = [float(len(reached) - i) for i in range(len(reached))]
    chart = lines(
        [("", [0.0, *reached], [float(len(reached)), *passed])],
        "x", "episodes in replay that passed x", is_count=True,
    )  # fmt: skip
    page.figure(
        embed(chart, "replay coverage"),
        f"the newest {size:,.0f} records hold {len(reached):,} whole training episodes",
    )


def add_losses(page: Page, history: History) -> None:
    """Draw the losses and the other signs of health."""
    broken = sorted(
        {name for row in history.reports for name, v in row.items() if not math.isfinite(v)}
    )
    verdict = f"not healthy: not finite in {', '.join(broken)}" if broken else "all are finite"
    page.section(
        "Losses", f"What training logged; below each chart stands what is healthy. Here {verdict}."
    )
    for title, names in LOSSES:
        curves = [(name.split("/")[1], *history.curve(name)) for name in names]
        curves = [curve for curve in curves if len(curve[1]) > 1]
        if not curves:
            continue
        healthy = "; ".join(
            f"{name.split('/')[1]}: {METRICS[name].healthy}" for name in names if name in METRICS
        )
        page.figure(embed(lines(curves, "agent steps", title, skip=0.1), title), healthy)


def add_videos(page: Page, folder: Path) -> None:
    """Show the newest video of each kind that the run has logged."""
    page.section("Videos", "The newest of each kind; healthy is what looks like the game.")
    captions = {
        "eval/episode": "evaluation episode", "play/episode": "training episodes, as observed",
        "dream/open_loop": "observed above predicted above error; red border: open loop",
    }  # fmt: skip
    for name, caption in captions.items():
        videos = sorted((folder / "videos" / name).glob("step_*.mp4"))
        if videos and videos[-1].stat().st_size <= LARGEST_VIDEO:
            step = int(videos[-1].stem.removeprefix("step_"))
            page.video(videos[-1], f"{caption}, at agent step {step:,}")
