"""Options of the stage script: parsing, checks, help."""

import re
import subprocess

import pytest
from mini_run import copy_recipe
from shell_recipe import REPO, TEMPLATE, Recipe

from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return Recipe(tmp_path_factory.mktemp("options"))


SETS = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test"]


def run(recipe, *words):
    return subprocess.run(
        ["./asr_kd.sh", *words], cwd=recipe.dir, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.mark.parametrize(
    "words, message",
    [
        (["--stge", "3"], "unknown option --stge (did you mean '--stage'?)"),
        (["--inference-njobs", "3"], "(did you mean '--inference_nj'?)"),
        (["--infrence_nj", "3"], "(did you mean '--inference_nj'?)"),
        (["--lm_confg", "x"], "unknown option --lm_confg; --help lists them all"),
        (["--asr_task", "asr"], "--asr_task 'asr': models here are those of espnet2.bin.asr_tra"),
        (["--skip_stages", "14"], "16, 17, 18, 19, 20, 21, 22 (pack and upload are 18 and 19)"),
        (["--qqqqqqqqqq", "3"], "unknown option --qqqqqqqqqq; --help lists them all"),
        (["--PATH", "/"], "unknown option --PATH"),
        (["--current_stage", "1"], "unknown option --current_stage"),
        (["--stage"], "option --stage needs a value"),
        (["--use_lm"], "option --use_lm needs a value"),
        (["--force", "yes"], "--force must be true or false, not 'yes'"),
        (["--use-streaming=1"], "--use-streaming must be true or false, not '1'"),
        (["--stage", "two"], "--stage must be a whole number, not 'two'"),
        (["--nj", "0"], "--nj must be at least 1"),
        (["--skip_stages", "2,4"], "--skip_stages takes stage numbers, not '2,4'"),
        (["--stage", "1", "2"], "no positional arguments are taken, but '2' was given"),
        (["--valid_set", ""], "--valid_set is required"),
        (["--max_bad_share", "2"], "--max_bad_share must be a share between 0 and 1, e.g. 0.02"),
        (["--local_data_opts", "--a 'b"], "--local_data_opts has a quote that is not closed: --a"),
        (["--token_type", "phn"], "--token_type must be char, bpe or word (phonemes that"),
    ],
)
def test_a_mistake_is_one_line(recipe, words, message):
    done = run(recipe, *SETS, *words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("asr_kd.sh: error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr


def test_help_lists_every_stage_and_option_with_its_value(recipe):
    done = run(recipe, "--fs", "8k", "--asr-args=--max_epoch 3", "--help")
    assert done.returncode == 0 and done.stderr == ""
    script = (TEMPLATE / "asr_kd.sh").read_text()
    block = script[script.index("# General") : script.index("stage_titles=(")]
    names = re.findall(r"^(\w+)=", block, re.M)
    assert len(names) > 40
    for name in names:
        assert re.search(rf"^    --{name}\s", done.stdout, re.M), name
    for number in 1, 2, 3, 4, 5, 10, 11, 12, 13, 16, 17:
        assert re.search(rf"^ +{number}  \w", done.stdout, re.M), number
    assert max(map(len, done.stdout.splitlines())) <= 90
    assert "Sampling rate (8k)" in done.stdout
    assert "(--max_epoch 3)" in done.stdout
    assert "(conf/compression.yaml)" in done.stdout


@pytest.mark.parametrize("corpus", ["librispeech", "mini_speech", "own_corpus"])
def test_run_sh_hands_its_defaults_and_the_users_options_on(corpus):
    folder = REPO / "egs2" / corpus / "asr_kd"
    done = subprocess.run(
        [folder / "run.sh", "--nj", "7", "--help"],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0
    assert "statistics (7)" in done.stdout
    assert "Name of the training set (train" in done.stdout
    assert ("SYNTHETIC" in done.stdout) == (corpus == "mini_speech")


def test_parse_options_in_a_script_without_help(tmp_path):
    script = tmp_path / "s.sh"
    script.write_text(
        f"corpus=a\nquiet=false\n. {TEMPLATE}/scripts/parse_options.sh\n"
        'echo "$corpus/$quiet/$#/$*"\n'
    )
    words = ["--corpus", 'x  "y" $z', "--quiet=true", "p", "--q"]
    done = subprocess.run(["bash", "-eu", script, *words], capture_output=True, text=True)
    assert done.stdout == 'x  "y" $z/true/2/p --q\n'
    done = subprocess.run(["bash", "-eu", script, "--corpsu", "x"], capture_output=True, text=True)
    assert "did you mean '--corpus'?" in done.stderr and done.returncode == 1


def test_setup_refuses_a_folder_that_is_in_use(recipe):
    setup = recipe.dir / "../../TEMPLATE/asr_kd/setup.sh"
    for folder, message in [
        (recipe.dir, "run.sh is there already; nothing was changed"),
        (recipe.dir.parents[2] / "elsewhere", "must be egs2/<corpus>/asr_kd"),
    ]:
        done = subprocess.run([setup, folder], capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert message in done.stderr


@pytest.mark.parametrize(
    "words, said",
    [
        ([], ["training set (train_clean_100)", "tokens (500)", "perturbation (0.9 1.0 1.1)"]),
        (["--train_set", "mine"], ["training set (mine)", "perturbation ()"]),
        (["--data_scale", "960"], ["set (train_960)", "tokens (1000)", "perturbation ()"]),
        (["--data-scale=mini", "--nj", "2"], ["set (train_clean_5)", "statistics (2)"]),
    ],
)
def test_librispeech_s_scales(words, said):
    folder = REPO / "egs2/librispeech/asr_kd"

    def help_of(*command):
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE
        )

    done = help_of("./run.sh", *words, "--help")
    assert done.returncode == 0
    for part in said:
        assert part in done.stdout
    named = re.findall(r"\((conf/\S+\.yaml)\)", done.stdout)
    assert len(named) == 4 and all((folder / name).is_file() for name in named)
    if "960" in words:
        assert [name for name in named if "960" in name] == [
            "conf/train_teacher_960.yaml",
            "conf/compression_960.yaml",
        ]
        assert help_of("./run_960.sh", "--help").stdout == done.stdout


@pytest.mark.parametrize(
    "corpus, known",
    [
        ("librispeech", "mini, small, 100 or 960, not ''"),
        ("own_corpus", "small, medium or large, not 'nothing'"),
    ],
)
def test_a_scale_that_is_not_known(corpus, known):
    folder = REPO / f"egs2/{corpus}/asr_kd"
    done = subprocess.run(["./run.sh", "--data_scale"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"run.sh: error: --data_scale must be {known}\n"


@pytest.mark.parametrize(
    "words, told",
    [
        (["--teacher_exp", "t"], True),
        (["--teacher_exp", "t", "--compression_config", "conf/x.yaml"], False),
        ([], False),
    ],
)
def test_stage_1_says_by_which_plan_it_goes(tmp_path, words, told):
    folder = copy_recipe("own_corpus", tmp_path)
    (folder / "asr_kd.sh").unlink()
    (folder / "asr_kd.sh").write_text("#!/bin/sh\nexit 3\n")
    (folder / "asr_kd.sh").chmod(0o755)
    words = ["./run.sh", "--corpus", "c", *words]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 3
    assert ("if that of conf/large is meant, say --data_scale large" in done.stderr) is told


def test_a_teacher_is_named_from_where_the_user_is(tmp_path):
    run = REPO / "egs2/own_corpus/asr_kd/run.sh"
    words = [run, "--teacher_exp", "exp/asr_x", "--corpus=c", "--help"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert f"train none ({tmp_path}/exp/asr_x)" in " ".join(done.stdout.replace("#", "").split())
