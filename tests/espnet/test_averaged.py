"""The averaged predictor: formula, label by label, in ESPnet's searches, and first weights."""

import copy

import pytest
import torch
from espnet2.asr_transducer.beam_search_transducer import BeamSearchTransducer, Hypothesis

from espnet_kd.errors import UserError
from espnet_kd.espnet.averaged_decoder import AveragedDecoder
from espnet_kd.espnet.predictor import Predictor
from espnet_kd.espnet.stock import attach
from espnet_kd.export.graphs import AveragedPredictor
from espnet_kd.methods.tied import tie
from espnet_kd.spec.named_sizes import read_sizes
from espnet_kd.students.averaged import averaged
from espnet_kd.students.grid import Grid, grid_of
from espnet_kd.students.halfway import halfway
from espnet_kd.students.importance import weight_scores
from espnet_kd.students.inherit import inherit
from espnet_kd.students.model_config import architecture_of, config_of
from espnet_kd.students.nested_units import Member, in_order_of_rank, member_units, take_member
from tests.espnet.tiny import build, tiny_config

ALL = [0, 1, 2, 3]
V, E, D = 9, 6, 5


def a_decoder(context, dtype=torch.float32):
    torch.manual_seed(context)
    decoder = AveragedDecoder(V, E, D, context).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if name != "embed.weight":
                parameter.normal_()
    return decoder


def readable(decoder, labels):
    """The formula for the last of some labels, number by number, and with several heads."""
    heads = 3
    torch.manual_seed(1)
    parts = torch.randn(heads, *decoder.position.weight.shape).to(decoder.position.weight)
    parts += decoder.position.weight - parts.mean(0)  # heads whose mean are the vectors
    last = labels[::-1][: decoder.context]
    total = [0.0] * E
    for head in range(heads):
        for n, label in enumerate(last):
            e = decoder.embed.weight[label].tolist() if label else [0.0] * E
            share = sum(a * b for a, b in zip(e, parts[head, n].tolist()))
            for i in range(E):
                total[i] += share * e[i] / (heads * decoder.context)
    x = [
        sum(w * t for w, t in zip(row.tolist(), total)) + float(b)
        for row, b in zip(decoder.output.weight, decoder.output.bias)
    ]
    mean = sum(x) / D
    deviation = (sum((v - mean) ** 2 for v in x) / D + 1e-5) ** 0.5
    gain, shift = decoder.norm.weight.tolist(), decoder.norm.bias.tolist()
    z = torch.tensor([(v - mean) / deviation * g + s for v, g, s in zip(x, gain, shift)])
    return z * torch.sigmoid(z)


@pytest.mark.parametrize("context", [2, 3])
@torch.no_grad()
def test_it_is_the_formula_whole_by_labels_and_in_espnets_searches(context):
    decoder = a_decoder(context)
    labels = [0, 3, 8, 3, 3, 1, 0, 5]
    whole = decoder(torch.tensor([labels, labels]))  # (2, U, D)
    torch.testing.assert_close(whole[0], whole[1])
    waiting = torch.zeros(1, *decoder.waiting)
    for u in range(len(labels)):
        begun = labels[: u + 1]
        torch.testing.assert_close(whole[0, u], readable(decoder, begun), rtol=1e-4, atol=1e-5)
        step, waiting = decoder.step(decoder.embed(torch.tensor(begun[-1:])), waiting)
        torch.testing.assert_close(step[0], whole[0, u])
        torch.testing.assert_close(decoder.score(begun, None)[0][0], whole[0, u])
        hyps = [Hypothesis(0.0, begun), Hypothesis(0.0, [0])]
        torch.testing.assert_close(decoder.batch_score(hyps)[0], whole[0, [u, 0]])
        after = {k: t for k, t in decoder.state_dict().items()}
        if u:  # without the blank that labels begin with, which is as if it were not there
            mine = averaged(after, torch.tensor([begun[1:][-context:]]))
            torch.testing.assert_close(mine[0], whole[0, u])


@pytest.mark.parametrize("context", [1, 9, "2"])
def test_no_other_number_of_labels_is_heard(context):
    with pytest.raises(UserError, match="^decoder_conf.context: expected "):
        AveragedDecoder(V, E, D, context)


def test_its_gradient():
    decoder = a_decoder(3, torch.float64)
    labels = torch.tensor([[0, 2, 2, 7]])
    names = [name for name, _ in decoder.named_parameters()]

    def said(*values):
        return torch.func.functional_call(decoder, dict(zip(names, values)), (labels,))

    values = [p.detach().clone().requires_grad_() for p in decoder.parameters()]
    values[0].data[0] = 0  # blank, which has no gradient
    embed = values[0].detach()[1:].clone().requires_grad_()
    torch.autograd.gradcheck(
        lambda e, *rest: said(torch.cat([e.new_zeros(1, E), e]), *rest), (embed, *values[1:])
    )


