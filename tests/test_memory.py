"""The memory of the loss does not grow with the vocabulary, but for the output layer's own.

Measured, not computed: the resident memory of a forked process. Nothing is timed.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espnet_kd.lattice import Joint
from espnet_kd.objective import Objective, distillation_losses
from espnet_kd.peak_memory import PeakMemory, in_child, return_freed_memory

B, T, U, D = 2, 120, 30, 32
MB = 2**20
REPO = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def peak(objective, vocabulary):
    """Bytes that forward and backward take; the models and their gradients are there before."""

    def measured():
        return_freed_memory()
        torch.set_num_threads(1)  # a forked process must not ask for its parent's threads
        torch.manual_seed(0)

        def joint():
            parts = torch.randn(B, T, D), torch.randn(B, U + 1, D), torch.randn(vocabulary, D)
            return Joint(*parts, torch.randn(vocabulary))

        student, teacher = joint(), joint()
        for part in student[:4]:
            part.requires_grad_().grad = torch.zeros_like(part)
        labels = torch.randint(1, vocabulary, (B, U))
        lattice = labels, torch.tensor([T, T - 20]), torch.tensor([U, U - 5])

        def step(*sizes):
            losses = distillation_losses(student, teacher, *sizes, Objective(objective))
            (losses.rnnt + losses.kd).sum().backward()

        step(labels, torch.tensor([2, 1]), torch.tensor([1, 0]))  # what libraries keep
        with PeakMemory("cpu") as used:
            step(*lattice)
        return used.used

    return in_child(measured)


@pytest.mark.parametrize("objective", ["collapsed", "full"])
def test_peak_memory_does_not_grow_with_the_vocabulary(objective):
    small, large = 2000, 8000
    nodes = T * (U + 1) + (T - 20) * (U - 4)
    # The gradient of the output layer, where it is summed and where it is handed on.
    output_layer = 4 * (large - small) * (D + 1)
    pages = 8 * MB  # by which resident memory varies from run to run, and rarely by more
    # In a process that other tests have not filled: what they leave hides some of a peak.
    code = (
        "from tests.test_memory import peak\n"
        f"print(*(peak('{objective}', {large}) - peak('{objective}', {small}) for _ in range(3)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert min(map(int, done.stdout.split())) < 3 * output_layer + pages
    # One lattice of either model grows by far more; the ordinary way needs 2 to 7.
    assert 3 * output_layer + pages < 0.1 * 4 * nodes * (large - small)
