from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tiny import make_tiny, random_records

from mario_dreamer.networks import regions
from mario_dreamer.precision import autocast, autocast_dtype
from mario_dreamer.training.acceleration import accelerate, capture, resolve_device

CPU = torch.device("cpu")


def test_off_gives_the_function_itself() -> None:
    for word in ("off", "False", False):
        assert accelerate(abs, word, CPU) is abs


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fast", r"expected off, on, cudagraph or on\+cudagraph"),
        ("cudagraph", "compile=cudagraph needs a CUDA"),
        ("on+cudagraph", r"compile=on\+cudagraph needs a CUDA"),
    ],
)
def test_a_mode_that_cannot_be_is_refused(mode: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accelerate(abs, mode, CPU)


def test_without_a_cpp_compiler_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert accelerate(abs, "off", CPU) is abs
    with pytest.raises(ValueError, match=r"^compile=on needs a C\+\+ compiler.*apt install g\+\+"):
        accelerate(abs, "on", CPU)


def test_only_the_learner_asks_for_compiled_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def compile(function):
        asked.append(function.__qualname__)
        return function

    monkeypatch.setattr(regions, "_compile", compile)
    tiny = make_tiny("compile=on")
    tiny.collect(4)
    assert asked == []
    tiny.learner.update(random_records())
    assert asked.count("RSSM._steps") == 2  # four records, and the fifth
    assert asked.count("RSSM.img_step") == 3  # dreamed steps
    assert "MLP.forward" in asked
    asked.clear()
    make_tiny("compile=off").learner.update(random_records())
    assert asked == []


def test_compiled_regions_round_each_weight_once_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def compile(function):
        def call(self, *args):
            if function.__qualname__ == "RSSM._steps":
                seen.append(self.posterior.out.weight)
            return function(self, *args)

        return call

    monkeypatch.setattr(regions, "_compile", compile)
    plain, gradients = _first_update("off", "precision=bf16")
    assert not seen
    rounded, found = _first_update("on", "precision=bf16")
    assert len(seen) == 2  # four records, and the fifth
    assert all(weight is seen[0] for weight in seen)
    assert seen[0].dtype == torch.bfloat16
    for key, value in plain.items():
        torch.testing.assert_close(rounded[key], value, rtol=1e-6, atol=1e-7)
    assert float(torch.cosine_similarity(found, gradients, dim=0)) > 0.9999


def _first_update(compile: str, *changes: str) -> tuple[TensorDict, torch.Tensor]:
    """Losses of one batch and all gradients in one vector, with the draws of seed 5."""
    learner = make_tiny(f"compile={compile}", *changes).learner
    torch.manual_seed(5)
    losses = learner._forward_backward(random_records())
    gradients = [p.grad.flatten() for p in learner.optimizer.parameters() if p.grad is not None]
    terms = losses.select(*(key for key in losses.keys() if key.startswith("loss_")))
    return terms, torch.cat(gradients)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [(), ("experiment=seed_v1",)], ids=["nature", "the seed"])
def test_compiled_regions_give_the_plain_losses_and_gradients(changes: tuple[str, ...]) -> None:
    plain, gradients = _first_update("off", *changes)
    compiled, found = _first_update("on", *changes)
    assert len(plain.keys()) >= 7
    for key, value in plain.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        found, gradients, rtol=1e-5, atol=1e-5 * float(gradients.abs().max())
    )


def test_the_words_for_precision() -> None:
    assert autocast_dtype("bf16", CPU) is autocast_dtype(16, CPU) is torch.bfloat16
    assert autocast_dtype("fp32", CPU) is autocast_dtype(32, CPU) is None
    assert autocast_dtype("auto", CPU) in (None, torch.bfloat16)
    with pytest.raises(ValueError, match="precision='half': expected auto"):
        autocast_dtype("half", CPU)


def test_without_a_type_everything_stays_float32() -> None:
    product = torch.ones(2, 2)
    with autocast(CPU, None):
        assert (product @ product).dtype == torch.float32
    with autocast(CPU, torch.bfloat16):
        assert (product @ product).dtype == torch.bfloat16


def test_devices_by_name() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    for word in ("toaster", "meta", "cuda:x"):
        with pytest.raises(ValueError, match="expected auto, cpu, mps, cuda or cuda:N"):
            resolve_device(word)


@pytest.mark.parametrize(
    ("cuda", "mps", "device"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_cuda_then_mps_then_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto").type == device
    if mps:  # by its full name, as tensors on it have it
        assert resolve_device("mps") == torch.device("mps", 0)
    else:
        with pytest.raises(ValueError, match="^device='mps'.*no Apple GPU.*device=cpu"):
            resolve_device("mps")


def test_an_apple_gpu_computes_in_float32_without_graphs() -> None:
    mps = torch.device("mps", 0)
    assert autocast_dtype("auto", mps) is None
    with pytest.raises(ValueError, match="compile=cudagraph needs a CUDA GPU; .* mps"):
        capture(abs, "cudagraph", mps)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_said_so() -> None:
    with pytest.raises(ValueError, match="no CUDA GPU.*device=cpu"):
        resolve_device("cuda:1")
