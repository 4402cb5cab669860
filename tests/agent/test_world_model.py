from __future__ import annotations

import pytest
import torch
from tiny import gradients, make_tiny, random_records

from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.networks.decoder import MLPDecoder
from mario_dreamer.networks.encoder import MLPEncoder, MultiEncoder
from mario_dreamer.networks.model_input import to_model_input
from mario_dreamer.networks.rssm import RSSM
from mario_dreamer.networks.sequence_models import GRU
from mario_dreamer.replay.records import to_records


@pytest.fixture(scope="module")
def fresh() -> WorldModel:
    """Of a fresh agent; the tests that take it do not change it."""
    return make_tiny().agent.world_model


def decided(tiny: object) -> object:
    """Make the latents certain, so that two paths to one state can be compared."""
    rssm = tiny.agent.world_model.rssm
    rssm.unimix = 0.0
    with torch.no_grad():
        rssm.posterior.out.weight.mul_(1e5)
    return tiny


def test_bytes_become_floats_from_0_to_1_and_floats_stay() -> None:
    frame = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(to_model_input(frame), torch.tensor([0.0, 0.2, 1.0]))
    sensors = torch.tensor([-3.0, 400.0])
    assert to_model_input(sensors) is sensors


def test_records_get_a_posterior_state_each(fresh: WorldModel) -> None:
    found = fresh(random_records(3, 5))
    assert found["deter"].shape == (3, 5, 16)
    assert found["stoch"].shape == found["post_logits"].shape == (3, 5, 3, 4)
    assert found["prior_logits"].shape == (3, 5, 3, 4)
    assert found["feat"].shape == (3, 5, 28)
    assert set(fresh.out_keys) <= set(found.keys())


def test_every_output_is_finite_for_black_and_white_frames(fresh: WorldModel) -> None:
    for shade in (0, 255):
        records = random_records()
        records["pixels"].fill_(shade)
        found = fresh(records)
        assert all(bool(torch.isfinite(found[key]).all()) for key in fresh.out_keys)


def test_state_t_depends_on_frame_t_and_the_action_before() -> None:
    tiny = decided(make_tiny())
    world_model = tiny.agent.world_model
    records = random_records(1, 5)
    before = world_model(records.clone())
    changed = records.clone()
    changed["pixels"][0, 2] = 255 - changed["pixels"][0, 2]
    after = world_model(changed)
    assert torch.equal(before["deter"][0, :3], after["deter"][0, :3]), "h_t does not see x_t"
    assert not torch.equal(before["post_logits"][0, 2], after["post_logits"][0, 2])
    changed = records.clone()
    changed["prev_action"][0, 3] = changed["prev_action"][0, 3].roll(1)
    after = world_model(changed)
    assert torch.equal(before["deter"][0, :3], after["deter"][0, :3])
    assert not torch.equal(before["deter"][0, 3], after["deter"][0, 3]), "h_t sees a_(t-1)"


def test_an_opening_frame_forgets_what_came_before() -> None:
    tiny = decided(make_tiny())
    first, second = random_records(2, 5), random_records(2, 5)
    for records in (first, second):
        records["is_first"][:, 2] = True
    second["pixels"][:, 2:], second["prev_action"][:, 3:] = (
        first["pixels"][:, 2:], first["prev_action"][:, 3:],
    )  # fmt: skip
    one, two = (tiny.agent.world_model(records) for records in (first, second))
    assert torch.equal(one["feat"][:, 2:], two["feat"][:, 2:])


def test_a_window_starts_from_its_stored_state() -> None:
    tiny = decided(make_tiny())
    world_model = tiny.agent.world_model
    records = random_records(2, 6)
    whole = world_model(records.clone())
    part = records[:, 3:].clone()
    cold = world_model(part.clone())
    part["prev_deter"] = torch.zeros(2, 3, 16)
    part["prev_stoch"] = torch.zeros(2, 3, 3, 4, dtype=torch.uint8)
    part["prev_deter"][:, 0] = whole["deter"][:, 2].detach()
    part["prev_stoch"][:, 0] = whole["stoch"][:, 2].detach().to(torch.uint8)
    torch.testing.assert_close(world_model(part)["deter"], whole["deter"][:, 3:])
    assert not torch.allclose(cold["deter"], whole["deter"][:, 3:], atol=1e-3)


@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_playing_and_learning_reach_the_same_states(ending: str) -> None:
    tiny = decided(make_tiny(f"env.ending={ending}", "env.length=5"))
    transitions = tiny.collect(16)  # three episodes of five and one step more, in two worlds
    for world in range(2):
        played = transitions[world]
        records = to_records(played)
        frames = records["is_last"].flatten().logical_not()
        frames[-1] = False  # a last frame is never acted on
        learned = tiny.agent.world_model(
            records.set("prev_action", records["prev_action"].float()).unsqueeze(0)
        )
        assert int(frames.sum()) == 16
        torch.testing.assert_close(learned["deter"][0, frames], played["next", "deter"])
        torch.testing.assert_close(learned["stoch"][0, frames], played["next", "stoch"])


def test_vectors_and_frames_can_be_seen_together() -> None:
    base = make_tiny().agent.world_model
    sensors = MLPEncoder(vector_dim=2, layers=1, units=8)
    encoder = MultiEncoder({"pixels": base.encoder.encoders["pixels"], "vector": sensors})
    rssm = RSSM(GRU, encoder.embed_dim, 3, 16, (3, 4), 8)
    decoders = {
        "pixels": base.decoders["pixels"].head,
        "vector": MLPDecoder(deter_dim=16, stoch_shape=(3, 4), vector_dim=2, layers=1, units=8),
    }
    world_model = WorldModel(encoder, rssm, decoders, base.reward.head, base.cont.head)
    records = random_records()
    records["vector"] = torch.randn(3, 5, 2) * 1e4
    found = world_model(records)
    found["feat"].sum().backward()
    assert world_model.observation_keys == ["pixels", "vector"]
    assert any(name.startswith("encoder") for name in gradients(world_model))
    shown = world_model.open_loop(records, 2)
    assert shown["recon", "vector"].shape == (3, 5, 2)
    assert shown["recon", "pixels"].shape == (3, 5, 3, 16, 16)


def test_in_open_loop_later_frames_change_nothing(fresh: WorldModel) -> None:
    records = random_records(2, 6)
    torch.manual_seed(1)
    one = fresh.open_loop(records, 3)
    blind = records.clone()
    blind["pixels"][:, 3:] = 0
    torch.manual_seed(1)
    two = fresh.open_loop(blind, 3)
    assert one["recon", "pixels"].shape == (2, 6, 3, 16, 16)
    assert torch.equal(one["recon", "pixels"], two["recon", "pixels"])
    assert one["reward"].shape == one["cont"].shape == (2, 6, 1)
    assert not one["recon", "pixels"].requires_grad


@pytest.mark.parametrize("context", [0, 6, 9])
def test_an_open_loop_needs_context_and_steps_to_predict(fresh: WorldModel, context: int) -> None:
    with pytest.raises(ValueError, match=f"less than the 6 records given, got {context}"):
        fresh.open_loop(random_records(2, 6), context)
