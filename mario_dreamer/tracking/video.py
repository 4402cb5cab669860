"""Write frames into files that browsers play: mp4, gif, png."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from mario_dreamer.tracking.atomic_file import atomic_file
from mario_dreamer.tracking.open_loop_images import upscale


def _checked(frames: Tensor, who: str) -> Tensor:
    """Return frames as uint8 [T, 3, H, W] on the CPU, or raise."""
    if frames.ndim != 4 or frames.shape[1] != 3 or not len(frames) or frames.dtype != torch.uint8:
        raise ValueError(
            f"{who}: got frames {tuple(frames.shape)} {frames.dtype}, expected [T, 3, H, W] "
            "torch.uint8 with T >= 1. Multiply floats by 255 and call .byte() first."
        )
    return frames.detach().cpu()


def _pictures(frames: Tensor) -> list[Image.Image]:
    """[T, 3, H, W] uint8 -> T Pillow images."""
    return [Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()) for frame in frames]


def encode_mp4(frames: Tensor, path: str | Path, fps: float = 15, scale: int = 1) -> Path:
    """Write a video that every browser plays (H.264, yuv420p); return its path.

    Args:
        frames: [T, 3, H, W] uint8. Odd sides are repeated by one pixel: H.264 needs even ones.
        path: file that appears when it is whole, with its folder.
        scale: draw each pixel as scale x scale; H.264 smears the colours of small frames.

    Raises:
        ValueError: for frames of another shape or type.
    """
    frames = upscale(_checked(frames, "encode_mp4"), scale)
    height, width = frames.shape[-2:]
    if height % 2 or width % 2:
        frames = pad(frames.float(), (0, width % 2, 0, height % 2), mode="replicate").byte()
    import av  # here: a machine that makes no videos may do without it

    rate = Fraction(fps).limit_denominator(1000)
    options = {"crf": "18", "preset": "veryfast", "threads": "1"}
    with (
        atomic_file(Path(path)) as draft,
        av.open(str(draft), "w", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = frames.shape[-2:]
        stream.pix_fmt = "yuv420p"
        for picture in _pictures(frames):
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return Path(path)


def decode_video(path: str | Path) -> tuple[Tensor, float]:
    """Read a video back: its frames, [T, 3, H, W] uint8, and how many it shows per second.

    Raises:
        FileNotFoundError: when there is no such file.
    """
    import av

    with av.open(str(path)) as container:
        fps = float(container.streams.video[0].average_rate)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.stack([torch.from_numpy(frame) for frame in frames]).permute(0, 3, 1, 2), fps


def encode_gif(frames: Tensor, path: str | Path, fps: float = 15, scale: int = 1) -> Path:
    """Write an endless GIF, three times the size of an mp4; else as `encode_mp4`.

    Args:
        fps: frames per second; GIF counts in hundredths of a second, 50 at most.
    """
    first, *others = _pictures(upscale(_checked(frames, "encode_gif"), scale))
    duration = max(20, round(100 / fps) * 10)  # milliseconds
    with atomic_file(Path(path)) as draft:
        first.save(draft, save_all=True, append_images=others, duration=duration, loop=0)
    return Path(path)


def save_png(image: Tensor, path: str | Path) -> Path:
    """Write one picture, [3, H, W] uint8; else as `encode_mp4`."""
    (picture,) = _pictures(_checked(image[None], "save_png"))
    with atomic_file(Path(path)) as draft:
        picture.save(draft)
    return Path(path)


def film_encoder(out: Path) -> Callable[..., Path]:
    """Return `encode_gif` for a file that ends in .gif, else `encode_mp4`."""
    return encode_gif if out.suffix == ".gif" else encode_mp4
