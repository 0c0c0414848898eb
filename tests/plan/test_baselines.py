"""Other ways to the same sizes: who they learn from, for how long, with what."""

import dataclasses

import pytest

from espnet_kd.errors import UserError
from espnet_kd.plan.baselines import (
    PATHS,
    all_students,
    check_of_use,
    choose,
    path_named,
    read_epochs,
)
from espnet_kd.plan.effective import effective
from espnet_kd.plan.verdict import Round
from espnet_kd.spec.distillation import Distillation, read_kd_conf
from espnet_kd.spec.plan import load_plan
from espnet_kd.spec.training_config import read_config

PLAN = """
gate: {otherwise: longer}
stages:
- {name: a, target: 0.7, epochs: 3}
- {name: b, target: 0.5, train: {max_epoch: 5, batch_size: 8}}
- name: c
  target: 0.4
  weight: 0.3
  nodes: occupancy
  layers: [[0, 1]]
  layer_weight: 0.1
  labels: teacher
  init: random
"""
DEFAULT = 10  # epochs
NONE = Distillation()


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "compression.yaml"
    path.write_text(PLAN)
    return load_plan(str(path))


def students(plan, *paths, at=(), measured=None, there=()):
    way = effective(plan, lambda name: (measured or {}).get(name, []))
    made = all_students(plan, way, paths, at, DEFAULT, is_there=lambda name: name in there)
    return {s.name: s for s in made}


def test_random_weights_are_neither_frozen_nor_gated(tmp_path):
    path = tmp_path / "compression.yaml"
    for addition in ("freeze: [predictor]", "gates: 0.4"):
        conf = f"{{{addition}, predictor_dropout: 0.5}}"
        path.write_text(f"stages: [{{name: a, target: 0.7, method_conf: {conf}}}]")
        made = students(load_plan(str(path)), "progressive", "one_shot", "scratch")
        assert made["scratch"].method_conf.written == {"predictor_dropout": 0.5}
        assert made["a"].method_conf.written == made["one_shot"].method_conf.written


def test_teachers_of_stages_are_those_of_their_path(tmp_path):
    path = tmp_path / "compression.yaml"
    stages = ["{name: a, target: 0.7}", "{name: b, target: 0.5, teacher: first}"]
    stages += ["{name: c, target: 0.4, teacher: a}", "{name: d, target: 0.3}"]
    path.write_text("stages: [" + ", ".join(stages) + "]")
    chain = ("progressive", "one_shot", "progressive_random", "progressive_none")
    found = students(load_plan(str(path)), *chain)
    assert [found[name].teacher for name in "abcd"] == [None, "a", "b", "c"]
    assert [found[name].taught_by_student for name in "abcd"] == [None, None, "a", "c"]
    assert found["one_shot"].taught_by_student is None
    names = [f"progressive_random_{name}" for name in "abcd"]
    taught = [found[name].taught_by_student for name in names]
    assert taught == [None, None, names[0], names[2]]
    assert found["progressive_none_c"].taught_by == "previous"
    for text, message in [
        ("[{target: 0.5, teacher: b}, {name: b, target: 0.4}]", r"teacher: 'b' is not one of"),
        ("[{target: 0.5, teacher: [a]}]", r"teacher: expected 'previous', 'first' or"),
        ("[{student: {}, objective: none, teacher: first}]", "nobody teaches it"),
        (
            "[{name: first, target: 0.5}, {target: 0.4, teacher: first}]",
            "or another model; rename",
        ),
    ]:
        path.write_text(f"stages: {text}")
        with pytest.raises(UserError, match=message):
            load_plan(str(path))


