"""The published parameter counts, to the last one, for 64 x 64 x 3 frames and 7 actions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mario_dreamer.networks import (
    GRU,
    RSSM,
    BernoulliHead,
    BlockGRU,
    ConvDecoder,
    ConvEncoder,
    OneHotHead,
    StridedConvDecoder,
    StridedConvEncoder,
    TwoHotHead,
)

FRAME, ACTION = (3, 64, 64), 7
NATURE = {  # deter, hidden, classes, depth, units
    "1m": (512, 64, 4, 4, 64),
    "12m": (2048, 256, 16, 16, 256),
    "25m": (3072, 384, 24, 24, 384),
    "50m": (4096, 512, 32, 32, 512),
    "100m": (6144, 768, 48, 48, 768),
    "200m": (8192, 1024, 64, 64, 1024),
    "400m": (12288, 1536, 96, 96, 1536),
}
NATURE_COUNTS = {  # encoder, RSSM, decoder, reward, cont, actor, critic, total
    "1m": (14_304, 376_768, 80_595, 57_663, 41_153, 49_991, 66_111, 686_585),
    "12m": (220_416, 5_979_904, 1_272_003, 721_407, 656_129, 789_767, 853_503, 10_493_129),
    "25m": (493_824, 13_442_688, 2_857_635, 1_573_503, 1_475_713, 1_774_471, 1_869_951, 23_487_785),
    "50m": (876_032, 23_887_360, 5_076_355, 2_753_279, 2_622_977, 3_152_391, 3_279_615, 41_648_009),
    "100m": (
        1_966_848, 53_722_368, 11_413_059, 6_095_871, 5_900_545, 7_087_879, 7_278_591, 93_465_161,
    ),
    "200m": (
        3_492_864, 95_484_928, 20_282_115, 10_749_183, 10_488_833, 12_596_231, 12_850_431,
        165_944_585,
    ),
    "400m": (
        7_850_496, 214_792_704, 45_617_283, 23_987_967, 23_597_569, 28_331_527, 28_712_703,
        372_890_249,
    ),
}  # fmt: skip


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def nature(size: str) -> dict[str, nn.Module]:
    deter, hidden, classes, depth, units = NATURE[size]
    with torch.device("meta"):  # sizes without memory
        encoder = ConvEncoder(FRAME, depth)
        rssm = RSSM(BlockGRU, encoder.embed_dim, ACTION, deter, (32, classes), hidden)
        return {
            "encoder": encoder,
            "rssm": rssm,
            "decoder": ConvDecoder(deter, (32, classes), FRAME, depth, units=units),
            "reward": TwoHotHead(rssm.feat_dim, layers=1, units=units),
            "cont": BernoulliHead(rssm.feat_dim, layers=1, units=units),
            "actor": OneHotHead(rssm.feat_dim, ACTION, layers=3, units=units),
            "critic": TwoHotHead(rssm.feat_dim, layers=3, units=units),
        }


def seed() -> dict[str, nn.Module]:
    v1 = {"norm": "layer", "init": "fan_avg"}
    with torch.device("meta"):
        encoder = StridedConvEncoder(FRAME)
        rssm = RSSM(
            GRU, encoder.embed_dim, ACTION, 512, (32, 32), 512, 1, 1, initial="learned", **v1
        )
        return {
            "encoder": encoder,
            "rssm": rssm,
            "decoder": StridedConvDecoder(512, (32, 32), FRAME),
            "reward": TwoHotHead(rssm.feat_dim, layers=2, units=512, kind="symlog", **v1),
            "cont": BernoulliHead(rssm.feat_dim, layers=2, units=512, **v1),
            "actor": OneHotHead(rssm.feat_dim, ACTION, layers=2, units=512, **v1),
            "critic": TwoHotHead(rssm.feat_dim, layers=2, units=512, kind="symlog", **v1),
        }


@pytest.mark.parametrize("size", NATURE)
def test_each_nature_size_has_the_published_parameters(size: str) -> None:
    parts = nature(size)
    *expected, total = NATURE_COUNTS[size]
    assert [count(part) for part in parts.values()] == expected
    assert count(*parts.values()) == total


@pytest.mark.parametrize(
    ("size", "split"), [("1m", (273_728, 45_440, 57_600)), ("12m", (4_338_944, 722_432, 918_528))]
)
def test_the_rssm_is_core_prior_and_posterior(size: str, split: tuple[int, ...]) -> None:
    rssm = nature(size)["rssm"]
    assert (count(rssm.sequence_model), count(rssm.prior), count(rssm.posterior)) == split


def test_the_world_model_is_what_the_paper_calls_so() -> None:
    for size, expected in (("1m", 570_483), ("12m", 8_849_859)):
        parts = nature(size)
        del parts["actor"], parts["critic"]
        assert count(*parts.values()) == expected


def test_the_seed_has_the_parameters_of_paper_v1_size_s() -> None:
    parts = seed()
    assert {name: count(part) for name, part in parts.items()} == {
        "encoder": 690_624,
        "rssm": 5_779_456,
        "decoder": 6_985_667,
        "reward": 1_181_439,
        "cont": 1_051_137,
        "actor": 1_054_215,
        "critic": 1_181_439,
    }
    assert count(*parts.values()) == 17_923_977
    del parts["actor"], parts["critic"]
    assert count(*parts.values()) == 15_688_323


def test_the_seeds_rssm_part_by_part() -> None:
    rssm = seed()["rssm"]
    assert count(rssm.sequence_model.embed) == 528_896
    assert count(rssm.sequence_model.gates) == 1_575_936
    assert count(rssm.prior.hidden) == 263_168 and count(rssm.prior.out) == 525_312
    assert count(rssm.posterior.hidden) == 2_360_320 and count(rssm.posterior.out) == 525_312
    assert rssm.initial_deter.numel() == 512


def test_the_embedding_and_the_features_are_as_wide_as_published() -> None:
    assert (
        nature("12m")["encoder"].embed_dim == 1024 and nature("200m")["encoder"].embed_dim == 4096
    )
    assert seed()["encoder"].embed_dim == 4096
    feats = {"1m": 640, "12m": 2560, "25m": 3840, "50m": 5120, "100m": 7680, "200m": 10_240}
    assert {size: nature(size)["rssm"].feat_dim for size in feats} == feats
    assert seed()["rssm"].feat_dim == 1536
