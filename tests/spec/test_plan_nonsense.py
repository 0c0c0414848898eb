"""Nonsense in a plan or a training config is refused before anything runs, with its line."""

import sys

import pytest

from espnet_kd.bin import plan_stages
from espnet_kd.errors import UserError
from espnet_kd.spec.plan import load_plan
from espnet_kd.spec.training_config import check_loggers, read_config

STAGE = "stages:\n- name: one\n  target: 0.7\n- {}\n"
CASES = [
    # entry of the second stage, words of the message
    ("{name: --x, target: 0.5}", "name: '--x' may hold letters, digits, '-' and '_' only, and b"),
    ("{name: -, target: 0.5}", "name: '-' may hold"),
    ("{name: _x, target: 0.5}", "name: '_x' may hold"),
    ("{name: '..', target: 0.5}", "name: '..' may hold"),
    ("{name: a/b, target: 0.5}", "name: 'a/b' may hold"),
    ("{name: a b, target: 0.5}", "name: 'a b' may hold"),
    ("{name: '', target: 0.5}", "name: '' may hold"),
    ('{name: "a\\n", target: 0.5}', "may hold"),
    ("{name: ä, target: 0.5}", "name: 'ä' may hold"),
    ("{name: null, target: 0.5}", "name: expected text, found 'null'; write it in quotes"),
    ("{name: , target: 0.5}", "name: expected text, found 'null'"),
    ("{name: true, target: 0.5}", "name: expected text, found 'true'"),
    ("{name: no, target: 0.5}", "name: expected text, found 'false'"),
    ("{name: 1, target: 0.5}", "name: expected text, found '1'; write it in quotes"),
    ("{name: [a], target: 0.5}", "name: expected text, found '['a']'"),
    ("{name: teacher, target: 0.5}", "name: 'teacher' is reserved"),
    ("{name: Teacher, target: 0.5}", "name: 'Teacher' is reserved"),
    (f"{{name: {'x' * 61}, target: 0.5}}", "has more than 60 characters"),
    ("{name: One, target: 0.5}", "name: duplicate name 'One': it differs from 'one' in case only"),
    ("{target: 1.0e-320}", "target: expected a fraction"),
    ("{target: 0.00009}", "the least share is 0.0001"),
    ("{target: 0}", "target: expected a fraction"),
    ("{target: -0.5}", "found '-0.5'"),
    ("{target: 1.8 TB}", "found '1.8 TB'"),
    ("{target: 1.8}", "found '1.8'"),
    ("{target: .nan}", "target: '.nan' is not a usable number"),
    ("{target: .inf}", "found 'inf'"),
    ("{target: 1.0e+30}", "found '1e+30'"),
    (f"{{target: '{'9' * 400} MB'}}", "target: expected a fraction"),
    (f"{{target: {'9' * 400}}}", "is not a usable number"),
    ("{target: 99999999 GB}", "found '99999999 GB'"),
    ("{target: '٣ MB'}", "found '٣ MB'"),
    ("{target: [0.5]}", "found '[0.5]'"),
    ("{target: true}", "found 'true'"),
    ("{target: 0.5, epochs: 2.0}", "epochs: expected a whole number >= 1, found '2.0'"),
    ("{target: 0.5, epochs: true}", "epochs: expected a whole number >= 1, found 'true'"),
    ("{target: 0.5, epochs: '3'}", "found '3' (text for YAML; write 3)"),
    ("{target: 0.5, epochs: 10000000}", "epochs: expected at most 1,000,000, found 10,000,000"),
    ("{target: 0.5, epochs: [3]}", "epochs: expected a whole number >= 1, found '[3]'"),
    ("{target: 0.5, weight: 1e-2}", "found '1e-2' (text for YAML; write 0.01)"),
    ("{target: 0.5, weight: 1e-9}", "found '1e-9' (text for YAML; write 1.0e-09)"),
    (
        "{target: 0.5, train: {optim_conf: {lr: 1e-3}}}",
        "train.optim_conf.lr: expected a number, found '1e-3' (text for YAML; write 0.001)",
    ),
    ("{target: 0.5, train: {optim_conf: {betas: [0.9, 1.0e3]}}}", "betas[1]: expected a number"),
    (
        "{target: 0.5, train: {scheduler_conf: {epochs_before: 5}}}",
        "train.scheduler_conf.epochs_before: is written by derivation, where a stage says",
    ),
    ("{target: 0.5, train: {optim_conf: 0.1}}", "train.optim_conf: expected options by name, fou"),
    ("{target: 0.5, train: {optim_conf: {lr: -1}}}", "optim_conf.lr: expected a number from 0"),
    ("{target: 0.5, train: {batch_bins: 1e6}}", "batch_bins: expected a number, found '1e6' (te"),
    ("{target: 0.5, weight: 1.0e+200}", "weight: expected a number from 0 to 1e+06"),
    ("{target: 0.5, weight: [1]}", "weight: expected a number, found '[1]'"),
    ("{target: 0.5, temperature: 1.0e-320}", "temperature: expected a number from 0.001 to 1000"),
    ("{target: 0.5, top_k: true}", "top_k: expected a whole number >= 1, found 'true'"),
    ("{target: 0.5, top_k: 99999999}", "top_k: expected at most"),
    ("{target: 0.5, frame_shift: -99999999}", "frame_shift: expected at most"),
    ("{target: 0.5, weight_schedule: [[0, .inf]]}", "weight_schedule: expected points"),
    ("{target: 0.5, layers: [[0, 99999999]], layer_weight: 1}", "layers: expected pairs"),
    ("{target: 0.5, layers: [[0, 1]]}", "layers [[0, 1]] with layer_weight 0.0: give both or ne"),
    (
        "{target: 0.5, weight: 0, weight_schedule: [[0, 1]]}",
        "λ is 0 throughout with 'weight: 0'",
    ),
    ("{target: 0.5, weight_schedule: [[0, 0]]}", "λ is 0 throughout; say 'weight: 0'"),
    ("{target: 0.5, weight: 0, first_weight: 0.5}", "first_weight: found '0.5'; it is a share of"),
    (
        "{target: 0.5, teacher: first, first_weight: 0.5}",
        "first_weight: found 0.5 beside 'teacher",
    ),
    (
        "{target: 0.5, teacher: first, objective: none, labels: teacher, label_teachers: [a/b]}",
        "teacher: 'first' with objective 'none': its 'label_teachers' teach it; leave it out",
    ),
    (
        "{target: 0.5, first_weight: 1, curriculum: [0.5]}",
        "nothing is learnt of the teach",
    ),
    (
        "{target: 0.5, weight: 0, curriculum: [0.5]}",
        "nothing is learnt of the teach",
    ),
    ("{target: 0.5, lattice: band, band_kept: 0.9, band_rows: 3}", "'band_rows: 3' stands in its"),
    ("{target: 0.5, epochs: 3, train: {max_epoch: 5}}", "max_epoch: found '5' beside 'epochs: 3'"),
    (
        "{target: 0.5, gate: {otherwise: split, at_most: 3}}",
        "at_most: found '3', which is of '",
    ),
    ("{target: 0.5, objective: [full]}", "objective: '['full']' is not one of none, collapsed"),
    ("{target: 0.5, init: {}}", "init: '{}' is not one of teacher, random"),
    ("{target: 0.5, gate: {margin: 1.0e+9}}", "gate.margin: expected a number from -1000 to 1000"),
    ("{target: 0.5, gate: [stop]}", "gate: expected keys and values, or false, found '['stop']'"),
    ("{target: 0.5, gate: true}", "gate: expected keys and values, or false, found 'true'"),
    ("{target: 0.5, train: [max_epoch]}", "train: expected options by name, found '['max_ep"),
    ("{student: {encoder: {num_blocks: 2.0}}}", "num_blocks: expected a whole number >= 1, found"),
    ("{student: {encoder: {num_blocks: 1e9}}}", "num_blocks: expected a whole number >= 1"),
    ("{student: {encoder: {linear_size: 100000000}}}", "linear_size: expected at most 1,000,000"),
    ("{student: {encoder: {hidden_size: 15}}}", "student: hidden_size 15 must be even"),
    ("{student: {encoder: {conv_mod_kernel_size: 8}}}", "conv_mod_kernel_size 8 must be odd"),
    ("{student: {encoder: {hidden_size: 30, heads: 4}}}", "30 is no multiple of heads 4"),
    ("{student: {decoder: {type: stateless, hidden_size: 8}}}", "a stateless predictor has none"),
    ("{student: {decoder: {type: averaged, context: 1}}}", "1 label is 'type: stateless'; say"),
    ("{student: {decoder: {type: averaged, context: 9}}}", "context: expected at most 8, found"),
    ("{student: {decoder: {type: averaged, context: two}}}", "context: expected a whole number"),
    ("{student: {decoder: {context: 3}}}", "context: is a number of labels for 'type: averaged'"),
    ("{student: {decoder: {type: averaged}}, anneal: through}", "a predictor of another kind"),
    ("{student: {}}", "student: names no size, so the student is not smaller"),
    ("{student: {encoder: {}}}", "student: names no size"),
    ("{target: 0.5, student: {}}", "needs either 'target' or 'student', found both"),
    ("[target, 0.5]", "expected keys and values, found '['target', 0.5]'"),
    ("null", "expected keys and values, found 'null'"),
]


