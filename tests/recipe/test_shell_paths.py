"""Paths and gates in the stage script; the plan and the verdicts are the real ones."""

import json

import pytest
from shell_recipe import KEPT, value

PLAN = """stages:
- {name: big, target: 0.7, epochs: 2}
- {name: mid, target: 0.5, epochs: 2}
- {name: small, target: 0.4, epochs: 3, weight: 0.3}
"""
GATE = "gate: {{margin: 1.0, otherwise: {}}}\n"
TEACHERS = {"big": "exp/teacher", "mid": "exp/kd_big", "small": "exp/kd_mid"}
STAGE = {"stage": 16, "stop_stage": 17, "test_sets": "test_a", "inference_nj": 1}


@pytest.fixture
def recipe(recipe_with_teacher):
    recipe_with_teacher.write("conf/compression.yaml", PLAN)
    return recipe_with_teacher


def gated(recipe, otherwise):
    recipe.write("conf/compression.yaml", GATE.format(otherwise) + PLAN)


def derived(calls):
    """The students in the order they were derived, and their teachers."""
    return {
        value(call, "--student"): value(call, "--teacher_exp")
        for call in calls
        if call[0].endswith(".derive_student")
    }


def trainings(calls):
    """`(student, last epoch or None)` of each training."""
    return [
        (value(call, "--output_dir").removeprefix("exp/kd_"), int(value(call, "--max_epoch")))
        if "--max_epoch" in call
        else (value(call, "--output_dir").removeprefix("exp/kd_"), None)
        for call in calls
        if call[0].endswith(".train")
    ]


def reported(call):
    return [call[i + 1].split("=")[0] for i, word in enumerate(call) if word == "--model"]


def verdicts(recipe):
    return {
        path.parent.name.removeprefix("kd_"): json.loads(path.read_text())["verdict"]
        for path in (recipe.dir / "exp").glob("*/gate.json")
    }


def test_paths_run_in_order_each_with_the_right_teacher(recipe):
    recipe.ok(paths="progressive scratch one_shot", paths_at="mid small", **STAGE)
    calls = recipe.calls()
    added = ["scratch_mid", "scratch_small", "one_shot_mid", "one_shot_small"]
    expected = {**TEACHERS, **dict.fromkeys(added, "exp/teacher")}
    assert list(derived(calls).items()) == list(expected.items())
    assert reported(calls[-1]) == ["teacher", *TEACHERS, *added]
    # The same again, and one path more before the others: nothing is made twice.
    recipe.ok(paths="progressive scratch one_shot", paths_at="mid small", **STAGE)
    assert recipe.verbs() == ["report"]
    recipe.ok(paths="progressive inherited one_shot", paths_at="mid small", **STAGE)
    assert list(derived(recipe.calls())) == ["inherited_mid", "inherited_small"]
    # Other epochs make students of their own beside those.
    recipe.ok(paths="one_shot", paths_at="mid small", paths_epochs="sum own", **STAGE)
    assert list(derived(recipe.calls())) == ["one_shot_own_mid", "one_shot_own_small"]


def test_the_steps_of_a_chain_have_their_own_teachers(recipe):
    recipe.ok(paths="progressive_none", **STAGE)
    assert derived(recipe.calls()) == {
        "progressive_none_big": "exp/teacher",
        "progressive_none_mid": "exp/kd_progressive_none_big",
        "progressive_none_small": "exp/kd_progressive_none_mid",
    }


def test_a_baseline_that_a_cache_cannot_serve_hears_its_teacher(recipe):
    recipe.ok(paths="one_shot_full one_shot_collapsed", use_teacher_cache="true", nj=1, **STAGE)
    calls = recipe.calls()
    cached = [call for call in calls if call[0].endswith(".cache_teacher")]
    assert [value(call, "--out") for call in cached] == ["exp/kd_one_shot_collapsed/teacher_cache"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"paths": "progressiv"}, "unknown path 'progressiv' (did you mean 'progressive'?)"),
        ({"paths": "scratch", "paths_at": "smal"}, "(did you mean 'small'?)"),
        (
            {"ablate": "true", "kd_args": "--max_epoch 3"},
            "--kd_args --max_epoch would train all students alike long",
        ),
        ({"compression_stage": 4}, "has 3 students"),
        ({"paths_at": "small"}, "--paths_at 'small': names sizes of other paths"),
    ],
)
def test_refuses(recipe, options, message):
    assert message in recipe.error(**STAGE, **options)


