"""bfloat16 where it is fast, float32 where it matters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mario_dreamer.networks import (
    GRU,
    RSSM,
    BlockGRU,
    ConvDecoder,
    ConvEncoder,
    StridedConvDecoder,
    StridedConvEncoder,
    TwoHotHead,
)


def nature() -> nn.ModuleList:
    encoder = ConvEncoder((3, 16, 16), depth=4)
    rssm = RSSM(BlockGRU, encoder.embed_dim, 5, 16, (4, 3), 8)
    decoder = ConvDecoder(16, (4, 3), (3, 16, 16), depth=4, units=8)
    return nn.ModuleList([encoder, rssm, decoder, TwoHotHead(rssm.feat_dim, layers=1, units=8, outscale=1.0)])


def v1() -> nn.ModuleList:
    norm = {"norm": "layer", "init": "fan_avg"}
    encoder = StridedConvEncoder((3, 16, 16), depth=4)
    rssm = RSSM(GRU, encoder.embed_dim, 5, 16, (4, 3), 8, 1, initial="learned", **norm)
    decoder = StridedConvDecoder(16, (4, 3), (3, 16, 16), depth=4)
    return nn.ModuleList(
        [encoder, rssm, decoder, TwoHotHead(rssm.feat_dim, layers=1, units=8, outscale=1.0, **norm)]
    )


def losses(parts: nn.ModuleList) -> dict[str, torch.Tensor]:
    encoder, rssm, decoder, head = parts
    torch.manual_seed(1)
    frames, is_first = torch.rand(2, 5, 3, 16, 16), torch.zeros(2, 5, 1, dtype=torch.bool)
    deter, stoch, post, prior = rssm(encoder(frames), torch.rand(2, 5, 5), is_first)
    assert {x.dtype for x in (deter, stoch, post, prior)} == {torch.float32}
    mean, params = decoder(deter, stoch), head(rssm.feat(deter, stoch))
    assert mean.dtype == params.dtype == torch.float32
    dyn, rep, _ = rssm.kl_loss(post, prior, free_nats=0.0)
    return {
        "recon": -decoder.dist(mean).log_prob(frames),
        "reward": -head.dist(params).log_prob(torch.ones(2, 5, 1)),
        "dyn": dyn,
        "rep": rep,
    }


@pytest.mark.parametrize("style", [nature, v1])
def test_under_autocast_losses_are_finite_and_gradients_float32(style: object) -> None:
    parts = style()
    with torch.autocast("cpu", torch.bfloat16):
        terms = losses(parts)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert {tuple(term.shape) for term in terms.values()} == {(2, 5)}
    sum(term.mean() for term in terms.values()).backward()
    for name, parameter in parts.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("style", [nature, v1])
def test_bfloat16_changes_the_recon_loss_by_less_than_1_percent(style: object) -> None:
    parts = style()
    fine = losses(parts)["recon"].mean()
    with torch.autocast("cpu", torch.bfloat16):
        coarse = losses(parts)["recon"].mean()
    assert coarse != fine  # it did round
    torch.testing.assert_close(coarse, fine, rtol=0.01, atol=0.0)


@pytest.mark.parametrize("style", [nature, v1])
def test_imagination_stays_float32_under_autocast(style: object) -> None:
    rssm = style()[1]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        deter, stoch = rssm.initial(3, "cpu")
        for tensor in rssm.imagine_with_action(deter, stoch, torch.rand(3, 4, 5)):
            assert tensor.dtype == torch.float32 and tensor.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("style", [nature, v1])
def test_observe_replays_in_a_cuda_graph(style: object) -> None:
    encoder, rssm, decoder, _ = style().cuda()
    frames, action = torch.rand(2, 5, 3, 16, 16).cuda(), torch.rand(2, 5, 5).cuda()
    is_first = torch.zeros(2, 5, 1, dtype=torch.bool).cuda()

    def step() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            deter, stoch, _, _ = rssm(encoder(frames), action, is_first)
            return decoder(deter, stoch)

    warm = torch.cuda.Stream()
    with torch.cuda.stream(warm), torch.no_grad():
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        result = step()
    draws = []
    for _ in range(2):
        graph.replay()
        draws.append(result.clone())
    assert draws[0].isfinite().all() and not torch.equal(draws[0], draws[1])
