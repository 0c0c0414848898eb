"""Values of ESPnet's options, told before stage 1, and checkpoints that are not kept."""

from pathlib import Path

import pytest

from tests.run.right_options import KEPT, PLAN


def test_what_is_decoded_with_is_kept(told):
    """Configs of ESPnet mostly name other criteria, whose checkpoints the recipe passes over."""
    config = Path("conf/train_teacher.yaml")
    name = "valid.loss_transducer.ave.pth"
    for criteria, line, kept in (
        ("", "", "train.loss, valid.loss"),
        ("best_model_criterion:\n-   - valid\n    - loss\n    - min\n", ":3", "valid.loss"),
        ("best_model_criterion: [[valid, acc, max]]", ":2", "none that a transducer has"),
    ):
        config.write_text(f"optim: adam\n{criteria}")
        assert told() == [
            f"conf/train_teacher.yaml{line}: best_model_criterion: checkpoints are kept by "
            f"{kept}, and {name} is decoded with (--inference_asr_model); add valid, "
            "loss_transducer, min"
        ]
        for word in ("valid,loss_transducer,min", "(valid,loss_transducer,min)"):
            assert told(asr_args=f"--best_model_crit {word}") == []
        assert told(inference_asr_model="latest.pth") == told(stop_stage="11") == []
    config.write_text(f"optim: adam\n{KEPT}")
    (problem,) = told(asr_args="--best_model_criterion valid,loss,min")
    assert problem.startswith("--asr_args: --best_model_criterion: checkpoints are kept by")
    (problem,) = told(inference_asr_model="valid.acc.best.pth")
    assert "a transducer has no acc; name another" in problem
    (problem,) = told(inference_asr_model="valid.loss.ave_5best.pth")
    assert "keep_nbest_models: means of 10 are kept, and valid.loss.ave_5best.pth is" in problem
    assert told(inference_asr_model="valid.loss.ave_10best.pth") == []


def test_what_is_decoded_with_is_kept_of_every_student(told):
    """By the config, what a stage says over it, and the command line over both."""
    stages = "stages: [{target: 0.5, train: {best_model_criterion: [[valid, %s, min]]}}]"
    plan, right = Path("conf/compression.yaml"), "valid,loss_transducer,min"
    plan.write_text(stages % "los")
    (problem,) = told()
    assert problem.startswith("conf/compression.yaml:1: stages[0].train.best_model_criterion: ch")
    assert told(kd_args=f"--best_model_criterion {right}") == []
    Path("conf/train_student.yaml").write_text("optim: adam\n")
    plan.write_text(stages % "loss_transducer")
    assert told() == []
    plan.write_text(PLAN)
    (problem,) = told()
    assert problem.startswith("conf/train_student.yaml: best_model_criterion: checkpoints are")


@pytest.mark.parametrize(
    "value",
    ["5", "[5]", "[null]", "[{valid: loss_transducer}]", "[valid, loss_transducer, min]", "[[]]"]
    + ["[[valid, loss_transducer]]", "[[valid, loss_transducer, mn]]", "'valid,loss,min'", "null"],
)
def test_criteria_of_other_shapes_are_told(told, value):
    Path("conf/train_teacher.yaml").write_text(f"optim: adam\nbest_model_criterion: {value}\n")
    (line,) = told()
    assert line.startswith("conf/train_teacher.yaml:2: best_model_criterion: expected ")


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("train_teacher", "seed: x", "seed: expected a whole number, found 'x'"),
        ("train_teacher", "grad_clip: [1, 2]", "grad_clip: expected a number, found '[1, 2]'"),
        ("train_student", "use_amp: maybe", "use_amp: expected true or false, found 'maybe'"),
        ("train_student", "sort_batch: up", "sort_batch: 'up' is not one of descending, ascend"),
        ("train_student", "accum_grad: 0", "accum_grad: found 0, at least 1 is needed"),
        ("decode", "beam_size: five", "beam_size: expected a whole number, found 'five'"),
        ("decode", "nbest: 1.5", "nbest: expected a whole number, found '1.5'"),
        ("decode", "beam_size: 2.0", "beam_size: expected a whole number, found '2.0'"),
        ("train_student", "num_workers: 2.0", "num_workers: expected a whole number, found '2.0'"),
        ("train_student", "batch_type: [numel]", "batch_type: expected one value, found"),
        ("train_student", "max_cache_size: x", "max_cache_size: expected a size such as 2G"),
        ("train_teacher", "use_amp: null", "use_amp: expected true or false, found 'null'; leav"),
        ("train_teacher", "model_conf:", "model_conf: expected options by name, found 'null'"),
        ("train_teacher", "scheduler_conf: null", "scheduler_conf: expected options by name"),
    ],
)
def test_values_of_espnets_options_are_told_before_anything_is_made(told, name, content, problem):
    """Else of a student after its teacher's training, and of decoding after that."""
    Path(f"conf/{name}.yaml").write_text(f"{content}\n{'' if name == 'decode' else KEPT}")
    (line,) = told()
    assert line.startswith(f"conf/{name}.yaml:1: {problem}")