def stages(plan):
    """What the recipe calls before stage 1."""
    with pytest.raises(SystemExit) as e:
        plan_stages.main(["--plan", str(plan)])
    return e.value.code


@pytest.mark.parametrize("entry, words", CASES, ids=[c[0][:60] for c in CASES])
def test_refused_with_its_line(entry, words, tmp_path, capsys):
    plan = tmp_path / "plan.yaml"
    plan.write_text(STAGE.replace("{}", entry), encoding="utf-8")
    assert stages(plan) == 1
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and len(err) < 900
    assert "plan.yaml:4: stages[1]" in err


def test_the_line_is_that_of_the_field(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "# a plan\nstages:\n  - name: one\n    target: 0.7\n    train:\n      max_epoch: x\n"
    )
    with pytest.raises(UserError, match=r"plan.yaml:6: stages\[0\].train.max_epoch: expected"):
        load_plan(plan)
    config = tmp_path / "train.yaml"
    config.write_text("seed: 1\nkd_conf:\n  objective: full\n  wieght: 2\n")
    with pytest.raises(UserError, match=r"train.yaml:3: kd_conf: unknown key 'wieght' \(did you"):
        read_config(config)
    config.write_text("seed: 1\nmax_epoch: 0\n")
    with pytest.raises(UserError, match="train.yaml:2: max_epoch: expected a whole number >= 1"):
        read_config(config)


