"""Files of an evaluation: results, episodes, action lists, and a page with the charts."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.image
from matplotlib.figure import Figure

from mario_dreamer.envs.mario.emulator import stages_of
from mario_dreamer.envs.mario.recordings import pack_buttons
from mario_dreamer.keys import STATS
from mario_dreamer.reporting.agent_sections import add_ends, add_summaries, by_stage, rate_text
from mario_dreamer.reporting.charts import embed, histogram
from mario_dreamer.reporting.deaths import outcome
from mario_dreamer.reporting.page import Page, without_paths
from mario_dreamer.training.checkpoint_files import run_of
from mario_dreamer.training.evaluation import Episode, summarise

# Files of one condition or one stage, of which another evaluation may have others.
LEFT_OVER = (
    "sampled*-flag-*.json", "sampled*-best-*.json", "greedy*-flag-*.json", "greedy*-best-*.json",
    "*-sampled*.svg", "*-greedy*.svg", "deaths-sampled*.png", "deaths-greedy*.png", "level_map*.png",
)  # fmt: skip
TRACKED = ("return", "length", "x_max", "x_max_best", "flag_rate", "flag_low", "flag_high")


@dataclass
class Condition:
    """How the agent plays and how its env is disturbed.

    Args:
        name: such as "greedy-noops-sticky".
        greedy: the most likely actions instead of samples.
        random_noops: opening frames without a button, 0 to this many.
        sticky: probability that the buttons of before are held; per frame or step, see `env.sticky_unit`.
    """

    name: str
    greedy: bool = False
    random_noops: int = 0
    sticky: float = 0.0

    @property
    def is_random(self) -> bool:
        """Whether the env itself draws random numbers."""
        return bool(self.random_noops or self.sticky)


def clear(out: Path) -> None:
    """Remove the action lists and charts of an earlier evaluation in the same folder."""
    for path in (path for pattern in LEFT_OVER for path in out.glob(pattern)):
        path.unlink(missing_ok=True)


@dataclass
class Evaluation:
    """Gather the episodes of all conditions; write them down.

    Args:
        checkpoint: that plays; None for an untrained agent.
        provenance: commit, machine, versions, seed.
        save_episodes: action lists of at least so many of each condition; of all that reached
            the flag.
        agent_steps: agent steps the checkpoint was trained for.
        results: what `add` took in: condition, summary, episodes.
    """

    out: Path
    checkpoint: Path | None
    env: dict[str, Any]
    provenance: dict[str, str]
    save_episodes: int = 3
    agent_steps: int = 0
    results: list[tuple[Condition, dict[str, float], list[Episode]]] = field(default_factory=list)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages played; none where the env has none."""
        return stages_of(self.env["stage"]) if "stage" in self.env else ()

    @property
    def stage(self) -> str | None:
        """Names of the stages played; None where the env has none."""
        return ", ".join(self.stages) or None

    @property
    def name(self) -> str:
        """Of the run that is evaluated; of the checkpoint where it lies alone."""
        if self.checkpoint is None:
            return "untrained"
        run = run_of(self.checkpoint)
        return self.checkpoint.name if run is None else run.resolve().name

    @property
    def has_random_starts(self) -> bool:
        """Whether episodes began differently, so that their actions alone do not lead there again.

        Of Mario the options say so, and the button log leads there.
        """
        starts = [{episode.start for episode in episodes} for _, _, episodes in self.results]
        return not self.stages and any(len(found) > 1 for found in starts)

    def add(self, condition: Condition, episodes: list[Episode]) -> dict[str, float]:
        """Take in the episodes of one condition, keep them on disk; return their summary."""
        summary = summarise(episodes)
        self.results.append((condition, summary, episodes))
        # Now and not only at the end: what was played is not lost when the rest is interrupted.
        self.out.mkdir(parents=True, exist_ok=True)
        self._save_episodes(condition, episodes)
        self._json()
        self._csv()
        return summary

    def metrics(self) -> dict[str, float]:
        """Return the numbers to track: `evaluate/<condition>/<statistic>`.

        Where several stages were played also `evaluate/<condition>/<stage>/<statistic>`.
        """
        return {
            f"evaluate/{'/'.join(place)}/{name}": summary[name]
            for place, summary, _ in self._summaries() for name in summary
            if name in TRACKED or (len(place) == 1 and name.startswith(f"{STATS}/"))
        }  # fmt: skip

    def _summaries(self) -> list[tuple[tuple[str, ...], dict[str, float], list[Episode]]]:
        """(condition,) with its summary and episodes, then (condition, stage) of several stages."""
        found = [((condition.name,), told, played) for condition, told, played in self.results]
        if len(self.stages) > 1:
            found += [
                ((condition.name, stage), summarise(mine), mine)
                for condition, _, episodes in self.results
                for stage, mine in by_stage(episodes, self.stages).items()
            ]
        return found

    def tags(self) -> dict[str, str]:
        """Return success rates as text, one per condition, and the stage."""
        tags = {
            f"evaluated.{condition.name}": f"{rate_text(summary)} of {len(episodes)} episodes"
            for condition, summary, episodes in self.results
        }
        return tags | ({"evaluated.stage": self.stage} if self.stages else {})

    def write(self) -> list[Path]:
        """Write all files; return those worth naming."""
        return [self._json(), self._csv(), self._page()]

    def _json(self) -> Path:
        stages: dict[str, dict[str, dict[str, float]]] = {}
        for (name, *stage), summary, _ in self._summaries():
            stages.setdefault(name, {}).update({place: summary for place in stage})
        results = [
            {
                **asdict(condition), "actions": "greedy" if condition.greedy else "sampled",
                "summary": summary, "stages": stages.get(condition.name, {}),
                "episodes": [episode.stats for episode in episodes],
            }
            for condition, summary, episodes in self.results
        ]  # fmt: skip
        report = {
            "checkpoint": str(self.checkpoint), "run": self.name, "agent_steps": self.agent_steps,
            "stage": self.stage, "env": self.env, "provenance": self.provenance,
            "results": results,
        }  # fmt: skip
        path = self.out / "results.json"
        path.write_text(json.dumps(report, indent=1), "utf-8")
        return path

    def _csv(self) -> Path:
        path = self.out / "episodes.csv"
        rows = [
            {"condition": condition.name, "episode": number, "ended": outcome(episode.stats)}
            | episode.stats
            for condition, _, episodes in self.results
            for number, episode in enumerate(episodes)
        ]
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["condition"])
            writer.writeheader()
            writer.writerows(rows)
        return path

    def _save_episodes(self, condition: Condition, episodes: list[Episode]) -> None:
        """Write episodes so that anyone can play them again: flags first, then the best."""
        ranked = sorted(
            episodes, key=lambda e: (e.stats.get("flag", 0), e.stats["return"]), reverse=True
        )
        flags = sum(bool(episode.stats.get("flag")) for episode in episodes)
        env = self.env | {"random_noops": condition.random_noops, "sticky": condition.sticky}
        for number, episode in enumerate(ranked[: max(flags, self.save_episodes)]):
            saved = {
                "env": env if self.stages else self.env, "actions": episode.actions,
                "stats": episode.stats,
            }  # fmt: skip
            if condition.is_random:  # the actions alone would not lead there again
                saved["buttons"] = pack_buttons(episode.buttons)
            if self.has_random_starts:
                saved["random_start"] = True
            name = "flag" if episode.stats.get("flag") else "best"
            path = self.out / f"{condition.name}-{name}-{number}.json"
            path.write_text(json.dumps(saved), "utf-8")

    def _page(self) -> Path:
        page = Page(
            f"Evaluation of {self.name} at agent step {self.agent_steps:,}",
            f"{f'Stage {self.stage}' if self.stages else 'An env without stages'}; "
            "intervals are Wilson's, 95 %.",
        )
        add_summaries(page, ((", ".join(place), found) for place, found, _ in self._summaries()))
        for condition, _, episodes in self.results:
            if episodes:
                self._add_charts(page, condition, episodes)
        page.section("Provenance")
        page.info({**self.provenance, "checkpoint": without_paths(str(self.checkpoint))})
        return page.write(self.out / "evaluation.html")

    def _add_charts(self, page: Page, condition: Condition, episodes: list[Episode]) -> None:
        """Draw where the episodes of a condition ended, and how they are distributed."""
        ends = [episode.stats for episode in episodes]
        page.section(
            f"Condition {condition.name}",
            f"Where its {len(ends)} episodes ended, and how far they came; the fewer pile up at "
            "one place, the better.",
        )
        for stage, (chart, picture) in add_ends(page, episodes, self.stages).items():
            which = "" if len(self.stages) == 1 else f"-{stage}"
            self._save(chart, f"deaths-{condition.name}{which}.png")
            if picture is not None:
                matplotlib.image.imsave(self.out / f"level_map{which}.png", picture[..., :3])
        for column, title in (("x_max", "furthest x"), ("return", "return"), ("length", "steps")):
            if column in ends[0]:
                chart = histogram([float(end[column]) for end in ends], title)
                self._save(chart, f"{column}-{condition.name}.svg")
                about = f"{title} of {len(ends)} episodes"
                page.figure(embed(chart, about), about)

    def _save(self, chart: Figure, name: str) -> None:
        """Keep a chart of the page as a file of its own, on white."""
        chart.savefig(self.out / name, dpi=120, facecolor="white")
