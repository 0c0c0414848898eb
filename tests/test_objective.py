"""The public function: every objective against a materialised reference."""

import pytest
import torch

from espnet_kd.errors import UserError
from espnet_kd.lattice import Joint, node_mask, node_stats
from espnet_kd.objective import Objective, Posteriors, distillation_losses
from espnet_kd.spec.distillation import read_kd_conf
from tests.lattice.materialised import logits_of, random_joint, random_labels, three_of
from tests.lattice.test_visits import all_paths

B, T, U, V = 3, 5, 3, 8
LABELS = random_labels(B, U, V)
T_LEN, U_LEN = torch.tensor([5, 4, 1]), torch.tensor([3, 0, 2])
LATTICE = (LABELS, T_LEN, U_LEN)

OBJECTIVES = [
    Objective("collapsed"),
    Objective("full", "reverse"),
    Objective("top_k", top_k=1),
    Objective("top_k", "symmetric", top_k=4, temperature=2.0),
    Objective("top_k", "reverse", top_k=V - 1),
    Objective("full_sum"),
    Objective("collapsed", nodes="one_best", normalize="sum"),
    Objective("collapsed", nodes="occupancy", temperature=3.0),
    Objective("full", nodes="one_best", frame_shift=2),
    Objective("full", nodes="occupancy", normalize="node"),
    Objective("collapsed", frame_shift=1),
    Objective("full", "symmetric", frame_shift=-1, temperature=0.5),
]
IDS = [
    f"{o.objective}-{o.divergence}-{o.nodes}-{o.temperature}-{o.frame_shift}" for o in OBJECTIVES
]


def joints(dtype=torch.float64):
    size = {"B": B, "T": T, "U": U, "V": V, "dtype": dtype}
    return random_joint(**size), random_joint(**size, D=9, seed=1)


def paths_of(logits, b):
    three = three_of(logits, LABELS, U_LEN)
    return list(all_paths(three[b, ..., :2], int(T_LEN[b]), int(U_LEN[b])))


def node_weights(teacher_logits, nodes, b):
    """By enumeration of all paths of the teacher. {(t, u): weight}"""
    frames, labels = int(T_LEN[b]), int(U_LEN[b])
    if nodes == "all":
        return {(t, u): 1.0 for t in range(frames) for u in range(labels + 1)}
    paths = paths_of(teacher_logits, b)
    if nodes == "one_best":
        return dict.fromkeys(max(paths, key=lambda path: path[0])[1], 1.0)
    total = torch.logsumexp(torch.tensor([p for p, _ in paths], dtype=torch.float64), 0)
    weights = {}
    for p, visited in paths:
        for node in visited:
            weights[node] = weights.get(node, 0.0) + float(torch.exp(p - total))
    return weights


def classes(objective, logits, teacher_logits, b, u):
    """The groups of tokens that are told apart at a node."""
    everything = list(range(V))
    if objective.objective == "full":
        return [[v] for v in everything]
    if objective.objective == "collapsed":
        own = [0] if u == U_LEN[b] else [0, int(LABELS[b, u])]
    else:
        own = teacher_logits.topk(objective.top_k).indices.tolist()
    return [[v] for v in own] + [[v for v in everything if v not in own]]