@torch.no_grad()
def test_a_device_steps_alike_and_keeps_the_grid_of_each_matrix():
    decoder, project = a_decoder(3), torch.nn.Linear(D, 4)
    bits = {decoder.embed: 4, decoder.position: 3, decoder.output: 4, project: 4}
    for part, count in bits.items():
        part.weight.copy_(Grid(count).round(part.weight))
    network = AveragedPredictor(decoder, project, fold=False)
    labels, waiting = [0, 3, 8, 3, 1], torch.zeros(2, 1, D)
    whole = project(decoder(torch.tensor([labels])))  # (1, U, J)
    for u, label in enumerate(labels):
        y, waiting = network(torch.tensor([label]), waiting)
        torch.testing.assert_close(y, whole[:, u])
    assert all(grid_of(w) is not None for w in network.parameters() if w.dim() > 1)


@pytest.mark.parametrize("kind", ["tsd", "alsd", "maes"])
def test_espnets_other_searches_take_it(kind):
    config = tiny_config(decoder="averaged", decoder_conf={"embed_size": 8, "hidden_size": 12})
    model = build(config, seed=1).eval()
    assert isinstance(model.decoder, AveragedDecoder)
    enc = 4 * torch.randn(9, 16, generator=torch.Generator().manual_seed(1))  # (T, D)
    search = BeamSearchTransducer(model.decoder, model.joint_network, 3, search_type=kind, nbest=3)
    with torch.no_grad():
        hyps = search(enc)
        predictor = Predictor(model, enc.device)
        for hyp in hyps:  # what it was told of each label is what a whole sequence is told
            whole = model.decoder(torch.tensor([hyp.yseq]))  # (1, U, D)
            whole = model.joint_network.lin_dec(whole)  # (1, U, J)
            y, state = predictor.start(1)
            for u, label in enumerate(hyp.yseq):
                if u:
                    y, state = predictor.step(torch.tensor([label]), state)
                torch.testing.assert_close(y[0], whole[0, u])
    assert kind == "tsd" or any(len(hyp.yseq) > 2 for hyp in hyps)


def test_all_of_it_is_trained_but_blank(kd, batch):
    config = tiny_config(decoder="averaged", decoder_conf={"embed_size": 8, "hidden_size": 12})
    student = build(config, kd).train()
    loss, stats, _ = student(**batch)
    loss.backward()
    assert torch.isfinite(loss) and "loss_kd" in stats
    gradients = {name: p.grad.abs().sum(-1) for name, p in student.decoder.named_parameters()}
    assert not gradients["embed.weight"][0] and gradients["embed.weight"][3:6].all()
    assert all(gradient.any() for gradient in gradients.values())


def derived(config, sizes):
    """Teacher, student, and the student's architecture."""
    model = build(config).eval()
    teacher = architecture_of(config, 20, model.vocab_size)
    student = teacher.with_sizes(read_sizes("plan", sizes), "plan")
    made = copy.deepcopy({**config, **config_of(student, config, ALL)})
    small = build(made, seed=3).eval()
    small.load_state_dict(inherit(model.state_dict(), teacher, student, ALL))
    for part, count in student.count().items():
        assert count == sum(p.numel() for p in getattr(small, part).parameters())
    assert architecture_of(made, 20, model.vocab_size) == student
    return model, small, student


AVERAGED = {"decoder": {"type": "averaged"}}
pairs = torch.cartesian_prod(torch.tensor([0]), torch.arange(1, 7), torch.arange(1, 7))


def said(model, labels):
    with torch.no_grad():
        return model.joint_network.lin_dec(model.decoder(labels))[:, -1]


def unexplained(model, small):
    """Share of the variance of what the teacher says of two labels."""
    theirs = said(model, pairs)
    lost = (said(small, pairs) - theirs).square().sum()
    return float(lost / (theirs - theirs.mean(0)).square().sum())


