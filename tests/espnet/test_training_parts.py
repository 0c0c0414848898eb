"""What ESPnet would refuse of a training's options, told before any student is trained."""

import argparse
from pathlib import Path

import pytest
from espnet2.bin import asr_transducer_inference

from espnet_kd.errors import UserError
from espnet_kd.espnet.plan_checks import check_trainings
from espnet_kd.espnet.task import DistilTransducerTask
from espnet_kd.run import espnet_names
from espnet_kd.spec.plan import parse_plan
from espnet_kd.spec.training_config import TrainingConfig, read_config
from tests.recipe.toy import TRAINING, write_yaml

BASE = TrainingConfig("train.yaml", TRAINING)
RECIPES = sorted(Path(__file__).parents[2].glob("egs2/*/asr_kd/conf/train_student.yaml"))


def told(train, base=BASE):
    """Return what is said of the `train` of a second stage, without its place."""
    plan = parse_plan(f"stages: [{{target: 0.5}}, {{target: 0.3, train: {train}}}]", "plan.yaml")
    with pytest.raises(UserError) as e:
        check_trainings(plan.stages, base)
    return str(e.value)


@pytest.mark.parametrize(
    "train, problem",
    [
        ("{seed: x}", "seed: expected a whole number, found 'x'"),
        ("{num_workers: 1.5}", "num_workers: expected a whole number, found '1.5'"),
        ("{grad_clip: high}", "grad_clip: expected a number, found 'high'"),
        ("{use_amp: maybe}", "use_amp: expected true or false, found 'maybe'"),
        ("{grad_clip: [1, 2]}", "grad_clip: expected a number, found '[1, 2]'"),
        ("{keep_nbest_models: x}", "keep_nbest_models: expected a whole number, found 'x'"),
        ("{accum_grad: 0}", "accum_grad: found 0, at least 1 is needed"),
        ("{seed: 4294967296}", "seed: found 4294967296, at most 4294967295 is possible"),
        ("{sort_in_batch: up}", "sort_in_batch: 'up' is not one of descending, ascending"),
        ("{amp_dtype: half}", "amp_dtype: 'half' is not one of auto, bfloat16"),
        ("{optim_conf: {beta: 1}}", "optim_conf.beta: not an option of adamw, which train.yaml: "),
        (
            "{optim_conf: {betas: 1}}",
            "optim_conf: adamw cannot be used with '{'lr': 0.002, 'betas': 1}' (",
        ),
        ("{optim_conf: {weight_decay: -1}}", "Invalid weight_decay value: -1"),
        ("{scheduler_conf: {warmup: 3}}", "(did you mean 'warmup_steps'?); it takes warmup_steps"),
        ("{scheduler_conf: {warmup_steps: x}}", "scheduler_conf: warmuplr cannot be used with "),
        ("{specaug: mask}", "specaug: 'mask' is not one of specaug"),
        (
            "{specaug: specaug, specaug_conf: {num_mask: 2}}",
            "specaug_conf.num_mask: not an option of specaug, which plan.yaml: stages[1].train: "
            "specaug names (did you mean 'num_time_mask'?)",
        ),
        (
            "{model_conf: {auxilary_ctc_weight: 0.3}}",
            "model_conf.auxilary_ctc_weight: unknown option of the model (did you mean "
            "'auxiliary_ctc_weight'?)",
        ),
        ("{seed: {a: 1}}", "seed: expected a whole number, found '{'a': 1}'"),
        ("{grad_clip: null}", "grad_clip: expected a number, found 'null'; leave it out"),
        ("{optim_conf: null}", "optim_conf: expected options by name, found 'null'"),
        ("{scheduler_conf: null}", "scheduler_conf: expected options by name, found 'null'"),
        ("{specaug: {}}", "specaug: expected one value, found '{}'"),
        ("{keep_nbest_models: 0}", "keep_nbest_models: found 0, at least 1 is needed"),
        ("{keep_nbest_models: [3, x]}", "keep_nbest_models: expected a whole number, found 'x'"),
        ("{fold_length: [a, 2]}", "fold_length: expected a whole number, found 'a'"),
        ("{max_cache_size: x}", "max_cache_size: expected a size such as 2G, found 'x'"),
        ("{val_scheduler_criterion: [valid]}", "such a list as [valid, loss_transducer], found"),
        ("{early_stopping_criterion: [valid, loss, mn]}", "[valid, loss_transducer, min], found"),
        (
            "{exclude_weight_decay: true, exclude_weight_decay_conf: {all: 1}}",
            "unexpected keyword",
        ),
        ("{init: chainer}", "init: ESPnet initialises no transducer; leave it out"),
        ("{optim_conf: {fused: true, foreach: true}}", "(`fused` and `foreach` cannot be"),
        ("{optim_conf: {differentiable: true}}", "optim_conf: adamw cannot be used with "),
        (
            "{scheduler: steplr, scheduler_conf: {step_size: x, warmup_steps: 1}}",
            "scheduler_conf.warmup_steps: not an option of steplr, which",
        ),
        ("{model_conf: {fastemit_lambda: y}}", "model_conf.fastemit_lambda: expected a number"),
    ],
)
def test_a_later_stages_wrong_value_is_told_with_its_place(train, problem):
    message = told(train)
    assert message.startswith("plan.yaml: stages[1].train: ") and problem in message