def test_sizes_must_fall_from_stage_to_stage(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "stages:\n- student: {encoder: {num_blocks: 4, hidden_size: 96}}\n"
        "- student: {encoder: {num_blocks: 6}}\n"
    )
    with pytest.raises(UserError, match=r"plan.yaml:3: stages\[1\].student.encoder.num_blocks: 6"):
        load_plan(plan)
    # After a target nobody knows the sizes yet; a predictor of another kind has its own.
    plan.write_text(
        "stages:\n- student: {encoder: {num_blocks: 4}, decoder: {embed_size: 8}}\n"
        "- student: {decoder: {type: stateless}}\n- student: {decoder: {embed_size: 9}}\n"
        "- target: 0.3\n- student: {encoder: {num_blocks: 5}}\n"
    )
    assert len(load_plan(plan).stages) == 5


def test_what_a_gate_may_add_has_a_name_of_its_own(tmp_path):
    plan = tmp_path / "plan.yaml"
    text = (
        "gate: {otherwise: split}\nstages:\n"
        "- {name: a, target: 0.6}\n- {name: a_half, target: 0.4}"
    )
    plan.write_text(text)
    with pytest.raises(UserError, match=r"plan.yaml:4: stages\[1\].name: 'a_half' is the name of"):
        load_plan(plan)
    plan.write_text(text.replace("split", "stop"))
    assert len(load_plan(plan).stages) == 2


def test_a_gate_says_nothing_that_no_stage_goes_by(tmp_path):
    plan = tmp_path / "plan.yaml"
    text = "gate: {otherwise: split, %s}\nstages:\n- {target: 0.6}\n- {target: 0.4%s}"
    for key in ("epochs", "at_most"):
        plan.write_text(text % (f"{key}: 2", ""))
        words = rf"plan.yaml:1: gate.{key}: found '2', which is of 'otherwise: longer', and no"
        with pytest.raises(UserError, match=words):
            load_plan(plan)
        plan.write_text(text % (f"{key}: 2", ", gate: {otherwise: longer}"))
        assert load_plan(plan).stages[1].gate.values[key] == 2
    plan.write_text("gate: {margin: 1}\nstages: [{target: 0.6, gate: false}]")
    with pytest.raises(UserError, match="plan.yaml:1: gate: all stages say 'gate: false'; leave"):
        load_plan(plan)