def reference(objective, student, teacher):
    """Each utterance's distillation loss, as it reads in the docstring of `Objective`."""
    s, t = logits_of(student), logits_of(teacher).detach()
    tau = objective.temperature
    losses = []
    for b in range(B):
        frames, labels = int(T_LEN[b]), int(U_LEN[b])
        if objective.objective == "full_sum":
            log_p = []
            for logits in (t, s):
                two = three_of(logits, LABELS, U_LEN)[b]
                total = torch.tensor(float("-inf"), dtype=two.dtype)
                for _, nodes in all_paths(two[..., :2], frames, labels):
                    arcs = [
                        two[i, j, 0] if k > i else two[i, j, 1]
                        for (i, j), (k, _) in zip(nodes, nodes[1:] + [(frames, labels)])
                    ]
                    total = torch.logaddexp(total, torch.stack(arcs).sum())
                log_p.append(total)
            losses.append((log_p[0] - log_p[1]) ** 2 / (frames + labels))
            continue
        total = mass = 0.0
        for (t0, u), weight in node_weights(t, objective.nodes, b).items():
            frame = t0 + objective.frame_shift  # of the student
            if not 0 <= frame < frames:
                continue
            p = (t[b, t0, u] / tau).softmax(-1)
            q = (s[b, frame, u] / tau).softmax(-1)
            groups = classes(objective, s[b, frame, u], t[b, t0, u], b, u)
            p = torch.stack([p[g].sum() for g in groups])
            q = torch.stack([q[g].sum() for g in groups])
            forward, reverse = (p * (p / q).log()).sum(), (q * (q / p).log()).sum()
            kl = {"forward": forward, "reverse": reverse, "symmetric": (forward + reverse) / 2}
            total, mass = total + weight * kl[objective.divergence], mass + weight
        scale = {
            "sum": 1.0,
            "node": 1 / mass if mass else 0,
            "path": (frames + labels) / (mass or 1),
        }
        losses.append(tau**2 * total * scale[objective.normalize] + 0 * s.sum())
    return torch.stack([torch.as_tensor(loss) for loss in losses])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=IDS)
@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_equals_the_readable_reference(objective, dtype, rtol):
    student, teacher = joints(dtype)
    exact, exact_teacher = joints()
    kd = distillation_losses(student, teacher, *LATTICE, objective).kd
    expected = reference(objective, exact, exact_teacher)
    torch.testing.assert_close(kd.double(), expected, rtol=rtol, atol=rtol)
    got = torch.autograd.grad(kd.sum(), student[:4])
    want = torch.autograd.grad(expected.sum(), exact[:4])
    for a, b in zip(got, want):
        assert (a - b).norm() <= rtol * b.norm()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=IDS)
def test_gradcheck(objective):
    student, teacher = joints()

    def loss(*parts):
        losses = distillation_losses(Joint(*parts), teacher, *LATTICE, objective, budget=1)
        return losses.rnnt, losses.kd

    # Along random directions: the reference above is compared number by number.
    assert torch.autograd.gradcheck(loss, student[:4], fast_mode=True)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=IDS)
def test_padding_and_batch_order_do_not_matter(objective):
    student, teacher = joints()
    reference = distillation_losses(student, teacher, *LATTICE, objective)
    for filler in (1e3, float("nan")):
        padded = []
        for joint in (student, teacher):
            enc, dec = joint.enc.detach().clone(), joint.dec.detach().clone()
            enc[1, 4:], enc[2, 1:], dec[1, 1:], dec[2, 3:] = (filler,) * 4
            padded.append(joint._replace(enc=enc, dec=dec))
        again = distillation_losses(*padded, *LATTICE, objective)
        torch.testing.assert_close(again.kd, reference.kd)
        torch.testing.assert_close(again.rnnt, reference.rnnt)
    order = torch.tensor([2, 0, 1])
    moved = [j._replace(enc=j.enc[order], dec=j.dec[order]) for j in (student, teacher)]
    again = distillation_losses(*moved, LABELS[order], T_LEN[order], U_LEN[order], objective)
    torch.testing.assert_close(again.kd, reference.kd[order])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=IDS)
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits_stay_finite(objective, scale):
    student, teacher = joints(torch.float32)
    with torch.no_grad():
        student.weight.mul_(scale)
        teacher.weight.mul_(-scale)
    losses = distillation_losses(student, teacher, *LATTICE, objective)
    assert torch.isfinite(losses.rnnt).all() and torch.isfinite(losses.kd).all()
    for grad in torch.autograd.grad(losses.rnnt.sum() + losses.kd.sum(), student[:4]):
        assert torch.isfinite(grad).all()


NEVER = {
    "blank": 0,
    "a label": int(LABELS[0, 1]),
    "another token": next(v for v in range(1, V) if not (LABELS == v).any()),
}


