"""Tell people how a run goes: trackers, the table of metrics, videos, the terminal.

Nothing here is needed to learn, and nothing here can stop it.
"""

from mario_dreamer.tracking.files import FileTracker, read_metrics, with_files
from mario_dreamer.tracking.metrics import METRICS, Metric, describe, full_names, markdown_table
from mario_dreamer.tracking.mlflow.tracker import MLflowTracker
from mario_dreamer.tracking.progress import Progress
from mario_dreamer.tracking.tensorboard import TensorBoardTracker
from mario_dreamer.tracking.tracker import NoTracker, Tracker, Trackers
from mario_dreamer.tracking.video import (
    encode_gif,
    encode_mp4,
    image_strip,
    open_loop_video,
    save_png,
    stack_rows,
)

__all__ = [
    "METRICS",
    "FileTracker",
    "MLflowTracker",
    "Metric",
    "NoTracker",
    "Progress",
    "TensorBoardTracker",
    "Tracker",
    "Trackers",
    "describe",
    "encode_gif",
    "encode_mp4",
    "full_names",
    "image_strip",
    "markdown_table",
    "open_loop_video",
    "read_metrics",
    "save_png",
    "stack_rows",
    "with_files",
]