def test_chains_may_have_another_teacher_or_one_schedule(tmp_path):
    path = tmp_path / "compression.yaml"
    stages = ["{name: a, target: 0.7, epochs: 2}", "{name: b, target: 0.5, epochs: 3}"]
    path.write_text("stages: [" + ", ".join([*stages, "{name: c, target: 0.4, epochs: 4}"]) + "]")
    plan = load_plan(str(path))
    found = students(plan, "progressive", "progressive_first", "progressive_through", "one_shot")
    assert [found[f"progressive_first_{name}"].taught_by_student for name in "bc"] == [None] * 2
    assert found["progressive_first_c"].teacher == "progressive_first_b"
    half = students(plan, "progressive_half", "curriculum_random")
    assert [half[f"progressive_half_{name}"].kd.first_weight for name in "abc"] == [0.5] * 3
    assert half["progressive_half_c"].teacher == "progressive_half_b"
    alone = half["curriculum_random"]
    assert (alone.init, alone.kd.curriculum, alone.epochs) == ("random", [0.15, 0.3, 0.6], 9)
    chain = [found[f"progressive_through_{name}"] for name in "abc"]
    assert [student.epochs_around for student in chain] == [(0, 7), (2, 4), (5, 0)]
    assert {found[name].epochs_around for name in ("a", "b", "c", "one_shot")} == {None}
    assert chain[1].fingerprint() != found["b"].fingerprint()
    # Two rows, of which one has a single stage.
    path.write_text(path.read_text().replace("epochs: 4", "epochs: 4, anneal: through"))
    found = students(load_plan(str(path)), "progressive", "one_shot", "progressive_random")
    assert (found["c"].epochs_around, found["b"].epochs_around) == ((0, 0), None)
    assert found["one_shot"].anneal == found["progressive_random_c"].anneal == "anew"


def test_baselines_have_the_final_size_and_all_updates(plan):
    found = students(plan, "progressive", "scratch", "one_shot", "inherited")
    assert list(found) == ["a", "b", "c", "scratch", "one_shot", "inherited"]
    assert [found[name].teacher for name in "abc"] == [None, "a", "b"]
    kd = plan.stages[2].kd
    assert kd.layers == [[0, 1]]
    expected = {
        "scratch": ("random", NONE, "transcript"),
        "one_shot": ("teacher", kd, "teacher"),
        "inherited": ("teacher", NONE, "transcript"),
    }
    for name, (init, kd, labels) in expected.items():
        student = found[name]
        assert (student.init, student.kd, student.labels) == (init, kd, labels)
        assert student.teacher is None and student.gate is None and student.path == name
        assert student.epochs == 3 + 5 + DEFAULT
        assert [step.name for step in student.stages_above] == ["a", "b", "c"]


def test_what_a_gate_added_is_counted(plan):
    longer = {"a": [Round(3, 9, 5, 10), Round(5, 6, 5, 10)]}
    found = students(plan, "one_shot", "progressive_none", measured=longer)
    assert found["one_shot"].epochs == 5 + 5 + DEFAULT
    assert found["progressive_none_a"].epochs == 5


def test_a_stopped_compression_is_compared_at_its_last_good_size(plan):
    stopped = {"b": [Round(5, 9, 5, 10), Round(7, 9, 5, 10)]}
    found = students(plan, "progressive", "one_shot", measured=stopped)
    assert list(found) == ["a", "b", "one_shot"]
    assert found["one_shot"].epochs == 3 and len(found["one_shot"].stages_above) == 1
    assert list(students(plan, "one_shot", at=["a", "c"], measured=stopped)) == ["one_shot_a"]


def test_several_sizes(plan):
    found = students(plan, "one_shot", "progressive_random", at=["c", "a"])
    assert found["one_shot_a"].epochs == 3 and len(found["one_shot_a"].stages_above) == 1
    assert found["one_shot_c"].epochs == 18
    chain = [name for name in found if name.startswith("progressive_random")]
    assert [found[name].teacher for name in chain] == [None, *chain[:-1]]
    assert [found[name].epochs for name in chain] == [3, 5, DEFAULT]
    assert {found[name].init for name in chain} == {"random"}
    assert [len(found[name].stages_above) for name in chain] == [1, 2, 3]


