"""What a caller may hand the walk: other activations, layouts, precisions, modes."""

import copy

import pytest
import torch

from espnet_kd.lattice import Joint, node_stats, rnnt_loss
from espnet_kd.lattice.visits import best_path, occupancy
from espnet_kd.lattice.windows import follow
from espnet_kd.objective import Objective, Posteriors, distillation_losses
from tests.lattice.materialised import logits_of, random_joint, random_labels, three_of

B, T, U, V, D = 2, 6, 3, 9, 4
LABELS, T_LEN, U_LEN = random_labels(B, U, V), torch.tensor([6, 4]), torch.tensor([3, 1])
LATTICE = (LABELS, T_LEN, U_LEN)
SIZE = {"B": B, "T": T, "U": U, "V": V, "D": D}


def whole_loss(joint):
    """Everything materialised."""
    return rnnt_loss(three_of(logits_of(joint), LABELS, U_LEN)[..., :2], T_LEN, U_LEN).sum()


def walked_loss(joint):
    return rnnt_loss(node_stats(joint, *LATTICE)[..., :2], T_LEN, U_LEN).sum()


@pytest.mark.parametrize(
    "activation, reference",
    [
        (torch.nn.ReLU(inplace=True), torch.relu),
        (lambda z: torch.nn.functional.silu(z, inplace=True), torch.nn.functional.silu),
        (lambda z: z.tanh_(), torch.tanh),
    ],
)
def test_an_activation_that_works_in_place(activation, reference):
    joint = random_joint(**SIZE)
    got = torch.autograd.grad(walked_loss(joint._replace(activation=activation)), joint[:4])
    want = torch.autograd.grad(whole_loss(joint._replace(activation=reference)), joint[:4])
    torch.testing.assert_close(got, want)


def test_the_parameters_of_an_activation_get_their_gradients():
    prelu = torch.nn.PReLU(D).double()
    joint = random_joint(**SIZE)._replace(activation=prelu)
    rows = copy.deepcopy(prelu)  # its units are the second dimension
    flat = joint._replace(activation=lambda z: rows(z.flatten(0, -2)).view_as(z))
    got = torch.autograd.grad(walked_loss(joint), [*joint[:4], prelu.weight])
    want = torch.autograd.grad(whole_loss(flat), [*joint[:4], rows.weight])
    torch.testing.assert_close(got, want)
    frozen = joint._replace(activation=copy.deepcopy(prelu).requires_grad_(False))
    torch.testing.assert_close(torch.autograd.grad(walked_loss(frozen), joint[:4]), got[:4])
    losses = distillation_losses(random_joint(**SIZE, seed=1), joint, *LATTICE)
    assert torch.autograd.grad(losses.kd.sum(), prelu.weight, allow_unused=True) == (None,)


@pytest.mark.parametrize(
    "activation, message",
    [
        (lambda z: z * torch.ones(1, requires_grad=True), "give it as a torch.nn.Module"),
        (torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Dropout()), "Dropout gives other values"),
    ],
)
def test_an_activation_without_a_right_gradient_is_refused(activation, message):
    joint = random_joint(**SIZE)._replace(activation=activation)
    with pytest.raises(ValueError, match=message):
        node_stats(joint, *LATTICE)


