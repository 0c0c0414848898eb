"""Plans: what is read, and what is refused in which words."""

import pytest

from espnet_kd.errors import UserError
from espnet_kd.plan.student import Student
from espnet_kd.spec.distillation import Distillation
from espnet_kd.spec.plan import load_plan, parse_plan


def write(tmp_path, text):
    path = tmp_path / "compression.yaml"
    path.write_text(text)
    return str(path)


def test_reads_stages(tmp_path):
    plan = load_plan(
        write(
            tmp_path,
            "stages:\n"
            "- {target: 0.7, epochs: 3, weight: 0.5}\n"
            "- name: tiny\n"
            "  student: {encoder: {num_blocks: 2}}\n"
            "  objective: full\n",
        )
    )
    assert [s.name for s in plan.stages] == ["stage1", "tiny"]
    assert plan.stage(1).kd == Distillation("collapsed", weight=0.5)
    assert plan.stage(2).kd == Distillation("full")
    with pytest.raises(UserError, match="no compression stage 3; the plan has 2"):
        plan.stage(3)


def students(tmp_path, text):
    return map(Student.of, load_plan(write(tmp_path, text)).stages)


def test_a_fingerprint_tells_stages_apart(tmp_path):
    a, b = students(tmp_path, "stages: [{target: 0.7}, {target: 0.6}]")
    (c,) = students(tmp_path, "stages: [{target: 0.7}]")
    assert a.fingerprint() == c.fingerprint() != b.fingerprint()


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "the file is empty; a compression plan with 'stages' is needed"),
        ("stages: []", "'stages' is empty"),
        ("stages: [3]", "expected keys and values, found '3'"),
        ("a: {", "not valid YAML"),
        ("stage: []", "no 'stages'"),
        ("stages: [{target: 0.5}]\nnsme: x", "unknown key 'nsme'"),
        ("stages: [{targt: 0.5}]", r"unknown key 'targt' \(did you mean 'target'\?\)"),
        ("stages: [{target: 1.5}]", "fraction between 0 and 1"),
        ("stages: [{target: yes}]", "fraction between 0 and 1"),
        ("stages: [{epochs: 3}]", "either 'target' or 'student', found neither"),
        ("stages: [{target: 0.5, student: {}}]", "found both"),
        ("stages: [{target: 0.5, epochs: 0}]", "epochs: expected a whole number >= 1, found '0'"),
        ("stages: [{target: 0.5, init: teach}]", "did you mean 'teacher'"),
        ("stages: [{target: 0.5, name: a/b}]", "'a/b' may hold letters, digits"),
        ("stages: [{target: 0.5}, {target: 0.4, objective: ful}]", "did you mean 'full'"),
        ("stages: [{target: 0.5}, {target: 0.4, temperature: hot}]", r"s\[1\].temperature: expec"),
        ("stages: [{target: 0.5, weight: -1}]", "weight: expected a number from 0 to 1e"),
        ("stages: [{target: 0.5, weight_schedule: [1, 2]}]", "weight_schedule: expected points"),
        ("stages: [{target: 0.5, first_weight: 2}]", "first_weight: expected a number from 0"),
        ("stages: [{target: 0.5}, {student: {encodr: {}}}]", r"s\[1\].student: unknown key 'enc"),
        ("stages: [{student: {encoder: {heads: 2.5}}}]", "heads: expected a whole number >= 1"),
        ("stages: [{student: {decoder: {type: gru}}}]", "decoder.type: 'gru' is not one of"),
        ("stages: [{target: 0.5, train: {max_epoch: 2, kd_conf: {wieght: 1}}}]", "mean 'weight'"),
        ("stages: [{target: 0.5, weight: .nan}]", "weight: '.nan' is not a usable number"),
        ("stages: [{target: 0.5, temperature: .inf}]", "temperature: expected a number"),
        ("stages: [{target: 0.5, train: {max_epoch: x}}]", "train.max_epoch: expected a whole n"),
        ("stages: [{target: 0.5, train: {1: 5}}]", "train: the key '1' is not text; write it"),
        ("stages: [{target: 0.5, train: {kd_conf: {1: 3}}}]", "kd_conf: the key '1' is not text"),
        ("stages: [{target: 0.5, train: {kd_conf: full}}]", "kd_conf: expected options by name"),
        (
            "stages: [{target: 0.5, train: {encoder_conf: {body_conf: []}}}]",
            r"s\[0\].train.encoder_conf.body_conf: a student has its teacher's model",
        ),
        (
            "stages: [{target: 0.5, train: {encoder_conf: {main_conf: {conv_mod_act_type: a}}}}]",
            "main_conf.conv_mod_act_type: a student has",
        ),
        (
            "stages: [{target: 0.5, train: {encoder_conf: {main_conf: {short_chunk_size: 0}}}}]",
            "main_conf.short_chunk_size: expected a whole number >= 1, found '0'",
        ),
        ("stages: [{target: 0.5, train: {encoder_conf: 4}}]", "encoder_conf: expected options by"),
        ("stages: [{target: 0.5, train: {decoder: rnn}}]", "train.decoder: a student has its te"),
        (
            "stages: [{target: 0.5, train: {decoder_conf: {dropout_rate: 0.1, hidden_size: 8}}}]",
            "train.decoder_conf.hidden_size: a student has its teacher's model",
        ),
        (
            "stages: [{target: 0.5, train: {joint_network_conf: {joint_space_size: 8}}}]",
            "joint_network_conf.joint_space_size: a student has",
        ),
        (
            "stages: [{target: 0.5, train: {decoder_conf: {dropout_rate: 2}}}]",
            "decoder_conf.dropout_rate: expected a number from 0 to 1, found 2",
        ),
        ("stages: [{target: 0.5, train: {token_list: t}}]", "train.token_list: a student has"),
        (
            "stages: [{target: 0.5, train: {method_conf: {tied: true}}}]",
            "is written by derivation",
        ),
        ("stages: [{target: 0.5, train: {init_moments: m}}]", "init_moments: is written by deriv"),
        ("stages: [{target: 0.5, train: []}]", r"train: expected options by name, found '\[\]'"),
        ("stages: [{target: 0.5, train: false}]", "train: expected options by name, found 'fals"),
        (
            "stages: [{student: {}, method: quantise, method_conf: {bits: 4, where: []}}]",
            "method_conf.where: the list is empty; name feed_forward",
        ),
        (
            "stages: [{student: {}, method: low_rank, method_conf: {rank: 0.5, where: [attention, "
            "attention]}}]",
            "where: a name stands twice",
        ),
        (
            "stages: [{target: 0.5, method_conf: {nested: {members: [{target: 0.3}], draw: 1}}}]",
            "nested.draw: found 1, and there are 0 members between",
        ),
        ("stages: [{target: 0.5, name: a}, {target: 0.4, name: a}]", "duplicate name 'a'"),
        ("stages: [{target: 0.5, init: random, blocks: skip_loss}]", "init 'random' inherits not"),
        (
            "stages: [{target: 0.5, init: random, units: taylor}]",
            r"\].units: 'taylor': it chooses",
        ),
        ("stages: [{target: 0.5, objective: none, lattice: band}]", r"\].lattice: found 'band'"),
        ("stages: [{target: 0.5, objective: none, band_rows: 3}]", "band_rows: found '3', which"),
        ("stages: [{target: 0.5, objective: none, nodes: one_best}]", "nodes: found 'one_best'"),
        ("stages: [{target: 0.5, objective: none, curriculum: [0.5]}]", "curriculum: found"),
        (
            "stages: [{target: 0.5, objective: none, relations: [[0, 0]], relation_weight: 1}]",
            "relations: found .* objective 'none' has no use for",
        ),
        (
            "stages: [{target: 0.5, objective: none, train: {kd_conf: {divergence: reverse}}}]",
            "train.kd_conf.divergence: found 'reverse', which objective 'none' has no use for",
        ),
    ],
)
def test_refuses(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as e:
        load_plan(write(tmp_path, text))
    assert "compression.yaml" in str(e.value)
    assert "\n" not in str(e.value)


def test_numbers_and_the_usual_words_may_stand_in_a_stage_that_does_not_distil(tmp_path):
    text = "{target: 0.5, objective: none, temperature: 2, lattice: full, weight: 0.5}"
    assert not load_plan(write(tmp_path, f"stages: [{text}]")).stages[0].kd.distils


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_plan(str(tmp_path / "none.yaml"))


def test_a_margin_is_set_in_the_plan(tmp_path):
    stages = "stages: [{target: 0.7}]"
    assert load_plan(write(tmp_path, stages)).margin is None
    assert load_plan(write(tmp_path, f"margin: 1\n{stages}")).margin == 1
    with pytest.raises(UserError, match="compression.yaml.*margin"):
        load_plan(write(tmp_path, f"margin: -0.1\n{stages}"))


@pytest.mark.parametrize(
    "stage, words",
    [
        ("student: {encoder: {num_blocks: 2}}, allocate: sensitivity", "sizes of a 'target'"),
        ("target: 0.5, method: low_rank, units: taylor", "'taylor': method 'low_rank' cuts"),
        (
            "method: quantise, method_conf: {bits: 4}, allocate: sensitivity",
            "its own 'allocate' stands in method_conf",
        ),
    ],
)
def test_words_on_cutting_that_nobody_would_hear_are_refused(stage, words):
    with pytest.raises(UserError, match=words):
        parse_plan(f"stages: [{{{stage}}}]", "plan")
