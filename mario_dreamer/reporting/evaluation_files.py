"""The files of an evaluation: results, episodes, action lists, and a page with the pictures."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mario_dreamer.envs.mario.recordings import pack_tape
from mario_dreamer.reporting.agent_sections import rate_text, stitch
from mario_dreamer.reporting.charts import histogram
from mario_dreamer.reporting.deaths import death_chart, outcome
from mario_dreamer.reporting.level_map import png_url
from mario_dreamer.reporting.page import Page
from mario_dreamer.reporting.plot import standalone
from mario_dreamer.training.evaluation import Episode, summarise

__all__ = ["Condition", "Evaluation"]

_TOLD = ("return", "length", "x_max", "x_max_best", "flag_rate", "flag_low", "flag_high")


@dataclass
class Condition:
    """How the agent plays and how its world is disturbed.

    Args:
        name: such as "greedy-noops-sticky".
        greedy: the likeliest actions instead of samples.
        random_noops: opening frames without a button, 0 to this many.
        sticky: probability that a step repeats the previous action.
    """

    name: str
    greedy: bool = False
    random_noops: int = 0
    sticky: float = 0.0

    @property
    def by_chance(self) -> bool:
        """Whether the world itself draws random numbers."""
        return bool(self.random_noops or self.sticky)


class Evaluation:
    """Gather the episodes of all conditions; write them down.

    Args:
        out: folder of the files.
        checkpoint: that plays; None for an untrained agent.
        env: the world's configuration.
        provenance: commit, machine, versions, seed.
        save_episodes: action lists of at least so many of each condition; of all that reached
            the flag.
    """

    def __init__(
        self,
        out: Path,
        checkpoint: Path | None,
        env: dict[str, Any],
        provenance: dict[str, str],
        save_episodes: int = 3,
    ) -> None:
        self.out, self.checkpoint, self.env = out, checkpoint, env
        self.provenance, self.save_episodes = provenance, save_episodes
        self.stage: str | None = env.get("stage") if "random_noops" in env else None
        self.results: list[tuple[Condition, dict[str, float], list[Episode]]] = []

    @property
    def agent_steps(self) -> int:
        """Agent steps the checkpoint was trained for."""
        if self.checkpoint is None:
            return 0
        return int(json.loads((self.checkpoint / "manifest.json").read_text())["step"])

    @property
    def name(self) -> str:
        """Of the run that is evaluated; of the checkpoint where it lies alone."""
        if self.checkpoint is None:
            return "untrained"
        in_run = self.checkpoint.parent.name == "checkpoints"
        return self.checkpoint.resolve().parents[1].name if in_run else self.checkpoint.name

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
        """Return the numbers to track, `evaluate/<condition>/<fact>`."""
        return {
            f"evaluate/{condition.name}/{fact}": summary[fact]
            for condition, summary, _ in self.results for fact in _TOLD if fact in summary
        }  # fmt: skip

    def tags(self) -> dict[str, str]:
        """Return success rates as text, one per condition, and the stage."""
        tags = {
            f"evaluated.{condition.name}": f"{rate_text(summary)} of {len(episodes)} episodes"
            for condition, summary, episodes in self.results
        }
        return tags | ({"evaluated.stage": self.stage} if self.stage else {})

    def write(self) -> list[Path]:
        """Write all files; return those worth naming."""
        self.out.mkdir(parents=True, exist_ok=True)
        return [self._json(), self._csv(), self._page()]

    def _json(self) -> Path:
        results = [
            {
                **asdict(condition), "actions": "greedy" if condition.greedy else "sampled",
                "summary": summary, "episodes": [episode.facts for episode in episodes],
            }
            for condition, summary, episodes in self.results
        ]  # fmt: skip
        report = {
            "checkpoint": str(self.checkpoint), "run": self.name, "agent_steps": self.agent_steps,
            "stage": self.stage, "env": self.env, "provenance": self.provenance,
            "results": results,
        }  # fmt: skip
        path = self.out / "results.json"
        path.write_text(json.dumps(report, indent=1))
        return path

    def _csv(self) -> Path:
        path = self.out / "episodes.csv"
        rows = [
            {"condition": condition.name, "episode": number, "ended": outcome(episode.facts)}
            | episode.facts
            for condition, _, episodes in self.results
            for number, episode in enumerate(episodes)
        ]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["condition"])
            writer.writeheader()
            writer.writerows(rows)
        return path

    def _save_episodes(self, condition: Condition, episodes: list[Episode]) -> None:
        """Write episodes so that anyone can play them again: flags first, then the best."""
        ranked = sorted(
            episodes, key=lambda e: (e.facts.get("flag", 0), e.facts["return"]), reverse=True
        )
        flags = sum(bool(episode.facts.get("flag")) for episode in episodes)
        env = self.env | {"random_noops": condition.random_noops, "sticky": condition.sticky}
        for number, episode in enumerate(ranked[: max(flags, self.save_episodes)]):
            saved = {
                "env": env if self.stage else self.env, "actions": episode.actions,
                "facts": episode.facts,
            }  # fmt: skip
            if condition.by_chance:  # the actions alone would not lead there again
                saved["tape"] = pack_tape(episode.tape)
            name = "flag" if episode.facts.get("flag") else "best"
            (self.out / f"{condition.name}-{name}-{number}.json").write_text(json.dumps(saved))

    def _page(self) -> Path:
        page = Page(
            f"Evaluation of {self.name} at agent step {self.agent_steps:,}",
            f"{self.checkpoint}; {'stage ' + self.stage if self.stage else 'its own world'}. "
            "Intervals are Wilson's, 95 %.",
        )
        head = ["condition", "episodes", "flag rate", "return", "steps", "mean x", "best x"]
        facts = ("return", "length", "x_max", "x_max_best")
        page.table(
            head,
            [
                [
                    c.name,
                    str(len(e)),
                    rate_text(s),
                    *(f"{s[f]:.1f}" if f in s else "-" for f in facts),
                ]
                for c, s, e in self.results
            ],
        )
        everyone = [episode for _, _, episodes in self.results for episode in episodes]
        picture, seen = stitch(everyone, self.stage)
        if picture is not None:
            self._picture("level_map", f'<img src="{png_url(picture, seen)}">')
        for condition, _, episodes in self.results:
            ends = [episode.facts for episode in episodes]
            if not ends:
                continue
            page.section(condition.name)
            if "x_pos" in ends[0]:
                chart = death_chart(ends, picture, seen)
                self._picture(f"deaths-{condition.name}", chart)
                page.figure(chart, "where Mario was when the episode ended, and how often", True)
            for fact, title in (("x_max", "furthest x"), ("return", "return"), ("length", "steps")):
                if fact in ends[0]:
                    chart = histogram([float(end[fact]) for end in ends], title)
                    self._picture(f"{fact}-{condition.name}", chart)
                    page.figure(chart, f"{title} of {len(ends)} episodes")
        page.section("Where this comes from")
        page.facts(self.provenance)
        return page.write(self.out / "evaluation.html")

    def _picture(self, name: str, picture: str) -> None:
        """Keep a picture of the page as a file of its own."""
        if picture.startswith("<svg"):
            (self.out / f"{name}.svg").write_text(standalone(picture))
            return
        import base64

        data = picture.split("base64,")[1].split('"')[0]
        (self.out / f"{name}.png").write_bytes(base64.b64decode(data))