def test_the_size_asked_for_is_not_that_of_half_a_step(tmp_path):
    path = tmp_path / "compression.yaml"
    path.write_text("gate: {otherwise: split}\nstages: [{name: a, target: 0.7}, {target: 0.3}]")
    bad, good = [Round(DEFAULT, 9, 5, 10)], [Round(DEFAULT, 5, 5, 10)]
    split = {"stage2": bad, "stage2_half": good, "stage2_again": bad}
    found = students(load_plan(str(path)), "one_shot", measured=split)
    assert found["one_shot"].half and len(found["one_shot"].stages_above) == 2
    at = students(load_plan(str(path)), "one_shot", at=["a", "stage2"], measured=split)
    assert list(at) == ["one_shot_a"]


def test_a_last_step_that_only_fine_tunes(tmp_path):
    path = tmp_path / "compression.yaml"
    path.write_text(
        "stages:\n- {target: 0.5, weight: 0.3, labels: teacher, train: {batch_size: 4}}\n"
        "- {student: {}, objective: none, train: {batch_size: 2}}"
    )
    plan = load_plan(str(path))
    found = students(plan, "one_shot", "scratch", "progressive_random")
    one_shot, random = found["one_shot"], found["progressive_random_stage2"]
    assert one_shot.kd == plan.stages[0].kd and one_shot.labels == "teacher"
    assert one_shot.train.options == {"batch_size": 4} and one_shot.epochs == 2 * DEFAULT
    assert found["scratch"].kd == NONE
    # It goes on with what its predecessor learnt from random weights.
    assert random.init == "teacher" and found["progressive_random_stage1"].init == "random"
    path.write_text("stages: [{target: 0.5, objective: none}]")
    with pytest.raises(UserError, match="no stage distils, which --paths one_shot is to compare"):
        students(load_plan(str(path)), "one_shot")


# How an objective compares, and what has no effect without a loss of its own.
MANNER = set(
    "objective divergence temperature normalize frame_shift top_k lattice band_kept band_rows "
    "weight weight_schedule auxiliary_weights auxiliary_future teacher_features teacher_context "
    "teacher_dtype agreement_every valid_chunk_size teacher_cache teacher_config teacher_model "
    "first_teacher_config first_teacher_model written".split()
)


def test_ablations_of_one_objective_have_no_other_loss():
    """A new option of distillation is either switched off for them, or not a loss."""
    plain = PATHS["one_shot_collapsed"].kd
    for field in dataclasses.fields(Distillation):
        if field.name not in MANNER:
            assert plain[field.name] == getattr(NONE, field.name), field.name


def test_one_step_has_the_chunks_of_the_steps_in_whose_place_it_is(tmp_path):
    path = tmp_path / "compression.yaml"
    short = "{encoder_conf: {main_conf: {short_chunk_size: 4}}, batch_size: 2}"
    more = "{encoder_conf: {main_conf: {num_left_chunks: 8}}, batch_size: 3}"
    path.write_text(
        f"stages:\n- {{target: 0.6, train: {short}}}\n- {{target: 0.5, train: {more}}}\n"
        "- {target: 0.4}\n"
    )
    paths = ("progressive", "one_shot", "scratch")
    found = students(load_plan(str(path)), *paths, at=["stage2", "stage3"])
    for name, chunks in {
        "stage3": {},  # it has its teacher's
        "one_shot_stage2": {"short_chunk_size": 4, "num_left_chunks": 8},
        "one_shot_stage3": {"short_chunk_size": 4, "num_left_chunks": 8},
        "scratch_stage3": {"short_chunk_size": 4, "num_left_chunks": 8},
    }.items():
        assert found[name].train.chunks == chunks, name
    assert "batch_size" not in found["one_shot_stage3"].train.options
    assert found["one_shot_stage2"].train.options["batch_size"] == 3