@pytest.mark.parametrize(
    "train, problem",
    [
        ("{optim: lbfgs}", "train.yaml: optim_conf: lbfgs cannot be used with "),
        (
            "{scheduler: steplr}",
            "train.yaml: scheduler_conf.warmup_steps: not an option of steplr",
        ),
    ],
)
def test_what_a_stage_leaves_in_the_config_below_it_is_told_there(train, problem):
    assert told(train).startswith(problem)


def test_the_students_config_is_checked_too():
    base = TrainingConfig("train.yaml", {**TRAINING, "use_amp": "maybe"})
    assert told("{}", base) == "train.yaml: use_amp: expected true or false, found 'maybe'"


def test_what_espnet_takes_is_taken():
    """As YAML has them: no text, no value, a round number with a point, other letters."""
    base = {k: v for k, v in TRAINING.items() if not k.startswith(("scheduler", "optim_"))}
    for train in (
        "{patience: null, num_workers: 2, use_amp: true, grad_clip: 5, batch_bins: 2.0e+6}",
        "{optim: Adam, optim_conf: {betas: [0.9, 0.98]}, keep_nbest_models: [3, 10]}",
        "{scheduler: none, specaug: null, optim_conf: {fused: true}, seed: 3}",
        "{scheduler: reducelronplateau, scheduler_conf: {patience: 2}}",
        "{init: none, log_level: info, use_amp: 'off', resume: 'y', scheduler: nil}",
        "{patience: ' none '}",
        "{chunk_length: [300, 400], num_workers: false, seed: true, max_cache_size: 2G}",
        "{model_conf: {warmup_steps: 2000000, report_cer: null}, optim_conf: {capturable: true}}",
        "{exclude_weight_decay: true, scheduler: cycliclr, optim: sgd, scheduler_conf: "
        "{base_lr: [0.1, 0.2], max_lr: [0.2, 0.3]}}",
        "{scheduler: onecyclelr, scheduler_conf: {max_lr: 0.1, total_steps: 100}}",
        "{scheduler: tristagelr, scheduler_conf: {max_steps: 100, warmup_ratio: 0.1, "
        "hold_ratio: 0.4, decay_ratio: 0.5}}",
        "{specaug: specaug, specaug_conf: {time_mask_width_ratio_range: [0.0, 0.05]}}",
        "{best_model_criterion: [[valid, cer_transducer, min], [train, loss, max]]}",
    ):
        plan = parse_plan(f"stages: [{{target: 0.5, train: {train}}}]", "plan.yaml")
        check_trainings(plan.stages, TrainingConfig("train.yaml", base))


def test_what_the_command_line_overrules_is_not_checked():
    """Else a config of a scheduler without options would be refused beside --scheduler none."""
    plan = parse_plan("stages: [{target: 0.5, train: {seed: x, scheduler: steplr}}]", "plan.yaml")
    for given in (["seed"], ["scheduler"]):
        with pytest.raises(UserError):
            check_trainings(plan.stages, BASE, given)
    check_trainings(plan.stages, BASE, ["seed", "scheduler"])
    # Of other options of an optimizer a scheduler is built all the same.
    with pytest.raises(UserError, match="not an option of steplr"):
        check_trainings(plan.stages, BASE, ["seed", "optim_conf"])


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.parts[-4])
def test_the_recipes_own_are_right(file):
    check_trainings([], read_config(str(file)))


def test_a_teachers_config_is_checked_before_its_data_are_read(tmp_path):
    required = "--output_dir exp --token_list tokens.txt --print_config".split()
    for key, value, problem in (
        ("optim_conf", {"lr": 0.1, "beta": 2}, "optim_conf.beta: not an option of adamw, which"),
        ("model_conf", {"transducer_wait": 1}, "model_conf.transducer_wait: unknown option of"),
    ):
        write_yaml(tmp_path / "teacher.yaml", {**TRAINING, key: value})
        words = ["--config", str(tmp_path / "teacher.yaml"), *required]
        args = DistilTransducerTask.get_parser().parse_args(words)
        with pytest.raises(UserError) as e:
            DistilTransducerTask.check_required_command_args(args)
        assert str(e.value).startswith(f"{tmp_path}/teacher.yaml: {problem}")


@pytest.mark.parametrize(
    "files, parser",
    [
        (espnet_names.TRAINING, DistilTransducerTask.get_parser()),
        (espnet_names.DECODING, asr_transducer_inference.get_parser()),
    ],
)
def test_what_is_read_off_espnets_source_is_what_it_parses(files, parser):
    """Or what is checked before stage 1 would refuse what ESPnet takes."""
    parsed = {action.dest: action for action in parser._actions}
    checked = 0
    for action in espnet_names.declared(files):
        theirs = parsed[action.dest]
        if action.choices is not None:
            assert list(action.choices) == list(theirs.choices), action.dest
        if action.type is not None:
            assert action.type is theirs.type, action.dest
            checked += 1
        one = theirs.nargs in (None, 0) and not isinstance(theirs, argparse._AppendAction)
        assert (action.nargs is None) == one, action.dest
    assert checked >= 20