@pytest.mark.parametrize("token", NEVER.values(), ids=NEVER)
@pytest.mark.parametrize("whose", ["student", "teacher", "both"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=IDS)
def test_what_a_model_can_never_say_gives_no_nan(objective, whose, token):
    """Logits of -inf. The RNN-T loss of a transcript that cannot be said is infinite."""
    student, teacher = joints(torch.float32)
    with torch.no_grad():
        for joint, name in ((student, "student"), (teacher, "teacher")):
            if whose in (name, "both"):
                joint.bias[token] = float("-inf")
    losses = distillation_losses(student, teacher, *LATTICE, objective)
    assert not losses.rnnt.isnan().any() and torch.isfinite(losses.kd).all()
    if whose == "teacher" or token == NEVER["another token"]:
        assert torch.isfinite(losses.rnnt).all()
    for loss in (losses.rnnt, losses.kd):
        for grad in torch.autograd.grad(loss.sum(), student[:4], retain_graph=True):
            assert torch.isfinite(grad).all()


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if o.objective == "collapsed"])
def test_a_cache_serves_as_well_as_the_teacher(objective):
    student, teacher = joints()
    three = node_stats(teacher, *LATTICE).detach()
    cached = Posteriors(three)
    if objective.temperature != 1:
        with pytest.raises(ValueError, match="at temperature 1"):
            distillation_losses(student, cached, *LATTICE, objective)
        return
    a = distillation_losses(student, teacher, *LATTICE, objective).kd
    b = distillation_losses(student, cached, *LATTICE, objective).kd
    # A node that lies elsewhere in a vector register may differ in its last bit.
    rtol = 1e-14 if objective.frame_shift else 0
    torch.testing.assert_close(a, b, rtol=rtol, atol=0)


def test_nodes_that_a_cache_does_not_hold_count_nothing():
    student, teacher = joints()
    three = node_stats(teacher, *LATTICE).detach()
    held = torch.ones(B, T, U + 1, dtype=three.dtype)
    held[:, 3] = 0
    broken = three.clone()
    broken[:, 3] = float("nan")
    kd = distillation_losses(student, Posteriors(broken, held), *LATTICE).kd
    nodes = node_stats(student, *LATTICE)
    p, q = three.exp(), nodes
    kl = torch.where(p > 0, p * (three - q), 0.0).sum(-1)
    mask = node_mask(T_LEN, U_LEN, kl.shape) & (held > 0)
    expected = torch.where(mask, kl, 0.0).sum((1, 2)) / mask.sum((1, 2)) * (T_LEN + U_LEN)
    torch.testing.assert_close(kd, expected)


def test_without_a_teacher_there_is_no_distillation_loss():
    student, teacher = joints()
    alone = distillation_losses(student, None, *LATTICE)
    assert alone.kd is None
    both = distillation_losses(student, teacher, *LATTICE)
    torch.testing.assert_close(alone.rnnt, both.rnnt, rtol=0, atol=0)


def test_nothing_flows_into_the_teacher():
    student, teacher = joints()
    for objective in OBJECTIVES:
        kd = distillation_losses(student, teacher, *LATTICE, objective).kd
        grads = torch.autograd.grad(kd.sum(), teacher[:4], allow_unused=True)
        assert grads == (None,) * 4


@pytest.mark.parametrize("objective", OBJECTIVES, ids=IDS)
def test_fastemit_is_a_matter_of_the_rnnt_loss_alone(objective):
    student, teacher = joints()
    plain, fast = (
        distillation_losses(student, teacher, *LATTICE, objective, fastemit_lambda=x)
        for x in (0.0, 0.5)
    )
    for loss, same in ((lambda x: x.kd, True), (lambda x: x.rnnt, False)):
        a, b = (torch.autograd.grad(loss(x).sum(), student[:4], retain_graph=True)[0]
                for x in (plain, fast))  # fmt: skip
        assert torch.equal(a, b) == same