def test_a_student_of_an_lstm_says_nearly_what_its_teacher_says():
    config = tiny_config(model_conf={"auxiliary_lm_loss_weight": 0.1})
    config["decoder_conf"].update(embed_dropout_rate=0.2, dropout_rate=0.3)
    model, small, student = derived(config, AVERAGED)
    assert student.context == 2 and small.decoder.embed_dropout_rate.p == 0.2
    _, table, _ = derived(config, {"decoder": {"type": "stateless"}})
    assert unexplained(model, small) < 0.7 * unexplained(model, table) < 0.7
    with torch.no_grad():
        heard = [m.lm_lin(m.decoder(pairs))[:, -1] for m in (model, small)]
    assert (heard[0] - heard[1]).norm() < 0.5 * (heard[0] - heard[0].mean(0)).norm()


@pytest.mark.parametrize("bias", [True, False])
def test_a_student_of_a_stateless_teacher_begins_as_its_teacher(bias):
    config = tiny_config(decoder="stateless", decoder_conf={"embed_size": 16})
    config["joint_network_conf"]["lin_dec_bias"] = bias
    config["decoder_conf"]["embed_size"] = 16
    model, small, student = derived(config, {"decoder": {"type": "averaged", "context": 3}})
    assert student.context == 3 and small.decoder.context == 3
    theirs, ours = said(model, pairs), said(small, pairs)  # 7 labels fit in 16 outputs
    assert (ours - theirs).norm() < 2e-3 * theirs.norm()
    begun = [said(m, pairs[:1, :1]) for m in (small, model)]
    assert (begun[0] - begun[1]).norm() < 0.01 * theirs[0].norm()


def test_smaller_ones_are_cut_out_of_it():
    config = tiny_config(decoder="averaged", decoder_conf={"embed_size": 12, "hidden_size": 16})
    model, small, _ = derived(config, {"decoder": {"embed_size": 7}})
    # Seven tokens span no more than seven dimensions.
    torch.testing.assert_close(said(model, pairs), said(small, pairs), rtol=1e-4, atol=1e-4)
    derived(config, {"decoder": {"hidden_size": 8, "embed_size": 4}})
    model, small, student = derived(config, AVERAGED)
    assert torch.equal(said(model, pairs), said(small, pairs))
    smaller = student.shrink_to(student.params // 4, "plan")
    assert smaller.decoder == "averaged" and smaller.decoder_size < 16
    assert smaller.params == sum(smaller.count().values())


def test_halfway_to_it():
    config = tiny_config(decoder_conf={"embed_size": 32, "hidden_size": 16})
    teacher = architecture_of(config, 20, 7)
    sizes = {"decoder": {"type": "averaged", "context": 4, "hidden_size": 8}}
    goal = teacher.with_sizes(read_sizes("plan", sizes), "plan")
    half = halfway(teacher, goal)
    assert half.decoder == "averaged" and half.context == 4
    small = build({**config, **config_of(half, config, ALL)}).eval()
    small.load_state_dict(inherit(build(config).state_dict(), teacher, half, ALL))


def test_it_can_be_tied_and_trained_so():
    config = tiny_config(decoder="averaged", decoder_conf={"embed_size": 8, "hidden_size": 12})
    model = build(config).eval()
    state, residual = tie(model.state_dict(), "averaged")
    config["decoder_conf"]["embed_size"] = 16
    tied = build(config).eval()
    attach(tied, {"method": "cut", "tied": True})
    tied.load_state_dict(state)
    assert residual < 1e-5 and "embed.weight" not in dict(tied.decoder.named_parameters())
    torch.testing.assert_close(said(tied, pairs), said(model, pairs), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        begun = [Predictor(m, torch.device("cpu")).start(2)[0] for m in (tied, model)]
    torch.testing.assert_close(*begun, rtol=1e-4, atol=1e-5)


def test_members_of_a_family_are_parts_of_it():
    conf = {"embed_size": 12, "hidden_size": 16, "context": 3}
    config = tiny_config(decoder="averaged", decoder_conf=conf)
    model = build(config).eval()
    sizes, before = architecture_of(config, 20, model.vocab_size), said(model, pairs)
    state = in_order_of_rank(model.state_dict(), sizes, weight_scores(model.state_dict()))
    model.load_state_dict(state)
    # The joint network's units are sorted, too.
    now, before = (x.sort(-1).values for x in (said(model, pairs), before))
    torch.testing.assert_close(now, before, rtol=1e-4, atol=1e-5)
    smaller = sizes.with_blocks([0, 2]).resized(decoder_size=8, embed_size=6, joint_size=8)
    member = Member(smaller, [0, 2])
    (units,) = member_units(sizes, [member])
    small = build({**config, **config_of(smaller, config, [0, 2])}).eval()
    small.load_state_dict(take_member(state, sizes, member, units, True))
    assert torch.equal(small.decoder.norm.weight, model.decoder.norm.weight[:8])