def test_ablations_are_variations_of_one_thing_each(plan):
    names = choose(["progressive"], ablate=True)
    assert names == ["progressive", *(n for n, path in PATHS.items() if path.ablation)]
    found = students(plan, *names)
    encoder = found["one_shot_encoder"].kd
    assert encoder.weight == 0 and encoder.encoder_weight == 1
    assert found["one_shot_full"].kd.objective == "full"
    assert found["one_shot_full"].kd.layer_weight == 0
    assert found["one_shot_full"].kd.weight == 0.3  # the plan's
    assert found["one_shot_one_best"].kd.nodes == "one_best"
    assert found["one_shot_random"].kd == plan.stages[2].kd


def test_the_order_of_the_paths_does_not_matter(plan):
    one = students(plan, "one_shot", "scratch")
    two = students(plan, "progressive", "scratch", "one_shot")
    for name in one:
        assert one[name].fingerprint() == two[name].fingerprint()
    assert one["one_shot"].fingerprint() != one["scratch"].fingerprint()


def test_settings_of_every_path_are_what_training_takes(plan):
    first = {"first_teacher_config": "c", "first_teacher_model": "m"}
    for student in students(plan, *PATHS).values():
        student.kd.changed(teacher_config="c", teacher_model="m", **first).complete()
        assert read_kd_conf(student.kd.written) == student.kd  # as the training reads it


@pytest.mark.parametrize(
    "paths, at, message",
    [
        (["one_shoot"], [], r"unknown path 'one_shoot' \(did you mean 'one_shot'\?\)"),
        ([], [], "name at least one of progressive, scratch"),
        (["one_shot"], ["d"], "--paths_at: unknown stage 'd'"),
    ],
)
def test_refuses(plan, paths, at, message):
    with pytest.raises(UserError, match=message):
        students(plan, *choose(paths, False), at=at)


@pytest.mark.parametrize(
    "paths, at, epochs, message",
    [
        (
            "progressive",
            "a",
            "sum",
            "--paths_at 'a': names sizes of other paths, and --paths 'pro",
        ),
        ("progressive", "", "own", "--paths_epochs: 'own' counts epochs of students in one step"),
        (
            "progressive progressive_none",
            "a",
            "sum own",
            "'progressive progressive_none' has none",
        ),
        ("progressive progressive_none", "a", "sum", None),
        ("one_shot", "a b", "sum own+2", None),
    ],
)
def test_words_on_other_paths_need_one(paths, at, epochs, message):
    words = choose(paths.split(), False), at.split(), read_epochs(epochs.split())
    if message is None:
        check_of_use(*words)
        return
    with pytest.raises(UserError, match=message):
        check_of_use(*words)


def test_refuses_a_stage_with_the_name_of_a_path(tmp_path):
    path = tmp_path / "compression.yaml"
    path.write_text("stages: [{target: 0.5, name: one_shot}]")
    with pytest.raises(UserError, match="'one_shot', which is the name of a stage; rename"):
        students(load_plan(str(path)), "one_shot")


def test_own_epochs_are_those_of_the_stage_of_the_size(plan):
    way = effective(plan, lambda name: [])
    at, epochs = ("a", "b"), read_epochs(["sum", "own", "own+2", "own"])
    found = {
        s.name: s
        for s in all_students(
            plan, way, ["progressive", "one_shot", "scratch"], at, DEFAULT, epochs
        )
    }
    assert [n for n in found if n.startswith("one_shot")] == [
        f"one_shot{rule}_{size}" for rule in ("", "_own", "_own2") for size in at
        if (rule, size) not in {("", "a"), ("_own", "a")}  # these are the plan's first step
    ]  # fmt: skip
    lengths = {name: s.epochs for name, s in found.items() if name.endswith("_b")}
    assert lengths == {
        "one_shot_b": 8, "one_shot_own_b": 5, "one_shot_own2_b": 7,
        "scratch_b": 8, "scratch_own_b": 5, "scratch_own2_b": 7,
    }  # fmt: skip
    student = found["one_shot_own2_b"]
    assert student.path == "one_shot_own2" and student.teacher is None
    assert student.kd == found["one_shot_b"].kd and student.sizes == found["one_shot_b"].sizes
    # Without --paths_at the path is the name.
    (alone,) = all_students(plan, way, ["one_shot"], [], DEFAULT, read_epochs(["own"]))
    assert (alone.name, alone.epochs) == ("one_shot_own", DEFAULT)