@pytest.mark.parametrize(
    "gate, first, second, key",
    [
        ("margin: 1", "gate: {margin: 2}", "gate: false", "margin"),
        ("margin: 1", "gate: {margin: 2}", "gate: {margin: 1}", "margin"),
        ("otherwise: split", "gate: {otherwise: stop}", "gate: {otherwise: longer}", "otherwise"),
        ("epochs: 3", "gate: {margin: 1}", "gate: {otherwise: longer, epochs: 1}", "epochs"),
    ],
)
def test_a_gate_says_nothing_that_all_stages_overrule(tmp_path, gate, first, second, key):
    plan = tmp_path / "plan.yaml"
    text = "gate: {%s}\nstages:\n- {target: 0.6, %s}\n- {target: 0.4, %s}"
    plan.write_text(text % (gate, first, second))
    with pytest.raises(UserError, match=rf"plan.yaml:1: gate.{key}: found .*, which all stages"):
        load_plan(plan)
    plan.write_text(text % (gate, first, "gate: {otherwise: longer}"))
    if key != "otherwise":
        assert load_plan(plan).stages[1].gate.written[key] is not None


@pytest.mark.parametrize(
    "own, below",
    [("", "objective: full"), ("weight: 1, ", "weight: 2"), ("nodes: all, ", "nodes: one_best")],
)
def test_a_stage_overrules_nothing_of_its_own_train(tmp_path, own, below):
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"stages:\n- {{{own}target: 0.6, train: {{kd_conf: {{{below}}}}}}}")
    key = below.partition(":")[0]
    words = rf"plan.yaml:2: stages.0..train.kd_conf.{key}: found .*, which the stage's own '{key}'"
    with pytest.raises(UserError, match=words):
        load_plan(plan)


def test_keys_beside_stages_are_told_with_their_line(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("margin: 1\nstage: [{target: 0.6}]\nfamily: {}\n")
    with pytest.raises(UserError, match="plan.yaml:2: unknown key 'stage'.*'stages'"):
        load_plan(plan)
    plan.write_text("margin: 1\nstages: []\n")
    with pytest.raises(UserError, match="plan.yaml:2: 'stages' is empty"):
        load_plan(plan)


def test_a_gate_of_all_stages_is_named_where_it_stands(tmp_path):
    plan = tmp_path / "plan.yaml"
    few = "{method: quantise, method_conf: {bits: 4}%s}"
    text = "stages:\n- {target: 0.6}\n- %s\ngate:\n  otherwise: split\n"
    plan.write_text(text % few % "")
    words = "plan.yaml:5: gate.otherwise: 'split' inserts .* 'quantise' of 'stage2' does not"
    with pytest.raises(UserError, match=words):
        load_plan(plan)
    plan.write_text(text % few % ", gate: {otherwise: split}")
    with pytest.raises(UserError, match=r"plan.yaml:3: stages\[1\].gate.otherwise: 'split'"):
        load_plan(plan)
    plan.write_text(text % few % ", gate: {otherwise: stop}")
    assert len(load_plan(plan).stages) == 2


@pytest.mark.parametrize("package", ["wandb", "tensorboard", "matplotlib"])
def test_loggers_must_be_installed(package, tmp_path, monkeypatch):
    """ESPnet asks for Weights & Biases after minutes of preparation, by a traceback."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, package, raising=False)
    config, plan = tmp_path / "train.yaml", tmp_path / "plan.yaml"
    config.write_text(f"seed: 1\nuse_{package}: true\n")
    words = f"x: use_{package}: the package {package} is not installed; pip install {package}"
    with pytest.raises(UserError, match=words):  # as before stage 1, when options have been merged
        check_loggers(read_config(config).options, "x: ")
    plan.write_text(f"stages:\n- target: 0.5\n  train: {{use_{package}: true}}\n")
    with pytest.raises(UserError, match=f":3: stages.0..train.use_{package}: the package"):
        load_plan(plan)
    config.write_text(f"use_{package}: false\n")
    check_loggers(read_config(config).options, "x: ")
    monkeypatch.setitem(sys.modules, package, object())
    config.write_text(f"use_{package}: true\n")
    check_loggers(read_config(config).options, "x: ")
