"""Sections of a report that playing fills: ends, calibration, open-loop error, latents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from mario_dreamer.envs.mario.recordings import played_stage
from mario_dreamer.reporting.calibration import Pairs, reward_pairs, value_pairs
from mario_dreamer.reporting.charts import embed, heat_map, lines, scatter
from mario_dreamer.reporting.deaths import death_chart, outcome
from mario_dreamer.reporting.episodes import (
    Networks,
    Watched,
    effective_classes,
    live_classes,
    usage,
)
from mario_dreamer.reporting.level_map import map_of_buttons
from mario_dreamer.reporting.open_loop import Foresight, foresee
from mario_dreamer.reporting.page import Page
from mario_dreamer.tracking.open_loop_images import image_strip
from mario_dreamer.training.evaluation import Episode, summarise


def rate_text(summary: dict[str, float]) -> str:
    """Write a flag rate with its interval, in percent; "-" where the env has no flag."""
    if "flag_rate" not in summary:
        return "-"
    low, high = 100 * summary["flag_low"], 100 * summary["flag_high"]
    return f"{100 * summary['flag_rate']:.0f} % [{low:.0f}, {high:.0f}]"


def add_summaries(
    page: Page, summaries: Iterable[tuple[str, dict[str, float]]], what: str = "condition"
) -> None:
    """Show summaries of episodes as a table, a row each; "-" where there is no number."""
    columns = ("return", "length", "x_max", "x_max_best")
    rows = []
    for name, found in summaries:
        numbers = [f"{found[column]:.1f}" if column in found else "-" for column in columns]
        rows.append([name, f"{found.get('episodes', 0):.0f}", rate_text(found), *numbers])
    head = [what, "episodes", "flag rate", "return", "agent steps", "mean x", "best x"]
    page.table(head, rows)


def by_stage(episodes: Sequence[Episode], stages: Sequence[str]) -> dict[str, list[Episode]]:
    """Sort episodes by the stage they were played in; without stages, none."""
    found: dict[str, list[Episode]] = {}
    option = stages[0] if len(stages) == 1 else stages
    for episode in episodes if stages else ():
        found.setdefault(played_stage(option, episode.stats), []).append(episode)
    return dict(sorted(found.items()))


def _stitch(episodes: Sequence[Episode], stage: str) -> np.ndarray | None:
    """Stitch the map that the furthest of these episodes passed; none without button logs."""
    logged = [episode for episode in episodes if episode.buttons]
    if not logged:
        return None
    furthest = max(logged, key=lambda episode: episode.stats.get("x_max", 0.0))
    return map_of_buttons(stage, furthest.buttons)


def add_ends(
    page: Page, episodes: Sequence[Episode], stages: Sequence[str], trained: Sequence[float] = ()
) -> dict[str, tuple[Figure, np.ndarray | None]]:
    """Draw where episodes ended over the map of each level.

    Args:
        episodes: with x_pos; envs without places get no picture.
        trained: furthest x of the training episodes of a single stage, for the bars.

    Returns:
        for each stage the chart, and the map in it; None without button logs.
    """
    drawn: dict[str, tuple[Figure, np.ndarray | None]] = {}
    for stage, mine in by_stage(episodes, stages).items():
        info = [episode.stats for episode in mine if "x_pos" in episode.stats]
        if not info:
            continue
        places = list(trained) if trained and len(stages) == 1 else None
        bars = "where these episodes ended" if places is None else "furthest x in training"
        picture = _stitch(mine, stage)
        chart = death_chart(info, picture, places)
        drawn[stage] = chart, picture
        page.figure(
            embed(chart, f"where episodes ended in {stage}", "png"),
            f"stage {stage}: marks show where Mario was when these {len(info)} episodes ended; "
            f"bars: {bars}. The map is made of the screens of the furthest episode; grey was not "
            "reached.",
            is_wide=True,
        )
    return drawn


def _add_tables(page: Page, episodes: Sequence[Episode], stages: Sequence[str]) -> None:
    grouped = by_stage(episodes, stages)
    if len(grouped) > 1:
        stage_rows = ((stage, summarise(mine)) for stage, mine in grouped.items())
        add_summaries(page, stage_rows, "stage")
    has_x = "x_max" in episodes[0].stats
    head = ["episode", "return", "agent steps", "ended"]
    rows = []
    for number, episode in enumerate(episodes, 1):
        info = episode.stats
        row = [str(number), f"{info['return']:.1f}", f"{info['length']:.0f}", outcome(info)]
        rows.append(row + ([f"{info['x_max']:.0f}", f"{info['time']:.0f}"] if has_x else []))
    page.table([*head, *(["furthest x", "clock"] if has_x else [])], rows)


def _numbers(pairs: Pairs) -> str:
    corr = "-" if math.isnan(pairs.correlation) else f"{pairs.correlation:.2f}"
    return (
        f"{len(pairs.real):,} steps; correlation {corr}, predicted minus real {pairs.bias:+.3g} "
        f"on average, root mean squared error {pairs.error:.3g}"
    )


def _add_calibration(page: Page, watched: Sequence[Watched], gamma: float) -> float:
    """Return by how much the value is off on average."""
    rewards, values = reward_pairs(watched), value_pairs(watched, gamma)
    good = rewards.correlation > 0.8
    page.section(
        "Calibration",
        "Predicted reward and value against what followed; points on the dashed line are right. "
        f"{'Healthy' if good else 'Not healthy'}: the reward head's correlation is "
        f"{rewards.correlation:.2f} (above 0.8 is good); the value is off by {values.bias:+.3g}.",
    )
    page.figure(
        embed(scatter(rewards.predicted, rewards.real, "reward"), "predicted and real reward"),
        f"reward head at each frame, posterior. {_numbers(rewards)}.",
    )
    cut = ""
    if values.cut:
        cut = f" {values.cut} of {len(watched)} episodes were cut off: bootstrapped by the critic."
    page.figure(
        embed(scatter(values.predicted, values.real, "discounted return"), "value and return"),
        f"critic against the discounted return that followed, discount {gamma:.4f}. "
        f"{_numbers(values)}.{cut}",
    )
    return values.bias


def _add_foresight(page: Page, seen: Foresight) -> None:
    ks = [float(k) for k in range(1, len(seen.dreamed) + 1)]
    curves = [
        ("open loop", ks, seen.dreamed.tolist()),
        ("last frame repeated", ks, seen.repeated.tolist()),
        ("posterior", ks, seen.redrawn.tolist()),
    ]
    ahead = sum(a < b for a, b in zip(curves[0][2], curves[1][2], strict=True))
    page.section(
        "Open-loop prediction",
        "Error of frames predicted k steps ahead without looking. "
        f"{'Healthy' if ahead > len(ks) / 2 else 'Not healthy'}: better than repeating the last "
        f"frame at {ahead} of {len(ks)} horizons.",
    )
    chart = lines(curves, "agent steps without a frame", "mean squared error", size=(5.6, 3.0))
    page.figure(
        embed(chart, "open-loop error"),
        f"frames in [0, 1]; {int(seen.windows[0])} windows, {int(seen.windows[-1])} of which reach "
        "the last step. Nothing can be better than the posterior, which sees the frame.",
    )
    every = max(1, len(seen.truth) // 12)
    strip = image_strip(seen.truth, seen.dream, 1, every=every)
    page.figure(
        embed(strip.permute(1, 2, 0).contiguous().numpy(), "observed, predicted and error"),
        "one window: observed above predicted above error, time runs to the right; green border: "
        "posterior, red: open loop along the real actions",
        is_wide=True,
    )


def _add_latents(page: Page, watched: Sequence[Watched], rssm: nn.Module) -> int:
    """Return the number of live classes."""
    shares = usage(watched, rssm)
    live, effective = live_classes(shares), effective_classes(shares)
    dead = int((effective < 1.1).sum())
    page.section(
        "Latent usage",
        f"Share of time that each class of each categorical is taken. "
        f"{'Not healthy' if dead > len(shares) / 2 else 'Healthy'}: {dead} of {len(shares)} "
        "categoricals never change.",
    )
    page.figure(
        embed(heat_map(shares.numpy(), "class", "categorical"), "latent usage"),
        f"averaged over {sum(len(w.records) for w in watched):,} frames: {live} of "
        f"{shares.numel()} classes live (more than 1 % of the time). A categorical uses "
        f"{float(effective.mean()):.1f} of {shares.shape[1]} classes on average (exp of its "
        f"entropy), the least {float(effective.min()):.1f}.",
    )
    return live


def add_agent(
    page: Page, watched: Sequence[Watched], agent: Networks, stages: Sequence[str] = (),
    trained: Sequence[float] = (), horizon: int = 45, *, gamma: float,
) -> dict[str, float]:  # fmt: skip
    """Draw what the played episodes show about the agent.

    Args:
        agent: its networks; nothing of it changes.
        gamma: the discount that its values were learned with.

    Returns:
        the summary of the episodes, and `live_classes`, `value_bias`, `open_loop_error`.
    """
    episodes = [seen.episode for seen in watched]
    summary = summarise(episodes)
    page.section(
        "The newest checkpoint plays",
        f"{len(episodes)} episodes with sampled actions: return {summary['return']:,.4g} on "
        f"average, flag rate {rate_text(summary)} with its 95 % interval; healthy is at least the "
        "mean of the last training episodes. mario-dreamer evaluate plays more.",
    )
    add_ends(page, episodes, stages, trained)
    _add_tables(page, episodes, stages)
    summary["value_bias"] = _add_calibration(page, watched, gamma)
    found = foresee(watched, agent, horizon)
    if found is not None:
        _add_foresight(page, found)
        summary["open_loop_error"] = float(found.dreamed[-1])
    summary["live_classes"] = _add_latents(page, watched, agent.world_model.rssm)
    return summary
