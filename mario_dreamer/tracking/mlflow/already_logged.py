"""Remember what an MLflow run holds before a resume, so that nothing is logged to it twice."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from mario_dreamer.tracking.tracker import log

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# How fast the machine was differs in every repetition; the first number is as true as the next.
MACHINE = ("system/", "speed/", "run/memory_gib", "eval/seconds")


class AlreadyLogged:
    """Leave out what a resumed run logs a second time.

    A run that was killed goes on from its last checkpoint and logs again what it had logged after
    it. MLflow can remove no point, but a resume on CPU repeats the same numbers: so those are
    left out, and every point is there once. Where a number differs, as it may on a GPU, both
    are kept and the log says so once. Pictures are left out by name and step.

    Args:
        end: agent steps; points after it are remembered.
    """

    def __init__(self, client: MlflowClient, run_id: str, end: float) -> None:
        # (name, step) -> (milliseconds, value) of its points, in order of time
        self._points: dict[tuple[str, int], dict[tuple[int, float], None]] = {}
        self.end, self._differs = end, False
        newest = client.get_run(run_id).data.to_proto().metrics  # of each name, with its step
        for name in [point.key for point in newest if point.step > end]:
            for point in client.get_metric_history(run_id, name):
                self.note(point)
        self._pictures: set[tuple[str, int]] | None = None
        self._client, self._run_id = client, run_id

    def note(self, point: Metric) -> None:
        """Remember a point of an earlier process, read or delivered late from its spool file."""
        if point.step > self.end:
            points = self._points.setdefault((point.key, point.step), {})
            points[point.timestamp, point.value] = None

    def holds(self, point: Metric) -> bool:
        """Whether a point that an earlier process left undelivered is there all the same.

        The process may have died after the delivery, or may have logged it for the second time
        itself.
        """
        points = self._points.get((point.key, point.step), {})
        return bool(points) and (
            point.key.startswith(MACHINE)
            or any(_equal(value, point.value) for _, value in points)
        )

    def knows(self, point: Metric) -> bool:
        """Whether this point is there already; asked once for each time that it is logged.

        A step may have several points of one name, such as episodes that end together: each is
        looked for among those that are left.
        """
        points = self._points.get((point.key, point.step))
        if not points:
            return False
        first = next(iter(points))
        same = [known for known in points if _equal(known[1], point.value)]
        if same or point.key.startswith(MACHINE):
            del points[same[0] if same else first]
            return True
        if not self._differs:
            self._differs = True
            log.warning(
                "MLflow: after the resume %s is %g at step %d, before it was %g; both are kept",
                point.key, point.value, point.step, first[1],
            )  # fmt: skip
        return False

    def knows_picture(self, key: str, step: int) -> bool:
        """Whether the picture of this name and step is there, complete."""
        if self._pictures is None:
            self._pictures = self._list_pictures()
        return (key, step) in self._pictures

    def _list_pictures(self) -> set[tuple[str, int]]:
        try:
            paths = [item.path for item in self._client.list_artifacts(self._run_id, "images")]
        except Exception as error:  # noqa: BLE001 - a store that cannot be listed can be written to
            log.warning("MLflow: its pictures cannot be listed (%s); some may come twice", error)
            return set()
        # A picture is written twice, the small copy last: only then it is complete.
        found = [re.search(r"images/(.+)[+%]step[+%](\d+)[+%].*compressed", p) for p in paths]
        return {(match[1], int(match[2])) for match in found if match}


def _equal(one: float, two: float) -> bool:
    return one == two or (math.isnan(one) and math.isnan(two))
