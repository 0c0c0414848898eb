"""Two processes give the gradient of one, and count errors together."""

import functools
import os
import socket
import sys
from pathlib import Path

import pytest
import torch

from espnet_kd.espnet.dev_wer import DevWer
from espnet_kd.scoring.counts import Counts
from tests.espnet.tiny import build, tiny_config
from tests.methods.toy_students import as_trained, derive
from tests.recipe.toy import TRAINING, inside, write_teacher, write_yaml


def big_batch():
    """Four utterances; ranks take two each, of other lengths and padding."""
    torch.manual_seed(3)
    lengths = torch.tensor([16000, 9000, 12000, 7000])
    text_lengths = torch.tensor([4, 2, 1, 3])
    text = torch.randint(2, 6, (4, 4))
    text[torch.arange(4) >= text_lengths[:, None]] = -1
    return 0.1 * torch.randn(4, 16000), lengths, text, text_lengths


def gradients(model, rows):
    speech, lengths, text, text_lengths = (x[rows] for x in big_batch())
    loss = model(speech[:, : lengths.max()], lengths, text[:, : text_lengths.max()], text_lengths)[
        0
    ]
    loss.sum().backward()


def student(kd):
    # Without batch statistics and dropout, which differ between a batch and its halves.
    return build(tiny_config(), kd, seed=5).eval()


def error_rates(rank):
    """Errors of the student: 1 of 4 words and 6 of 8; of the teacher: 3 of 5 and none of 5."""
    dev = DevWer(2, processes=2)
    dev.student = [Counts(3, 1), Counts(2, 4, 2)][rank]
    dev.teacher = [Counts(3, 2, 0, 1), Counts(5)][rank]
    return dev.figures(True, 0)


def cascade(folder):
    """A derived student with a second exit, as it is trained, in validation's chunks."""
    return as_trained(folder, folder / "init.pth")[0]


def rank_main(rank, port, make, out):
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://localhost:{port}", rank=rank, world_size=2
    )
    model = make()
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    gradients(wrapped, slice(2 * rank, 2 * rank + 2))
    torch.save(error_rates(rank), f"{out}.rates{rank}")
    if rank == 0:
        torch.save({n: p.grad for n, p in model.named_parameters()}, out)
    torch.distributed.destroy_process_group()


def gradient_of_two(make, out):
    """Train a batch in two processes, half each; return the gradient of the first."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    torch.multiprocessing.spawn(rank_main, (port, make, str(out)), nprocs=2)
    return torch.load(out, weights_only=True)


def assert_as_one(make, out):
    together, model = gradient_of_two(make, out), make()
    gradients(model, slice(0, 4))
    assert set(together) == {n for n, _ in model.named_parameters()}
    for name, p in model.named_parameters():
        # The end of a padded utterance sees zeros where reflection would be: hence 1e-3.
        assert (together[name] - p.grad).norm() <= 1e-3 * p.grad.norm() + 1e-6, name
    return together


def test_two_processes_give_the_gradient_and_the_error_rates_of_one(kd, tmp_path):
    out = tmp_path / "grads.pth"
    together = assert_as_one(functools.partial(student, kd), out)
    assert not any("teacher" in name for name in together)
    for rank in range(2):
        rates = torch.load(f"{out}.rates{rank}", weights_only=True)
        assert rates == pytest.approx({"wer": 100 * 7 / 12, "wer_teacher": 30})


@pytest.mark.parametrize("strict", [False, True])
def test_both_exits_of_a_cascade_learn_in_two_processes(tmp_path, strict):
    options = {"lookahead_blocks": 1, "lookahead": 4, "strict": strict}
    sizes = {"encoder": {"num_blocks": 2, "linear_size": 12}}
    with inside(tmp_path):
        write_teacher(Path("teacher"))
        write_yaml("train.yaml", TRAINING)
        code, err = derive("student", {"student": sizes, "method_conf": {"cascade": options}})
        assert code == 0, err
    make = functools.partial(cascade, tmp_path / "student")
    together = assert_as_one(make, tmp_path / "grads.pth")
    upper = [g for name, g in together.items() if name.startswith("kd_cascade.")]
    assert upper and all(g.abs().sum() > 0 for g in upper)
