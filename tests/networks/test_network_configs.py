"""Every file under encoder, decoder, rssm, head, actor and size builds a part that runs."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

import mario_dreamer
from mario_dreamer.networks import GRU, RSSM, BlockGRU

CONFIGS = Path(mario_dreamer.__file__).parents[1] / "configs"
DEBUG = ["+size=debug"]


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@functools.cache
def configured(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(overrides=list(overrides))


def parts(*overrides: str) -> dict[str, nn.Module]:
    """All networks of a choice, built as config/build.py does: a parent gives sizes."""
    cfg = configured(*overrides)
    encoder = instantiate(cfg.encoder, image_shape=(3, 64, 64))
    rssm = instantiate(cfg.rssm, embed_dim=encoder.embed_dim, action_dim=7)
    state = {"deter_dim": rssm.deter_dim, "stoch_shape": rssm.stoch_shape}
    built = {"encoder": encoder, "rssm": rssm}
    built["decoder"] = instantiate(cfg.decoder, image_shape=(3, 64, 64), **state)
    for slot in ("reward", "cont", "critic"):
        built[slot] = instantiate(cfg[slot], feat_dim=rssm.feat_dim)
    built["actor"] = instantiate(cfg.actor, feat_dim=rssm.feat_dim, action_dim=7)
    return built


NATURE = [
    "+encoder=cnn", "+decoder=cnn", "+rssm=rssm", "+head@reward=twohot", "+head@cont=bernoulli",
    "+head@critic=twohot", "critic.layers=${size.behaviour_layers}", "+actor=onehot",
]  # fmt: skip
SEED = [
    "+encoder=cnn_strided", "+decoder=cnn_strided", "+rssm=rssm_v1", "+head@reward=twohot_symlog",
    "+head@cont=bernoulli", "cont.norm=layer", "+head@critic=twohot_symlog", "+actor=onehot",
    "actor.norm=layer",
]  # fmt: skip
LAPTOP = [
    "+encoder=cnn_strided", "+decoder=cnn_strided", "decoder.sigmoid=true", "+rssm=rssm",
    "rssm/sequence_model=gru", "+head@reward=twohot", "+head@cont=bernoulli",
    "+head@critic=twohot", "critic.layers=${size.behaviour_layers}", "+actor=onehot",
]  # fmt: skip


def count(modules: dict[str, nn.Module]) -> int:
    return sum(parameter.numel() for part in modules.values() for parameter in part.parameters())


@pytest.mark.parametrize(
    ("choice", "total"),
    [
        ([*NATURE, "+size=size1m"], 686_585),
        ([*NATURE, "+size=size12m"], 10_493_129),
        ([*NATURE, "+size=size25m"], 23_487_785),
        ([*NATURE, "+size=size50m"], 41_648_009),
        ([*NATURE, "+size=size100m"], 93_465_161),
        ([*NATURE, "+size=size200m"], 165_944_585),
        ([*NATURE, "+size=size400m"], 372_890_249),
        ([*SEED, "+size=seed"], 17_923_977),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_the_configured_sizes_have_the_published_parameters(choice: list[str], total: int) -> None:
    with torch.device("meta"):
        assert count(parts(*choice)) == total


def test_every_size_file_sets_the_same_numbers() -> None:
    names = {
        size: set(OmegaConf.load(CONFIGS / "size" / f"{size}.yaml")) for size in choices("size")
    }
    expected = {
        "deter", "hidden", "stoch", "classes", "depth", "units", "head_layers", "behaviour_layers",
    }  # fmt: skip
    assert set(names) >= {"debug", "laptop", "seed", "size1m", "size400m"}
    assert all(found == expected for found in names.values())


@pytest.mark.parametrize(
    ("choice", "size"), [(NATURE, "debug"), (SEED, "debug"), (LAPTOP, "laptop")],
    ids=["nature", "seed", "laptop"],
)  # fmt: skip
def test_a_whole_agent_runs_from_its_configs(choice: list[str], size: str) -> None:
    built = parts(*choice, f"+size={size}")
    rssm, frames = built["rssm"], torch.rand(2, 3, 3, 64, 64)
    is_first = torch.zeros(2, 3, 1, dtype=torch.bool)
    deter, stoch, _, _ = rssm(built["encoder"](frames), torch.zeros(2, 3, 7), is_first)
    feat = rssm.feat(deter, stoch)
    assert built["decoder"](deter, stoch).shape == frames.shape
    for slot in ("reward", "cont", "critic"):
        head = built[slot]
        assert head.dist(head(feat)).mean.shape == (2, 3, 1)
    assert built["actor"].dist(built["actor"](feat)).sample().shape == (2, 3, 7)


@pytest.mark.parametrize("name", choices("encoder"))
def test_every_encoder_file_builds_and_sees(name: str) -> None:
    cfg = configured(*DEBUG, f"+encoder={name}").encoder
    vector = name == "mlp"
    encoder = instantiate(cfg, **({"vector_dim": 4} if vector else {"image_shape": (3, 32, 32)}))
    embed = encoder(torch.rand(2, 4) if vector else torch.rand(2, 3, 32, 32))
    assert embed.shape == (2, encoder.embed_dim)


@pytest.mark.parametrize("name", choices("decoder"))
def test_every_decoder_file_builds_and_draws(name: str) -> None:
    cfg = configured(*DEBUG, f"+decoder={name}").decoder
    shape = {"vector_dim": 4} if name == "mlp" else {"image_shape": (3, 32, 32)}
    decoder = instantiate(cfg, deter_dim=16, stoch_shape=(4, 3), **shape)
    mean = decoder(torch.randn(2, 16), torch.rand(2, 4, 3))
    target = torch.rand(2, 4) if name == "mlp" else torch.rand(2, 3, 32, 32)
    assert decoder.dist(mean).log_prob(target).shape == (2,)


@pytest.mark.parametrize("name", choices("head"))
def test_every_head_file_builds_and_starts_as_it_says(name: str) -> None:
    cfg = configured(*DEBUG, f"+head@reward={name}").reward
    head = instantiate(cfg, feat_dim=10)
    dist = head.dist(head(torch.randn(4, 10)))
    assert dist.log_prob(torch.zeros(4, 1)).shape == (4,)
    assert (head.mlp.out.weight == 0).all().item() is (cfg.outscale == 0.0)


@pytest.mark.parametrize("name", choices("actor"))
def test_every_actor_file_builds_and_acts(name: str) -> None:
    sizes: dict = {"choices": [2, 3]} if name == "multi_onehot" else {"action_dim": 5}
    sizes |= {"kind": "binary"} if name == "auto" else {}
    actor = instantiate(configured(*DEBUG, f"+actor={name}").actor, feat_dim=10, **sizes)
    assert actor.dist(actor(torch.randn(4, 10))).sample().shape == (4, 5)


@pytest.mark.parametrize("name", choices("rssm"))
@pytest.mark.parametrize("core", choices("rssm/sequence_model"))
def test_every_rssm_takes_every_sequence_model(name: str, core: str) -> None:
    cfg = configured(*DEBUG, f"+rssm={name}", f"rssm/sequence_model={core}").rssm
    rssm = instantiate(cfg, embed_dim=6, action_dim=5)
    assert isinstance(rssm, RSSM)
    assert isinstance(rssm.sequence_model, {"gru": GRU, "block_gru": BlockGRU}[core])
    deter, stoch = rssm.initial(2, "cpu")
    assert rssm.img_step(deter, stoch, torch.zeros(2, 5))[0].shape == (2, 32)


def test_swapping_the_sequence_model_is_one_word() -> None:
    default = configured(*DEBUG, "+rssm=rssm").rssm.sequence_model["_target_"]
    assert default.endswith("BlockGRU")
    assert configured(*DEBUG, "+rssm=rssm_v1").rssm.sequence_model["_target_"].endswith(".GRU")
