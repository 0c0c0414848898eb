"""Streaming and full context in one update: the divergence by its definition, both gradients."""

import pytest
import torch

from espnet_kd.errors import UserError
from espnet_kd.espnet.two_modes import mode_losses
from espnet_kd.spec.distillation import read_kd_conf
from tests.espnet.tiny import build, tiny_config
from tests.lattice.materialised import logits_of, random_joint, random_labels

BATCH = (
    torch.randn(2, 16000, generator=torch.Generator().manual_seed(1)) * 0.1,
    torch.tensor([16000, 12000]),
    torch.tensor([[3, 4, 5], [4, 3, -1]]),
    torch.tensor([3, 2]),
)
BOTH = {"two_modes": [1.0, 0.6]}


def test_the_divergence_and_its_gradient_are_those_of_all_nodes():
    t_len, u_len = torch.tensor([5, 3]), torch.tensor([2, 3])
    streaming = random_joint(2, 5, 3, 7, 4, seed=1)
    whole = streaming._replace(enc=random_joint(2, 5, 3, 7, 4, seed=2).enc)
    leaves = [streaming.enc, whole.enc, *streaming[1:4]]
    losses = mode_losses(streaming, whole, random_labels(2, 3, 7), (t_len, u_len))
    log_p, log_q = (logits_of(joint).log_softmax(-1) for joint in (streaming, whole))
    nodes = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1) / 2  # (B, T, U + 1)
    for b in range(2):
        T, U = int(t_len[b]), int(u_len[b])
        expected = nodes[b, :T, : U + 1].mean() * (T + U)  # the nodes of a path
        assert losses.between[b].item() == pytest.approx(expected.item(), rel=1e-6)
        grads = torch.autograd.grad(losses.between[b], leaves, retain_graph=True)
        wanted = torch.autograd.grad(expected, leaves, retain_graph=True)
        for ours, theirs in zip(grads, wanted):
            assert torch.allclose(ours, theirs, atol=1e-9)


def losses(kd, mode=True, **changes):
    model = build(tiny_config(**changes), kd).train(mode)
    torch.manual_seed(5)
    loss, stats, _ = model(*BATCH)
    loss.backward()
    return model, loss, stats


def test_both_modes_are_learnt_without_a_teacher():
    _, plain, without = losses({})
    model, loss, stats = losses(BOTH)
    parts = stats["loss_transducer_full"] + 0.6 * stats["loss_between_modes"]
    assert stats["loss_full_context"] == pytest.approx(float(parts), rel=1e-6)
    assert loss.item() == pytest.approx(plain.item() + float(parts), rel=1e-5)
    assert stats["loss_between_modes"] > 0 and "loss_full_context" not in without
    assert set(stats) - set(without) == {
        "loss_full_context", "loss_transducer_full", "loss_between_modes",
    }  # fmt: skip
    assert all(p.grad is not None for p in model.parameters())


def test_in_one_mode_there_is_nothing_between_them():
    """Validated with full context: both are the same network on the same features."""
    _, _, stats = losses({**BOTH, "valid_chunk_size": 0}, mode=False)
    assert 0 <= stats["loss_between_modes"] < 1e-9
    assert stats["loss_transducer_full"] == pytest.approx(float(stats["loss_transducer"]))


def test_what_is_refused_is_one_line():
    whole = tiny_config()["encoder_conf"]
    whole["main_conf"]["dynamic_chunk_training"] = False
    with pytest.raises(UserError, match="two_modes: the student's encoder hears the whole utt"):
        losses(BOTH, encoder_conf=whole)
    for value in (1, [1], [1, 0], [1, 2, 3], ["a", 1]):
        with pytest.raises(UserError, match="kd_conf.two_modes"):
            read_kd_conf({"two_modes": value})
    assert read_kd_conf({"two_modes": None}).two_modes is None