@pytest.mark.parametrize(
    "words, problem",
    [
        ("--seed x --seed 3", "--seed: expected a whole number, found 'x'"),
        ("--see x", "--seed: expected a whole number, found 'x'"),  # as argparse takes it
        ("--seed 5.0", "--seed: expected a whole number, found '5.0'"),
        ("--batch_bins 1e6", "--batch_bins: expected a whole number, found '1e6'"),
        ("--use_amp=maybe", "--use_amp: expected true or false, found 'maybe'"),
        ("--wer_utterances many", "--wer_utterances: expected a whole number, found 'many'"),
        ("--keep_nbest_models 3 x", "--keep_nbest_models: expected a whole number, found 'x'"),
        ("--best_model_criterion valid,loss_transducer", "--best_model_criterion: expected such"),
        ("--optim_conf x", "--optim_conf: expected options by name, found 'x'"),
        ("--scheduler nosuch", "--scheduler nosuch: unknown"),
        ("--optim adm", "--optim adm: unknown (did you mean 'adam'?)"),
        ("--seed", "--seed: expected a whole number, found 'null'"),
        ("--batch_type numel sorted", "--batch_type: expected one value, found 'numel sorted'"),
        ("--best_model_criterion [[valid,loss,min]]", "--best_model_criterion: expected such"),
    ],
)
@pytest.mark.parametrize("args", ["asr_args", "kd_args"])
def test_values_on_command_lines_are_told_as_argparse_would(told, args, words, problem):
    (line,) = told(**{args: words})
    assert line.startswith(f"--{args}: {problem}")


def test_values_of_configs_that_espnet_takes(told):
    for name, content in (
        ("decode", "beam_search_config: {search_type: maes, nstep: 2}"),
        ("train_student", "init: none\nchunk_length: [3, 4]"),
        ("train_teacher", "token_list: [a]"),
        ("train_student", "batch_bins: 2.0e+6\nuse_amp: 'off'\nlog_level: info\npatience: null"),
        ("train_teacher", "keep_nbest_models: '10'\nseed: '3'\nnum_workers: false"),
    ):
        Path(f"conf/{name}.yaml").write_text(f"{content}\n{'' if name == 'decode' else KEPT}")
        assert told(inference_asr_model="valid.loss.ave_10best.pth") == [], content
    Path("conf/decode.yaml").write_text("beam_size: x\n")
    assert told(inference_args="--beam_si 3") == []  # overrules it


def test_values_on_command_lines_that_espnet_takes(told):
    words = "--optim_conf lr=0.1 --scheduler none --keep_nbest_models 3 10 --use_amp y --seed=3"
    words += " --log_level info --specaug_conf {num_time_mask:2} --patience none"
    assert told(asr_args=words, kd_args=words) == []
    assert told(inference_args="--beam_size 3 --log_level debug --nbest=2") == []


def test_values_of_decodings_and_plans_are_told_too(told):
    for words, problem in (
        ("--beam_size 2.5", "--beam_size: expected a whole number, found '2.5'"),
        ("--beam_size 0", "--beam_size: found 0, at least 1 is needed"),
        ("--num_workers x", "--num_workers: expected a whole number, found 'x'"),
    ):
        assert told(inference_args=words) == [f"--inference_args: {problem}"]
    plan = Path("conf/compression.yaml")
    plan.write_text("stages: [{target: 0.5, train: {patience: soon}}]")
    assert told() == [
        "conf/compression.yaml:1: stages[0].train.patience: expected a whole number, found 'soon'"
    ]
    assert told(kd_args="--patience 3") == []  # overrules it
