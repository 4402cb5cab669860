"""What the newest checkpoint shows when it plays: ends, calibration, foresight, latents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mario_dreamer.reporting.calibration import Pairs, reward_pairs, value_pairs
from mario_dreamer.reporting.charts import heat_map, lines, scatter
from mario_dreamer.reporting.deaths import death_chart, outcome
from mario_dreamer.reporting.episodes import Watched
from mario_dreamer.reporting.latents import effective_classes, live_classes, usage
from mario_dreamer.reporting.level_map import map_of_tape, png_url
from mario_dreamer.reporting.open_loop import Foresight, foresee
from mario_dreamer.reporting.page import Page
from mario_dreamer.tracking.open_loop_images import image_strip
from mario_dreamer.training.evaluation import Episode, summarise
from mario_dreamer.training.learner import Learner

__all__ = ["add_agent", "add_ends", "rate_text", "stitch"]


def rate_text(summary: dict[str, float]) -> str:
    """Write a flag rate with its interval, in percent; "-" where the world has no flag."""
    if "flag_rate" not in summary:
        return "-"
    low, high = 100 * summary["flag_low"], 100 * summary["flag_high"]
    return f"{100 * summary['flag_rate']:.0f} % [{low:.0f}, {high:.0f}]"


def stitch(
    episodes: Sequence[Episode], stage: str | None
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Stitch the map that the furthest of these episodes passed; none without tapes."""
    taped = [episode for episode in episodes if episode.tape]
    if not taped or stage is None:
        return None, None
    furthest = max(taped, key=lambda episode: episode.facts.get("x_max", 0.0))
    return map_of_tape(stage, furthest.tape)


def add_ends(
    page: Page, episodes: Sequence[Episode], stage: str | None, trained: Sequence[float] = ()
) -> None:
    """Draw where episodes ended over the map of the level, and list them.

    Args:
        page: gets the figure.
        episodes: with x_pos; worlds without places get no picture.
        stage: "w-s".
        trained: furthest x of the training episodes, for the bars; none: bars count these ends.
    """
    facts = [episode.facts for episode in episodes if "x_pos" in episode.facts]
    if not facts:
        return
    picture, seen = stitch(episodes, stage)
    bars = "furthest x of the training episodes" if trained else "where these episodes ended"
    page.figure(
        death_chart(facts, picture, seen, list(trained) or None, int(max(trained, default=0))),
        f"stage {stage}: crosses show where Mario was when these {len(facts)} episodes ended; "
        f"bars: {bars}, 40 pixels each. The map is stitched from the screens of the furthest of "
        "these episodes; grey was not reached.",
        wide=True,
    )


def _episode_rows(watched: Sequence[Watched]) -> tuple[list[str], list[list[str]]]:
    has_x = "x_max" in watched[0].episode.facts
    head = ["episode", "return", "length", "ended", *(["furthest x", "clock"] if has_x else [])]
    rows = []
    for number, seen in enumerate(watched):
        facts = seen.episode.facts
        row = [str(number), f"{facts['return']:.1f}", f"{facts['length']:.0f}", outcome(facts)]
        rows.append(row + ([f"{facts['x_max']:.0f}", f"{facts['time']:.0f}"] if has_x else []))
    return head, rows


def _told(pairs: Pairs) -> str:
    corr = "-" if math.isnan(pairs.correlation) else f"{pairs.correlation:.2f}"
    return (
        f"{len(pairs.real):,} steps; correlation {corr}, predicted minus real {pairs.bias:+.3g} "
        f"on average, root mean squared error {pairs.error:.3g}"
    )


