"""Which of a teacher's blocks and weights matter."""

from typing import Callable, Dict, List, Mapping, Optional, Sequence

import torch


def spaced_blocks(teacher: int, student: int) -> List[int]:
    """Choose evenly spaced blocks; the first and the last are always among them.

    >>> spaced_blocks(12, 5)
    [0, 3, 6, 8, 11]
    """
    if student == 1:
        return [teacher - 1]
    return [int(i * (teacher - 1) / (student - 1) + 0.5) for i in range(student)]


def most_important(scores: Sequence[float], n: int) -> List[int]:
    """Choose the `n` blocks with the highest scores, in their order; the earlier of equals.

    >>> most_important([0.3, 0.1, 0.2], 2)
    [0, 2]
    """
    return sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:n])


def fitting_blocks(
    preferred: Sequence[int], blocks: int, fits: Callable[[int, int], bool]
) -> Optional[List[int]]:
    """Choose blocks, in their order, of which each fits its place in the student.

    Args:
        preferred: The teacher's block for each of the student's, if all fit.
        blocks: Blocks of the teacher.
        fits: Whether (the student's block, the teacher's) go together.

    Returns:
        From the first to the last the block nearest to the preferred one that leaves blocks
        for the rest; None if no choice fits.

    >>> fitting_blocks([0, 2], 3, lambda student, teacher: teacher != 2)
    [0, 1]
    """
    latest, bound = [0] * len(preferred), blocks  # the last choice that leaves the rest one
    for j in reversed(range(len(preferred))):
        bound = next((i for i in reversed(range(bound)) if fits(j, i)), -1)
        latest[j] = bound
    if bound < 0:
        return None
    chosen: List[int] = []
    for j, wanted in enumerate(preferred):
        first = chosen[-1] + 1 if chosen else 0
        free = [i for i in range(first, latest[j] + 1) if fits(j, i)]
        chosen.append(min(free, key=lambda i: abs(i - wanted)))
    return chosen


def change_of_direction(x: torch.Tensor, y: torch.Tensor, t_len: torch.Tensor) -> torch.Tensor:
    """Compute how far a block turns every frame, 1 - cos(x, y).

    Its mean over the frames of a data set is the block influence of Men et al. 2024
    ("ShortGPT", arXiv 2403.03853, equation 1): a block that hardly turns its input can be
    left out.

    Args:
        x: Input of the block. (B, T, D)
        y: Output of the block. (B, T, D)
        t_len: Frames; padding has no part in it. (B,)

    Returns:
        One number a frame, 0 to 2. (sum of t_len,)
    """
    real = torch.arange(x.size(1), device=x.device) < t_len[:, None]  # (B, T)
    return 1 - torch.cosine_similarity(x[real], y[real], dim=-1)


def frame_change(enc: torch.Tensor, t_len: torch.Tensor) -> torch.Tensor:
    """Weigh frames by how far the encoder's output has moved since the frame before.

    After Interspeech 2026's DiffAQ, of which we know the abstract alone: it weighs frames by how
    much they change where weights are rounded. The measure is ours.

    Args:
        enc: Encoder output. (B, T, D)
        t_len: Frames. (B,)

    Returns:
        Weights with mean 1 over the frames of an utterance, 0 in padding; the first frame counts
        as the second. (B, T)
    """
    moved = (enc[:, 1:] - enc[:, :-1]).detach().double().norm(dim=-1)  # (B, T - 1)
    moved = torch.cat([moved[:, :1], moved], dim=1) if moved.size(1) else enc[..., 0].double() * 0
    real = torch.arange(enc.size(1), device=enc.device) < t_len[:, None]  # (B, T)
    moved = (moved + 1e-12) * real  # frames that are all alike count alike
    return (moved * t_len[:, None] / moved.sum(1, keepdim=True)).to(enc.dtype)


def weight_scores(state: Mapping[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    """Score weights by their square.

    Vectors are left out: norm layers have a weight near one for every unit, which says
    nothing.

    Args:
        state: State dict of the teacher.

    Returns:
        A score for each element, by the parameter's name.
    """
    return {name: w.double().square() for name, w in state.items() if w.dim() > 1}


class TaylorScores:
    """Score weights by what the loss loses without them, to first order.

    The squared product of weight and gradient, averaged over batches (Molchanov et al. 2019,
    arXiv 1906.10771, equation 8).

    Args:
        parameters: The teacher's parameters by name.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self.parameters = dict(parameters)
        self.batches = 0
        self.sums = {name: torch.zeros_like(p).double() for name, p in self.parameters.items()}

    def add(self, loss: torch.Tensor) -> None:
        """Take in a batch.

        Args:
            loss: Mean loss of the batch, differentiable. ()
        """
        grads = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True)
        self.batches += 1
        for (name, p), grad in zip(self.parameters.items(), grads):
            if grad is not None:
                self.sums[name] += self._of(p.detach().double(), grad).square()

    def mean(self) -> Dict[str, torch.Tensor]:
        """Return a score for each element, by the parameter's name."""
        return {name: total / self.batches for name, total in self.sums.items()}

    def _of(self, weight: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
        """Return what is squared."""
        return weight * grad


class SquaredGradients(TaylorScores):
    """Score weights by how steep the loss is in them, squared.

    Times half of a squared error it is what the error costs, where the mean square of the
    gradients stands for the loss's curvature (empirical Fisher).
    """

    def _of(self, weight: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
        return grad.double()
