"""Does the world model foresee deaths? A ten-minute screen of one change to the recipe.

    python benchmarks/foresight.py runs/NAME/checkpoints/step_000022016
    python benchmarks/foresight.py CHECKPOINT --try harmony prior_heads --seeds 0 1 --out foresight

Takes the replay of a run's checkpoint that holds at least `--train` + `--test` records. A world
model learns from scratch from the first ones (no actor, no critic), then the later ones ask it:
after the frame and action before, what probability of death does one step of the prior give?

    AUC          that a record of death gets a larger probability than a record without
    at_deaths    mean and median probability on records of death
    false_alarm  mean probability on all other records
    four         mean probability at deaths after four steps of the prior
    posterior    mean probability at deaths when the frame of the death is seen
    error        mean squared error of pixels in [0, 1]: of all, and of the rarest 2 % of colours

foresight_candidates.py says what is tried. Writes benchmarks/results/<out>.csv, a line for each run.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import torch
from foresight_candidates import CANDIDATES, Candidate
from omegaconf import OmegaConf
from run_script import run_script
from tensordict import TensorDict
from torch import Tensor, nn

from mario_dreamer import keys
from mario_dreamer.config import build
from mario_dreamer.config.contracts import instantiate
from mario_dreamer.config.stored import stored_config
from mario_dreamer.networks.model_input import to_model_input
from mario_dreamer.precision import autocast, autocast_dtype
from mario_dreamer.tracking.provenance import provenance
from mario_dreamer.training.checkpoint_files import CheckpointError

HERE = Path(__file__).resolve().parent
CPU = torch.device("cpu")
SAMPLES = 16  # draws of z from the prior for each probability


class Windows:
    """Records of a stored replay, cut into the first `train` and the next `test` of them.

    Args:
        checkpoint: folder with replay.pt.
        train, test: numbers of records, over all streams.
    """

    def __init__(self, checkpoint: Path, train: int, test: int) -> None:
        state = torch.load(checkpoint / "replay.pt", weights_only=True, mmap=True)
        state = state.get("replay", state)
        records, books = state["records"], state["streams"]
        self.num_streams = len(books["written"])
        filled = [min(written, books["rows"]) for written in books["written"]]
        ends = torch.tensor(filled).cumsum(0).tolist()
        self.train, self.test = train // self.num_streams, test // self.num_streams
        need = self.train + self.test
        if max(books["written"]) > books["rows"] or min(filled) < need:
            raise SystemExit(
                f"{checkpoint}: the replay must hold every record from the first and at least "
                f"{need} of each stream; it has {filled}. Take another checkpoint."
            )
        wanted = (keys.PIXELS, keys.PREV_ACTION, keys.REWARD, keys.IS_FIRST, keys.IS_LAST,
                  keys.IS_TERMINAL)  # fmt: skip
        starts = [end - n for n, end in zip(filled, ends, strict=True)]
        self.records = {
            key: torch.stack([records[key][first : first + need] for first in starts])
            for key in wanted
        }  # [N, need, ...]
        self.error = torch.full((self.num_streams, self.train), 1e5)
        self.visits = torch.zeros(self.num_streams, self.train)

    def part(self, stream: Tensor, time: Tensor) -> TensorDict:
        """Records at `stream` and `time`, of one shape, as the world model reads them."""
        part = {key: value[stream, time] for key, value in self.records.items()}
        part[keys.PREV_ACTION] = part[keys.PREV_ACTION].float()
        return TensorDict(part, stream.shape)

    def draw(self, batch: int, length: int, sampling: str) -> tuple[TensorDict, Tensor, Tensor]:
        """B windows of T records to learn from, and where they start."""
        starts = self.train - length + 1
        if sampling == "error":  # alpha 0.7, beta 0.7, c 1e4, as published
            priority = 1e4 * 0.7 ** self.visits[:, :starts] + (self.error[:, :starts] + 0.01) ** 0.7
            drawn = torch.multinomial(priority.flatten(), batch)
        else:
            drawn = torch.randint(self.num_streams * starts, (batch,))
        weight = torch.ones(batch)
        if sampling == "deaths":
            ends = self.records[keys.IS_TERMINAL][:, length - 1 : self.train].flatten()
            deaths = ends.nonzero().squeeze(-1)
            chosen = deaths[torch.randint(len(deaths), (batch,))]
            drawn = torch.where(torch.rand(batch) < 0.25, chosen, drawn)
            # Uniform probability over the probability of being drawn.
            weight = 1 / (0.75 + 0.25 / ends.float().mean() * ends[drawn].float())
        stream, first = drawn // starts, drawn % starts
        time = first[:, None] + torch.arange(length)
        part = self.part(stream[:, None].expand_as(time), time)
        part["weight"] = weight[:, None].expand(batch, length)
        return part, stream, first


def learn(
    windows: Windows, cfg: Any, candidate: Candidate, updates: int
) -> tuple[nn.Module, float]:
    """Train a world model from scratch; return it and the minutes it took."""
    env = build.make_env(cfg, 1, 0)
    agent = build.make_agent(cfg, env)
    env.close()
    world_model = agent.world_model
    discount = instantiate("loss.discount", cfg.loss.discount)
    options = OmegaConf.to_container(cfg.loss.world_model, resolve=True)
    options.pop("_target_")
    loss = candidate.loss(world_model, **options, discount=discount)
    settings = cfg.optimizer.copy()
    settings.lr = {"world_model": cfg.optimizer.lr.world_model}
    optimizer = instantiate("optimizer", settings, modules={"world_model": loss}, _convert_="all")
    begin = time.perf_counter()
    for update in range(updates):
        batch, stream, first = windows.draw(cfg.batch_size, cfg.batch_length, candidate.sampling)
        with autocast(CPU, autocast_dtype(cfg.precision, CPU)):
            losses, posterior = loss(batch)
        sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
        optimizer.step()
        optimizer.zero_grad()
        if candidate.sampling == "error":
            windows.visits[stream, first] += 1
            windows.error[stream, first] = float(
                (losses["loss_recon"] + losses["loss_dyn"]).detach()
            )
    return world_model, (time.perf_counter() - begin) / 60


@torch.no_grad()
def ask(world_model: nn.Module, windows: Windows, gamma: float) -> dict[str, float]:
    """Ask a world model about the records after those it learned from."""
    first = windows.train - 16  # some context before the first record that counts
    time = torch.arange(first, windows.train + windows.test).expand(windows.num_streams, -1)
    stream = torch.arange(windows.num_streams)[:, None].expand_as(time)
    records = windows.part(stream, time)
    states = world_model(records.copy())
    rssm = world_model.rssm

    def dead(deter: Tensor, stoch: Tensor) -> Tensor:
        feat = TensorDict({keys.FEAT: rssm.feat(deter, stoch)}, deter.shape[:-1])
        return (1 - world_model.cont.get_dist(feat).mean.float() / gamma).clamp(0, 1).squeeze(-1)

    def ahead(steps: int) -> Tensor:
        """P(dead) at t after `steps` steps of the prior, [N, L - steps]; mean over draws."""
        length = time.shape[1]
        mean = 0.0
        for _ in range(SAMPLES):
            before = states[:, : length - steps].flatten()
            deter, stoch = before[keys.DETER], before[keys.STOCH]
            for k in range(1, steps + 1):
                action = records[keys.PREV_ACTION][:, k : length - steps + k].flatten(0, 1)
                deter, stoch, _ = rssm.img_step(deter, stoch, action)
            mean = mean + dead(deter, stoch).reshape(windows.num_streams, -1) / SAMPLES
        return mean

    terminal = records[keys.IS_TERMINAL].squeeze(-1)
    opened = records[keys.IS_FIRST].squeeze(-1)
    one, four = ahead(1)[:, 15:], ahead(4)[:, 12:]  # both [N, test]
    truth = terminal[:, 16:]
    counted = ~opened[:, 16:]
    deaths, others = one[truth & counted], one[~truth & counted]
    frame = to_model_input(records[keys.PIXELS]).float()
    decoder = world_model.decoders[keys.PIXELS]
    recon = torch.cat([decoder.get_dist(s).mean.float() for s in states.split(64, 1)], 1)
    error = (recon - frame).square().mean(2)  # [N, L, H, W]
    color = (records[keys.PIXELS].long() // 16 * torch.tensor([256, 16, 1]).view(3, 1, 1)).sum(2)
    count = torch.bincount(color.flatten(), minlength=4096)
    order = count.argsort()
    rare = torch.zeros(4096, dtype=torch.bool)
    rare[order[count[order].cumsum(0) <= 0.02 * color.numel()]] = True
    return {
        "deaths": float(len(deaths)),
        "auc": auc(deaths, others),
        "at_deaths_mean": float(deaths.mean()),
        "at_deaths_median": float(deaths.median()),
        "false_alarm": float(others.mean()),
        "four_mean": float(four[truth & counted].mean()),
        "posterior": float(dead(states[keys.DETER], states[keys.STOCH])[:, 16:][truth].mean()),
        "error_all": float(error.mean()),
        "error_rare": float(error[rare[color]].mean()),
    }


def auc(deaths: Tensor, others: Tensor) -> float:
    """Share of pairs in which the first is larger; an equal pair counts half."""
    wins = (deaths[:, None] > others).float() + 0.5 * (deaths[:, None] == others).float()
    return float(wins.mean())


def main() -> None:
    """Screen what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--try", dest="names", nargs="+", choices=CANDIDATES, default=list(CANDIDATES)
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--updates", type=int, default=800)
    parser.add_argument("--train", type=int, default=15_000)
    parser.add_argument("--test", type=int, default=5_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default="foresight")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = HERE / "results" / f"{args.out}.csv"
    for seed in args.seeds:
        for name in args.names:
            candidate = CANDIDATES[name]
            build.seed_everything(seed)
            cfg = stored_config(args.checkpoint)
            OmegaConf.set_struct(cfg, False)
            cfg = OmegaConf.merge(cfg, OmegaConf.from_dotlist(candidate.options))
            windows = Windows(args.checkpoint, args.train, args.test)
            world_model, minutes = learn(windows, cfg, candidate, args.updates)
            answers = ask(world_model, windows, float(cfg.loss.discount.gamma))
            row = {"candidate": name, "seed": seed, "updates": args.updates}
            row |= {key: round(x, 4) for key, x in {"minutes": minutes, **answers}.items()}
            row |= {"commit": provenance().get("git.commit", "unknown")[:7]}
            new = not path.exists()
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, row)
                if new:
                    writer.writeheader()
                writer.writerow(row)
            print(row, flush=True)


if __name__ == "__main__":
    run_script(main, CheckpointError)