def _add_calibration(page: Page, watched: Sequence[Watched], gamma: float) -> None:
    page.section(
        "Calibration: what it expects against what comes",
        "Points on the dashed line are right. Strong dots are means of equally many steps.",
    )
    rewards, values = reward_pairs(watched), value_pairs(watched, gamma)
    if not rewards.real:
        return
    page.figure(
        scatter(rewards.predicted, rewards.real, "reward"),
        f"reward head at each frame, eyes open. {_told(rewards)}.",
    )
    cut = ""
    if values.cut:
        cut = (
            f" {values.cut} of {len(watched)} episodes were cut off; there the critic's own last "
            "value stands for the rest."
        )
    page.figure(
        scatter(values.predicted, values.real, "discounted return"),
        f"critic's mean at each state against the return that followed, discount {gamma:.4f}. "
        f"{_told(values)}.{cut}",
    )


def _add_foresight(page: Page, seen: Foresight) -> None:
    page.section("Foresight: how far ahead the dream stays true")
    ks = [float(k) for k in range(1, len(seen.dreamed) + 1)]
    curves = [
        ("dreamed", ks, seen.dreamed.tolist()),
        ("last frame again", ks, seen.repeated.tolist()),
        ("eyes open", ks, seen.redrawn.tolist()),
    ]
    ahead = [k for k, a, b in zip(ks, curves[0][2], curves[1][2], strict=True) if a < b]
    page.figure(
        lines(curves, "agent steps with the eyes shut", "error", y=(0.0, 0.0)),
        f"mean squared error of frames in [0, 1]; {int(seen.windows[0])} moments, "
        f"{int(seen.windows[-1])} of which reach the last step. The dream beats repeating the "
        f"last frame at {len(ahead)} of {len(ks)} horizons.",
    )
    every = max(1, len(seen.truth) // 12)
    strip = image_strip(seen.truth, seen.dream, 1, every=every)
    page.figure(
        f'<img alt="truth, dream and error side by side" src="'
        f'{png_url(strip.permute(1, 2, 0).numpy())}">',
        "one moment: truth above dream above error, time runs to the right; green: seen, red: "
        "dreamed along the real actions",
        wide=True,
    )


def _add_latents(page: Page, watched: Sequence[Watched], unimix: float) -> None:
    shares = usage(watched, unimix)
    live, classes = live_classes(shares), shares.numel()
    effective = effective_classes(shares)
    page.section("Latent usage")
    page.figure(
        heat_map(shares.tolist(), "class", "categorical"),
        f"share of time each class is taken, averaged over {sum(len(w.records) for w in watched):,}"
        f" frames: {live} of {classes} classes live (more than 1 % of the time). A categorical "
        f"uses {float(effective.mean()):.1f} of {shares.shape[1]} classes on average (exp of its "
        f"entropy), the least {float(effective.min()):.1f}.",
    )


def add_agent(
    page: Page, watched: Sequence[Watched], learner: Learner, stage: str | None,
    trained: Sequence[float] = (), horizon: int = 45,
) -> dict[str, float]:  # fmt: skip
    """Draw all that the played episodes say about the agent.

    Args:
        page: gets the sections.
        watched: played episodes, at least one.
        learner: the agent's.
        stage: "w-s" of Mario's worlds, else None.
        trained: furthest x of the training episodes.
        horizon: of the open-loop error.

    Returns:
        the summary of the episodes, and `live_classes`, `value_bias`, `open_loop_error`.
    """
    episodes = [seen.episode for seen in watched]
    summary = summarise(episodes)
    page.section(
        "The newest checkpoint plays",
        f"{len(episodes)} episodes with sampled actions from the plain start; flag rate "
        f"{rate_text(summary)} with its 95 % interval. The command mario-dreamer evaluate plays more.",
    )
    add_ends(page, episodes, stage, trained)
    page.table(*_episode_rows(watched))
    gamma = learner.returns.discount.gamma
    _add_calibration(page, watched, gamma)
    found = foresee(watched, learner, horizon)
    if found is not None:
        _add_foresight(page, found)
        summary["open_loop_error"] = float(found.dreamed[-1])
    rssm = learner.world_model.rssm
    _add_latents(page, watched, rssm.unimix)
    summary["live_classes"] = live_classes(usage(watched, rssm.unimix))
    summary["value_bias"] = value_pairs(watched, gamma).bias
    return summary