def test_a_path_is_what_it_is_however_long():
    assert path_named("one_shot_full_own12") is PATHS["one_shot_full"]
    assert path_named("progressive") is None


@pytest.mark.parametrize("words", [["all"], ["own+0"], ["own-1"], ["own+x"], []])
def test_other_epochs_are_refused(words):
    with pytest.raises(UserError, match="--paths_epochs: "):
        read_epochs(words)


def test_own_epochs_are_those_of_all_stages_of_that_size(tmp_path):
    path = tmp_path / "compression.yaml"
    same = "{name: b, student: {}, objective: none, epochs: 3}"
    few_bits = "{name: c, method: quantise, method_conf: {bits: 4}, epochs: 2}"
    path.write_text(f"stages: [{{name: a, target: 0.7, epochs: 8}}, {same}, {few_bits}]")
    plan = load_plan(str(path))
    way = effective(plan, lambda name: [])
    epochs = read_epochs(["own", "own+1"])
    made = all_students(plan, way, ["one_shot"], ["a", "b", "c"], DEFAULT, epochs)
    assert [student.epochs for student in made] == [8, 11, 13, 9, 12, 14]


def test_a_path_of_one_schedule_needs_stages_that_cut(tmp_path):
    path = tmp_path / "compression.yaml"
    few_bits = "{name: b, method: quantise, method_conf: {bits: 4}}"
    path.write_text(f"stages: [{{name: a, target: 0.7}}, {few_bits}]")
    plan = load_plan(str(path))
    message = r"--paths progressive_through: .*stages\[1\].anneal: .*'quantise' does not cut"
    with pytest.raises(UserError, match=message):
        students(plan, "progressive_through")
    assert list(students(plan, "progressive", "progressive_first")) == [
        "a", "b", "progressive_first_b",
    ]  # fmt: skip


def test_no_model_labels_twice_in_one_step(tmp_path):
    path = tmp_path / "compression.yaml"
    labels = "labels: teacher, label_teachers: [previous, first, exp/b]"
    path.write_text(f"stages: [{{name: a, target: 0.7}}, {{name: b, target: 0.5, {labels}}}]")
    plan = load_plan(str(path))
    assert len(students(plan, "progressive", "scratch")) == 3
    with pytest.raises(UserError, match=r"stages\[1\].label_teachers: .* on --paths one_shot"):
        students(plan, "progressive", "one_shot")


def test_the_first_step_is_made_once(tmp_path):
    path = tmp_path / "compression.yaml"
    stages = "{name: a, target: 0.7, epochs: 2}, {name: b, target: 0.5}"
    path.write_text(f"stages: [{stages}, {{name: c, target: 0.4, teacher: a}}]")
    chains = ("progressive", "progressive_first", "progressive_none", "progressive_through")
    found = students(load_plan(str(path)), *chains)
    assert [name for name in found if name.endswith("_a")] == [
        "progressive_none_a", "progressive_through_a",
    ]  # fmt: skip
    # Who would have come after it comes after the plan's own.
    assert found["progressive_first_b"].teacher == "a"
    assert found["progressive_first_c"].teacher == "progressive_first_b"
    assert found["progressive_none_b"].teacher == "progressive_none_a"
    assert found["a"].also_on == ("progressive_first",) and found["b"].also_on == ()
    assert "also_on" not in found["a"].record()
    # Who came after one that an earlier run made twice goes on after that.
    older = students(load_plan(str(path)), *chains, there=("progressive_first_a",))
    assert older["progressive_first_b"].teacher == "progressive_first_a"
    assert older["a"].also_on == ()
    # Without the plan's path it is made, and where a gate had the plan's trained on.
    alone = students(load_plan(str(path)), "progressive_first", "one_shot", at=("a", "b"))
    assert "progressive_first_a" in alone and "one_shot_a" not in alone
    assert alone["progressive_first_a"].also_on == ("one_shot",)
    path.write_text(f"gate: {{otherwise: longer}}\nstages: [{stages}]")
    way = ("progressive", "one_shot")
    longer = {"a": [Round(2, 9, 5, 10), Round(4, 6, 5, 10)]}
    assert "one_shot_a" not in students(load_plan(str(path)), *way, at=("a", "b"))
    assert "one_shot_a" in students(load_plan(str(path)), *way, at=("a", "b"), measured=longer)
    # Where it is all that a path makes, it is made: else nothing would be compared.
    path.write_text("stages: [{name: a, target: 0.7}]")
    assert set(students(load_plan(str(path)), "progressive", "one_shot")) == {"a", "one_shot"}