@pytest.mark.parametrize(
    "words, message",
    [
        ("--optim sgd", "needs optim: adam or adamw; it is sgd in --kd_args"),
        ("--scheduler warmuplr", "needs scheduler: warmupanneal; it is warmuplr in --kd_args"),
        ("--patience 3", "a length that is known before; leave patience out in --kd_args"),
        ("--exclude_weight_decay true", "leave exclude_weight_decay out in --kd_args"),
    ],
)
def test_options_that_a_schedule_over_a_chain_does_not_go_with(recipe, words, message):
    config = f"optim: adam\nscheduler: warmupanneal\n{KEPT}"
    (recipe.dir / "conf/train_student.yaml").write_text(config)
    assert message in recipe.error(paths="progressive_through", kd_args=words, **STAGE)


def test_a_schedule_over_a_chain_goes_by_the_epochs_of_its_stages(recipe):
    config = f"optim: adam\nscheduler: warmupanneal\n{KEPT}"
    (recipe.dir / "conf/train_student.yaml").write_text(config)
    (recipe.dir / "conf/compression.yaml").write_text("stages: [{target: 0.5, anneal: through}]")
    told = recipe.error(kd_args="--max_epoch 5", **STAGE)
    assert "goes by the epochs of its stages, which --kd_args --max_epoch overrules; say" in told


@pytest.mark.parametrize(
    "train, message",
    [
        ("{optm: adam}", "train.optm: unknown training option (did you mean 'optim'?)"),
        ("{optim: adamm}", "train.optim: 'adamm' is unknown (did you mean 'adam'?)"),
        ("{scheduler: warmup_anneal}", "'warmup_anneal' is unknown (did you mean 'warmupanneal'?"),
    ],
)
def test_options_of_a_stages_training_are_known_before_the_teacher_is_trained(
    recipe, train, message
):
    plan = f"stages: [{{target: 0.5, train: {train}}}]"
    (recipe.dir / "conf/compression.yaml").write_text(plan)
    assert message in recipe.error(**STAGE)


def test_a_curriculum_wants_a_teacher_that_keeps_its_epochs(recipe):
    config = f"max_epoch: 10\nkeep_nbest_models: 3\n{KEPT}"
    (recipe.dir / "conf/train_teacher.yaml").write_text(config)
    words = {"asr_exp": "exp/fresh", "paths": "curriculum_random", **STAGE}
    told = recipe.error(**words)
    assert "'curriculum_random' is taught by epochs of the first teacher (curriculum), who" in told
    assert 'keeps 3 of 10: keep all beside those whose mean it is (--asr_args "--keep_nb' in told
    for given in ("--keep_nbest_models 3 10", "--max_epoch 3"):
        assert "exp/fresh/config.yaml, which stage 11" in recipe.error(asr_args=given, **words)
    in_stage = "stages: [{name: a, target: 0.5, epochs: 2, curriculum: [0.2, 0.4]}]"
    (recipe.dir / "conf/compression.yaml").write_text(in_stage)
    told = recipe.error(**{**words, "paths": "progressive"})
    assert "stages[0].curriculum: 'a' has 3 teachers in turn, but 2 epochs; name fewer" in told


def test_all_students_pass(recipe):
    gated(recipe, "stop")
    wer = {"STUB_WER": "teacher=5 kd_big=6 kd_mid=6 kd_small=7"}
    recipe.ok(wer, **STAGE)
    assert derived(recipe.calls()) == TEACHERS
    assert set(verdicts(recipe).values()) == {"pass"}
    printed = recipe.ok(wer, **STAGE)
    assert set(recipe.verbs()) == {"report"}
    assert "gate pass: mid has WER 6.00 %" in printed


def test_stop_ends_the_compression_and_the_baselines_have_the_best_size(recipe):
    gated(recipe, "stop")
    printed = recipe.ok(
        {"STUB_WER": "teacher=5 kd_big=6 kd_mid=8"}, paths="progressive one_shot", **STAGE
    )
    calls = recipe.calls()
    assert list(derived(calls)) == ["big", "mid", "one_shot"]
    assert "gate stop: mid has WER 8.00 %" in printed
    assert "the compression stops at big" in printed
    assert reported(calls[-1]) == ["teacher", "big", "mid", "one_shot"]


def test_the_first_step_is_made_once_and_the_report_is_told_whose_it_is(recipe):
    recipe.ok(paths="progressive one_shot", paths_at="big mid", **STAGE)
    calls = recipe.calls()
    assert list(derived(calls)) == ["big", "mid", "small", "one_shot_mid"]
    assert value(calls[-1], "--also_on") == "big=one_shot"


