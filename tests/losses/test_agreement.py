"""Agreement of teacher and student, against enumeration of the teacher's paths."""

import pytest
import torch

from espnet_kd.lattice import node_stats
from espnet_kd.lattice.visits import best_path
from espnet_kd.losses import agreement
from espnet_kd.objective import Objective, Posteriors, distillation_losses
from tests.lattice.materialised import logits_of, three_of
from tests.lattice.test_visits import all_paths
from tests.test_objective import IDS, LABELS, LATTICE, OBJECTIVES, T_LEN, U_LEN, B, T, joints


def shifted(three, shift):
    source = (torch.arange(T) - shift).clamp(0, T - 1)
    return three[:, source]


def reference(objective, student, teacher):
    """As it reads in the docstring."""
    tau = 1.0 if objective.objective == "full_sum" else objective.temperature
    own, other = (three_of(logits_of(x) / tau, LABELS, U_LEN) for x in (student, teacher))
    other = shifted(other, 0 if objective.objective == "full_sum" else objective.frame_shift)
    found = []
    for b in range(B):
        paths = all_paths(other[b, ..., :2], int(T_LEN[b]), int(U_LEN[b]))
        nodes = max(paths, key=lambda path: path[0])[1]
        same = [own[b, t, u].argmax() == other[b, t, u].argmax() for t, u in nodes]
        found.append(sum(map(float, same)) / len(nodes))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=IDS)
def test_agreement_is_what_it_says(objective):
    student, teacher = joints()
    got = distillation_losses(student, teacher, *LATTICE, objective, budget=700).agreement
    torch.testing.assert_close(got, reference(objective, student, teacher), check_dtype=False)
    assert not got.requires_grad
    twice = distillation_losses(student, [(teacher, 0.3), (student, 0.7)], *LATTICE, objective)
    torch.testing.assert_close(twice.agreement, got)
    own = distillation_losses(teacher, teacher, *LATTICE, objective)
    if objective.frame_shift == 0:
        assert own.agreement.tolist() == [1.0] * B


def test_what_a_cache_does_not_hold_is_no_part_of_the_path():
    student, teacher = joints()
    three = node_stats(teacher, *LATTICE)
    whole = agreement(node_stats(student, *LATTICE), three, T_LEN, U_LEN)
    cached = distillation_losses(student, Posteriors(three), *LATTICE)
    torch.testing.assert_close(cached.agreement, whole)
    held = torch.ones(three.shape[:3], dtype=three.dtype)
    held[0, 1:, 0] = held[0, :2, 3] = 0.0  # rows of the first utterance
    band = three.masked_fill((held == 0)[..., None], 0.0)  # as `unpack` fills them
    got = distillation_losses(student, Posteriors(band, held), *LATTICE).agreement
    torch.testing.assert_close(got[1:], whole[1:])
    forbidden = torch.where((held == 0)[..., None], -1e3, three)

    def on_held_nodes(student, teacher, held):
        """Of the best path among what is held, the nodes that are."""
        path = best_path(teacher[..., :2], T_LEN, U_LEN) * held
        same = (student.argmax(-1) == teacher.argmax(-1)) * path
        return same.sum((1, 2)) / path.sum((1, 2))

    stats = node_stats(student, *LATTICE)
    torch.testing.assert_close(got, on_held_nodes(stats, forbidden, held))
    # Shifted in time, the teacher's rows and what it holds of them move together.
    objective = Objective(frame_shift=1)
    got = distillation_losses(student, Posteriors(band, held), *LATTICE, objective).agreement
    torch.testing.assert_close(got, on_held_nodes(stats, shifted(forbidden, 1), shifted(held, 1)))


def test_a_model_agrees_with_itself_whatever_a_cache_holds():
    """The rows that it lacks are no disagreement."""
    model, _ = joints()
    three = node_stats(model, *LATTICE).detach()
    for seed in range(5):
        held = torch.rand(three.shape[:3], generator=torch.Generator().manual_seed(seed)) < 0.5
        band = Posteriors(three.masked_fill(~held[..., None], 0.0), held.to(three.dtype))
        assert distillation_losses(model, band, *LATTICE).agreement.tolist() == [1.0] * B


def test_there_is_none_without_a_teacher():
    student, _ = joints()
    assert distillation_losses(student, None, *LATTICE).agreement is None