def test_no_two_paths_train_the_same_student(tmp_path):
    path = tmp_path / "compression.yaml"
    stages = "stages: [{name: a, target: 0.7, epochs: 2}, {name: b, target: 0.5%s}]"
    path.write_text(stages % "")
    plan = load_plan(str(path))
    # It names what the plan leaves at its defaults.
    ways = ("progressive", "one_shot", "one_shot_collapsed", "one_shot_full")
    found = students(plan, *ways)
    assert list(found) == ["a", "b", "one_shot", "one_shot_full"]
    assert found["one_shot"].also_on == ("one_shot_collapsed",)
    there = students(plan, *ways, there=("one_shot_collapsed",))
    assert "one_shot_collapsed" in there and there["one_shot"].also_on == ()
    # What is named counts against what the training config says of all others.
    config = tmp_path / "train.yaml"
    config.write_text("kd_conf: {nodes: occupancy}\n")
    way, base = effective(plan, lambda name: []), read_config(str(config))
    made = all_students(plan, way, ways, [], DEFAULT, base=base)
    assert "one_shot_collapsed" in [student.name for student in made]
    path.write_text(stages % ", weight: 0.3, layers: [[0, 1]], layer_weight: 1")
    assert "one_shot_collapsed" in students(load_plan(str(path)), *ways)
    # Nor is the first teacher mixed with itself.
    found = students(load_plan(str(path)), "progressive", "progressive_half")
    assert list(found) == ["a", "b", "progressive_half_b"]
    # A chain that is the plan's, step by step: its last student is made, to be compared.
    path.write_text((stages % ", teacher: first, epochs: 3").replace("0.7", "0.7, teacher: first"))
    found = students(load_plan(str(path)), "progressive", "progressive_first")
    assert list(found) == ["a", "b", "progressive_first_b"]
    assert found["progressive_first_b"].teacher == "a" and found["a"].also_on


def test_labels_of_a_stage_are_those_of_its_path(tmp_path):
    path = tmp_path / "compression.yaml"
    labels = "labels: teacher, label_teachers: [first, a, exp/b]"
    stages = "{name: a, target: 0.7}, {name: b, target: 0.5}, "
    path.write_text(f"stages: [{stages}{{name: c, target: 0.4, {labels}}}]")
    plan = load_plan(str(path))
    found = students(plan, "progressive", "progressive_random", "progressive_first", "one_shot")
    teachers = {
        "c": "a",
        "progressive_random_c": "progressive_random_a",
        "progressive_first_c": "a",  # with which this path begins
        "one_shot": "a",  # it has none of its own
    }
    for name, labeller in teachers.items():
        assert found[name].label_teachers == ["first", labeller, "exp/b"]
    assert "progressive_random_c" in students(plan, "progressive_random")
    message = r"stages\[2\].label_teachers: 'one_shot' of --paths one_shot learns from .*'a'"
    with pytest.raises(UserError, match=message):
        students(plan, "one_shot")
    assert list(students(plan, "one_shot", there=("a",))) == ["one_shot"]