def test_a_student_that_recognises_nothing_is_no_teacher_though_its_own_is_no_better(recipe):
    gated(recipe, "stop")
    wer = {"STUB_WER": "teacher=100 kd_big=100"}
    printed = recipe.ok(wer, **STAGE)
    assert verdicts(recipe) == {"big": "stop"}
    assert "gate stop: big has WER 100.00 %" in printed
    assert "validation, makes at least as many errors as there are words" in printed
    assert "gate stop: big has WER 100.00 %" in recipe.ok(wer, **STAGE)  # read again


def test_longer(recipe):
    gated(recipe, "longer")
    wer = {"STUB_WER": "teacher=5 kd_big@2=9 kd_big@4=6 kd_mid=6 kd_small=6"}
    recipe.ok(wer, **STAGE)
    calls = recipe.calls()
    assert trainings(calls) == [("big", None), ("big", 4), ("mid", None), ("small", None)]
    assert verdicts(recipe)["big"] == "pass"
    record = json.loads((recipe.dir / "exp/kd_big/gate.json").read_text())
    assert [one["wer"] for one in record["rounds"]] == [9, 6]
    recipe.ok(wer, **STAGE)
    assert set(recipe.verbs()) == {"report"}
    # Made anew, it goes through its gate from the beginning.
    recipe.ok(wer, force="true", stop_compression_stage=1, **STAGE)
    assert trainings(recipe.calls()) == [("big", None), ("big", 4)]


def test_longer_in_vain_stops(recipe):
    gated(recipe, "longer")
    recipe.ok({"STUB_WER": "teacher=5 kd_big=9"}, **STAGE)
    calls = recipe.calls()
    assert trainings(calls) == [("big", None), ("big", 4)]
    assert verdicts(recipe) == {"big": "stop"}


def test_a_kill_inside_longer(recipe):
    gated(recipe, "longer")
    wer = {"STUB_WER": "teacher=5 kd_big@2=9 kd_big@4=6 kd_mid=6 kd_small=6"}
    failed = recipe.run({**wer, "STUB_FAIL": "espnet_kd.bin.train:4"}, **STAGE)
    assert failed.returncode == 1 and "exp/kd_big/train.log" in failed.stderr
    recipe.calls()
    error = recipe.error(wer, kd_args="--kd_conf weight=2", **STAGE)
    assert "interrupted run with other options or input (kd_conf.weight" in error
    assert not trainings(recipe.calls())
    printed = recipe.ok(wer, **STAGE)
    assert "going on with the interrupted run in exp/kd_big" in printed
    assert trainings(recipe.calls()) == [("big", 4), ("mid", None), ("small", None)]


def test_split_puts_a_student_in_between(recipe):
    gated(recipe, "split")
    wer = {"STUB_WER": "teacher=5 kd_big=6 kd_mid=9 kd_mid_half=6 kd_mid_again=7 kd_small=7"}
    recipe.ok(wer, paths="progressive inherited", **STAGE)
    calls = recipe.calls()
    assert derived(calls) == {
        "big": "exp/teacher",
        "mid": "exp/kd_big",
        "mid_half": "exp/kd_big",
        "mid_again": "exp/kd_mid_half",
        "small": "exp/kd_mid_again",
        "inherited": "exp/teacher",
    }
    assert reported(calls[-1])[1:] == [*derived(calls)]
    recipe.ok(wer, paths="progressive inherited", **STAGE)
    assert set(recipe.verbs()) == {"report"}


def test_continue_notes_it(recipe):
    gated(recipe, "continue")
    printed = recipe.ok({"STUB_WER": "teacher=5 kd_big=9"}, **STAGE)
    assert derived(recipe.calls()) == TEACHERS
    assert verdicts(recipe)["big"] == "continue" and "gate continue: big" in printed


def test_the_speed_is_measured_once_for_all_models_and_again_when_one_changes(recipe):
    recipe.ok(**STAGE)
    (call,) = [call for call in recipe.calls() if call[0].endswith(".measure_speed")]
    assert reported(call) == ["teacher", *TEACHERS]
    assert value(call, "--data") == "dump/raw/test_a" and call[-1] == "OMP=1"
    recipe.ok(**{**STAGE, "stage": 17})
    assert recipe.verbs() == ["report"]
    recipe.write("exp/kd_mid/valid.loss_transducer.ave.pth", "trained anew")
    recipe.ok(**{**STAGE, "stage": 17})  # without that model, which has old scores
    (call, report) = recipe.calls()
    assert reported(call) == reported(report) == ["teacher", "big", "small"]
    recipe.write("exp/speed.json", "{}")  # damaged
    recipe.ok(**{**STAGE, "stage": 17})
    assert recipe.verbs() == ["measure_speed", "report"]
