"""Encoder distillation against loops over frames."""

import torch

from espnet_kd.losses import ctc_kl, encoder_distance

T_LEN = torch.tensor([5, 2, 1])


def tensors(width):
    torch.manual_seed(0)
    student = torch.randn(3, 5, width, dtype=torch.float64).requires_grad_()
    return student, torch.randn(3, 5, width, dtype=torch.float64)


def test_ctc_kl():
    student, teacher = tensors(7)
    expected = torch.zeros(3, dtype=torch.float64)
    for b in range(3):
        for t in range(T_LEN[b]):
            p, q = teacher[b, t].softmax(-1), student[b, t].softmax(-1)
            expected[b] += (p * (p / q).log()).sum()
    torch.testing.assert_close(ctc_kl(student, teacher, T_LEN), expected)
    assert torch.autograd.gradcheck(lambda x: ctc_kl(x, teacher, T_LEN), (student,))


def test_encoder_distance():
    student, teacher = tensors(4)
    own = torch.cat([teacher[b, : T_LEN[b]] for b in range(3)])  # all real frames
    variance = (own - own.mean(0)).square().sum(1).mean()
    expected = [
        (student[b, : T_LEN[b]] - teacher[b, : T_LEN[b]]).square().sum(1).mean() / variance
        for b in range(3)
    ]
    torch.testing.assert_close(encoder_distance(student, teacher, T_LEN), torch.stack(expected))
    assert torch.autograd.gradcheck(lambda x: encoder_distance(x, teacher, T_LEN), (student,))


def test_padding_has_no_influence():
    for loss in (ctc_kl, encoder_distance):
        student, teacher = tensors(6)
        reference = loss(student, teacher, T_LEN)
        padded, other = student.detach().clone(), teacher.clone()
        padded[1, 2:], other[1, 2:] = 1e6, float("nan")
        padded.requires_grad_()
        again = loss(padded, other, T_LEN)
        torch.testing.assert_close(again, reference)
        (grad,) = torch.autograd.grad(again.sum(), padded)
        assert torch.isfinite(grad).all() and grad[1, 2:].abs().max() == 0