@pytest.mark.parametrize("objective", ["none", "collapsed", "full", "top_k"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_forwards_is_autocast_backwards(dtype, objective):
    """Wherever `backward` is called; and the gradients have the types of their tensors."""
    joint, teacher = (random_joint(**SIZE, dtype=torch.float32, seed=s) for s in (0, 1))
    told = None if objective == "none" else teacher
    options = Objective("collapsed" if objective == "none" else objective, top_k=8)

    def gradients(inside):
        with torch.autocast("cpu", dtype):
            losses = distillation_losses(joint, told, *LATTICE, options)
            loss = losses.rnnt.sum() + (0.0 if losses.kd is None else losses.kd.sum())
            if inside:
                return torch.autograd.grad(loss, joint[:4])
        return torch.autograd.grad(loss, joint[:4])

    inside, outside = gradients(True), gradients(False)
    losses = distillation_losses(joint, told, *LATTICE, options)
    exact = losses.rnnt.sum() + (0.0 if losses.kd is None else losses.kd.sum())
    for a, b, c in zip(inside, outside, torch.autograd.grad(exact, joint[:4])):
        assert a.dtype == torch.float32 and torch.equal(a, b)
        assert (a - c).norm() <= 0.05 * c.norm()


def test_parts_of_several_types_are_promoted():
    joint = random_joint(**SIZE, dtype=torch.float32)
    mixed = joint._replace(enc=joint.enc.bfloat16(), dec=joint.dec.bfloat16())
    for grad, part in zip(torch.autograd.grad(walked_loss(mixed), mixed[:4]), mixed[:4]):
        assert grad.dtype == part.dtype


def turned(x):
    """The same numbers, stored in another order."""
    return x.detach().transpose(-2, -1).contiguous().transpose(-2, -1).requires_grad_()


def arcs_grad(three):
    arcs = three[..., :2].contiguous().requires_grad_()
    return torch.autograd.grad(rnnt_loss(arcs, T_LEN, U_LEN).sum(), arcs)[0]


@pytest.mark.parametrize("objective", ["collapsed", "full", "top_k"])
@pytest.mark.parametrize("activation", [None, torch.relu])
def test_tensors_in_any_layout(objective, activation):
    joint, teacher = (random_joint(**SIZE, seed=s)._replace(activation=activation) for s in (0, 1))
    options = Objective(objective)

    def results(student, teacher, labels):
        losses = distillation_losses(student, teacher, labels, T_LEN, U_LEN, options)
        loss = losses.rnnt.sum() + losses.kd.sum()
        return [loss, losses.agreement, *torch.autograd.grad(loss, student[:4])]

    want, labels = results(joint, teacher, LABELS), LABELS.t().contiguous().t()
    for names in (["enc"], ["dec"], ["weight"], ["enc", "dec", "weight"]):
        others = (
            x._replace(**{name: turned(getattr(x, name)) for name in names})
            for x in (joint, teacher)
        )
        torch.testing.assert_close(results(*others, labels), want)
    if objective == "collapsed":
        three = node_stats(teacher, *LATTICE).detach()
        cached = results(joint, Posteriors(turned(three).detach()), LABELS)
        torch.testing.assert_close(cached, results(joint, teacher, LABELS))
        arcs = turned(three[..., :2])
        torch.testing.assert_close(
            torch.autograd.grad(rnnt_loss(arcs, T_LEN, U_LEN).sum(), arcs)[0],
            arcs_grad(three),
        )


@pytest.mark.parametrize("nodes", ["occupancy", "one_best"])
@pytest.mark.parametrize("lattice", ["full", "band"])
def test_inference_mode(nodes, lattice):
    student, teacher = random_joint(**SIZE), random_joint(**SIZE, seed=1)
    options = Objective(nodes=nodes, lattice=lattice)
    want = distillation_losses(student, teacher, *LATTICE, options)
    with torch.inference_mode():
        got = distillation_losses(student, teacher, *LATTICE, options)
        two = three_of(logits_of(teacher), LABELS, U_LEN)[..., :2]
        assert occupancy(two, T_LEN, U_LEN).sum() == pytest.approx(float((T_LEN + U_LEN).sum()))
        assert best_path(two, T_LEN, U_LEN).sum() == (T_LEN + U_LEN).sum()
    torch.testing.assert_close([got.rnnt, got.kd], [want.rnnt, want.kd])


def parts(**changed):
    """A joint network of which some parts are of other sizes."""
    sizes = {"enc": (B, T, D), "dec": (B, U + 1, D), "weight": (V, D), "bias": (V,)}
    return Joint(*(torch.zeros(size) for size in {**sizes, **changed}.values()))


WALKS = {
    "stats": lambda joint, *lattice: node_stats(joint, *lattice),
    "windows": lambda joint, *lattice: follow(joint, *lattice, rows=2),
    "alone": lambda joint, *lattice: distillation_losses(joint, None, *lattice),
    "taught": lambda joint, *lattice: distillation_losses(parts(), joint, *lattice),
    "full": lambda joint, *lattice: distillation_losses(
        parts(), joint, *lattice, Objective("full")
    ),
    "band": lambda joint, *lattice: distillation_losses(
        parts(), joint, *lattice, Objective(lattice="band")
    ),
}


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
@pytest.mark.parametrize(
    "changed",
    [
        {"dec": (B + 1, U + 1, D)},
        {"dec": (1, U + 1, D)},
        {"dec": (B, U + 1, D + 1)},
        {"weight": (V, D + 1)},
        {"bias": (1,)},
        {"enc": (B, D)},
    ],
)
def test_parts_that_do_not_fit_are_refused(changed, walk):
    with pytest.raises(ValueError, match="must have shapes .B, T, D., .*: got .*, .*, .*, "):
        walk(parts(**changed), *LATTICE)


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
@pytest.mark.parametrize(
    "labels, message",
    [
        (LABELS[:, :2], r"have shape \(2, U\), U at least 3, the largest of u_len: got \(2, 2\)"),
        (LABELS[:1], r"have shape \(2, U\), .*: got \(1, 3\)"),
        (LABELS[[0, 1, 1]], r"have shape \(2, U\), .*: got \(3, 3\)"),
        (LABELS[0], r"have shape \(2, U\), .*: got \(3,\)"),
        (torch.full_like(LABELS, V), r"lie in \[0, 8\], .* 9 tokens: got \[9\]"),
        (torch.full_like(LABELS, -2), r"lie in \[0, 8\], .* 9 tokens: got \[-2\]"),
    ],
)
def test_labels_that_are_none_are_refused(labels, message, walk):
    with pytest.raises(ValueError, match=f"labels must {message}"):
        walk(parts(), labels, T_LEN, U_LEN)


def test_labels_in_the_padding_and_further_ones_do_not_matter():
    joint = random_joint(**SIZE)
    want = node_stats(joint, *LATTICE)
    labels = torch.cat([LABELS, torch.full((B, 2), V)], 1)  # (B, U + 2)
    labels[1, 1:] = -1
    assert torch.equal(node_stats(joint, labels, T_LEN, U_LEN), want)
    fewer = LABELS[1:, :1], T_LEN[1:], U_LEN[1:]  # what the lengths say is there
    joint = joint._replace(enc=joint.enc[1:], dec=joint.dec[1:])
    assert torch.equal(node_stats(joint, *fewer), want[1:])


def test_a_cache_whose_weights_are_of_other_nodes_is_refused():
    three = node_stats(random_joint(**SIZE), *LATTICE).detach()
    teacher = Posteriors(three, torch.ones(B, 1, 1))
    with pytest.raises(ValueError, match="a cache of nodes .2, 6, 4. has weights of .2, 1, 1."):
        distillation_losses(random_joint(**SIZE), teacher, *LATTICE)