@pytest.mark.parametrize("objective", OBJECTIVES, ids=IDS)
def test_several_teachers_are_a_mix(objective):
    """Loss and gradient of the mix are the mix of both; a share of 1 is that teacher alone."""
    student, teacher = joints()
    other = random_joint(B, T, U, V, D=5, seed=2, dtype=torch.float64)

    def loss_and_gradient(teachers):
        losses = distillation_losses(student, teachers, *LATTICE, objective)
        grads = torch.autograd.grad(losses.kd.sum(), student[:4], retain_graph=True)
        both = torch.autograd.grad((losses.rnnt + losses.kd).sum(), student[:4])
        return [losses.rnnt, losses.kd, *grads, *both]

    a, b = loss_and_gradient(teacher), loss_and_gradient(other)
    for shares, alone in (((1.0, 0.0), a), ((0.0, 1.0), b)):
        for got, want in zip(loss_and_gradient([*zip((teacher, other), shares)]), alone):
            assert torch.equal(got, want)
    mixed = loss_and_gradient([(teacher, 0.7), (other, 0.3)])
    for got, x, y in zip(mixed, a, b):
        torch.testing.assert_close(got, 0.7 * x + 0.3 * y)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"objective": "colapsed"}, "objective must be one of"),
        ({"divergence": "backward"}, "divergence must be one of"),
        ({"nodes": "some"}, "nodes must be one of"),
        ({"normalize": "mean"}, "normalize must be one of"),
        ({"temperature": 0.0}, "temperature must be positive"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Objective(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "full_sum", "temperature": 2.0},
        {"objective": "full_sum", "nodes": "occupancy"},
        {"objective": "full_sum", "normalize": "sum"},
        {"objective": "full_sum", "frame_shift": 1},
        {"objective": "full_sum", "divergence": "reverse"},
        {"lattice": "band", "frame_shift": 1},
        {"band_kept": 0.9},
        {"band_rows": 3},
    ],
)
def test_options_that_would_be_passed_over_are_refused(options):
    name = list(options)[-1]
    with pytest.raises(ValueError, match=f"^{name}: found '.*', which .* has no use for"):
        distillation_losses(*joints(), *LATTICE, Objective(**options))
    conf = {"objective": "collapsed", "teacher_config": "a", "teacher_model": "b", **options}
    with pytest.raises(UserError, match=f"^plan.{name}: found '.*', which .* has no use for"):
        read_kd_conf(conf).complete("plan")


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_a_teacher_that_is_another_function_each_time_is_refused(objective):
    student, teacher = joints()
    teacher = teacher._replace(activation=torch.nn.Sequential(torch.nn.Tanh(), torch.nn.RReLU()))
    with pytest.raises(ValueError, match="RReLU gives other values each time"):
        distillation_losses(student, teacher, *LATTICE, objective)


@pytest.mark.parametrize(
    "objective, walks",
    [(Objective("collapsed"), 2), (Objective("collapsed", nodes="occupancy"), 2)]
    + [(Objective("collapsed", nodes="one_best", frame_shift=1), 3), (Objective("full"), 1)],
)
def test_no_lattice_is_walked_twice_for_the_same_numbers(monkeypatch, objective, walks):
    calls = []

    def counted(*args, **kwargs):
        calls.append(args)
        return node_stats(*args, **kwargs)

    monkeypatch.setattr("espnet_kd.lattice.counted.node_stats", counted)
    distillation_losses(*joints(), *LATTICE, objective)
    assert len(calls) == walks


@pytest.mark.parametrize(
    "t_len, u_len, message",
    [
        ([5, 4, 6], U_LEN, r"t_len must lie in \[1, 5\]: got \[5, 4, 6\]"),
        ([5, 0, 1], U_LEN, "t_len must lie in"),
        (T_LEN, [3, 4, 2], r"u_len must lie in \[0, 3\]"),
        (T_LEN[:2], U_LEN, r"t_len and u_len must have shape \(3,\)"),
    ],
)
def test_lengths_outside_the_lattice_are_refused(t_len, u_len, message):
    for objective in (Objective("collapsed"), Objective("full"), Objective("full_sum")):
        with pytest.raises(ValueError, match=message):
            lengths = torch.as_tensor(t_len), torch.as_tensor(u_len)
            distillation_losses(*joints(), LABELS, *lengths, objective)


def test_lattices_that_do_not_fit_are_refused():
    student, _ = joints()
    with pytest.raises(ValueError, match="vocabularies differ: teacher 9, student 8"):
        distillation_losses(student, random_joint(B, T, U, V + 1), *LATTICE)
    with pytest.raises(ValueError, match=r"teacher \(3, 4, 4\), student \(3, 5, 4\)"):
        distillation_losses(student, random_joint(B, T - 1, U, V), *LATTICE)
    with pytest.raises(ValueError, match="k must lie in"):
        distillation_losses(student, student, *LATTICE, Objective("top_k", top_k=V))
