"""What is wrong with the options of the recipe, and with what they name, before stage 1."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from espnet_kd import machine
from espnet_kd.deploy import hub
from espnet_kd.run import espnet_names, prerequisites
from espnet_kd.run.names import names_of
from espnet_kd.run.options import OPTIONS
from tests.run.right_options import DEFAULTS, GOOD, KEPT


def test_nothing_is_wrong_with_the_defaults(told):
    assert told() == []
    assert set(GOOD) == set(OPTIONS)
    assert DEFAULTS == {name: option.default for name, option in OPTIONS.items()}


@pytest.mark.parametrize(
    "stage, refused",
    [
        ("{student: {}, method_conf: {cascade: {}}, objective: none}", True),
        ("{target: 0.5, method_conf: {gates: 0.3}}", True),
        ("{method: quantise, method_conf: {bits: 4}}", True),
        ("{target: 0.5, method_conf: {predictor_dropout: 0.1}}", False),
    ],
)
def test_what_is_made_of_averages_is_decoded_from_one(stage, refused, told):
    """A second student, closed gates and rounded weights: not in the model of an epoch."""
    Path("conf/compression.yaml").write_text(f"stages: [{stage}]")
    for name in ("valid.loss.best.pth", "3epoch.pth", "latest.pth"):
        problems = told(inference_asr_model=name)
        assert len(problems) == refused
        assert not refused or problems[0].startswith(
            f"--inference_asr_model {name}: conf/compression.yaml:1: stages[0].method: 'stage1' is"
        )
    for name in ("valid.loss.ave.pth", "valid.wer_transducer.ave_10best.pth"):
        assert told(inference_asr_model=name) == []


def test_torch_is_not_imported(told):
    told()
    code = "import sys; from espnet_kd.bin import check_options; sys.exit('torch' in sys.modules)"
    assert os.system(f'{sys.executable} -c "{code}"') == 0


ODD_PATHS = [
    # what a path may not be, and why
    ("my exp", "' ' (space) cannot be used: lists of paths are split at spaces"),
    ("a,b", "',' (comma) cannot be used: ESPnet splits `path,name,type` at commas"),
    ("~/exp", "'~' (tilde) cannot be used: it is not replaced here"),
    ("$HOME/exp", "'$' (dollar sign) cannot be used"),
    ("it's", '"\'" (apostrophe) cannot be used'),
    ('"exp"', "'\"' (quotation mark) cannot be used"),
    ("exp*", "'*' (asterisk) cannot be used"),
    ("a:b", "':' (colon) cannot be used"),
    ("a=b", "'=' (equals sign) cannot be used"),
    ("a\\b", "(reverse solidus) cannot be used"),
    ("a\nb", "must be one line without control characters, not 'a\\nb'"),
    ("-exp", "begins with '-' and would be taken for an option"),
    ("x" * 201, "has a name of more than 200 bytes: 'xxxx"),
    ("/".join(["x" * 100] * 30), "is longer than 2000 bytes"),
    ("a\udcffb", "is not UTF-8"),
    (" ", "holds blanks only"),
]


@pytest.mark.parametrize("path, message", ODD_PATHS, ids=[repr(p[0])[:20] for p in ODD_PATHS])
@pytest.mark.parametrize(
    "option", [name for name, option in OPTIONS.items() if option.kind == "path"]
)
def test_odd_paths(told, option, path, message):
    (line,) = told(**{option: path})
    assert line.startswith(f"--{option} ") and message in line


@pytest.mark.parametrize("path", ["exp", "é/данные", "a.b/c-d_e+1", "../exp", "exp/..", "/tmp/x"])
def test_paths_that_are_not_odd(told, path):
    assert told(expdir=path) == []


def test_folders(told, monkeypatch):
    Path("file").write_text("")
    Path("link").symlink_to("nowhere")
    assert told(expdir="file/exp") == ["--expdir file/exp: file is a file; a folder is expected"]
    assert told(dumpdir="link") == ["--dumpdir link: link is a link that leads nowhere"]
    assert told(dumpdir="data") == ["--dumpdir data: is the same folder as data"]
    assert told(asr_exp="exp/asr_stats") == [
        "--asr_exp exp/asr_stats: is the same folder as --asr_stats_dir"
    ]
    assert told(dumpdir="link", stage="11") == []  # which no stage from there on writes to
    Path("locked").mkdir()
    may = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: str(p)[-6:] != "locked" and may(p, mode))
    assert told(token_dir="locked/x") == ["--token_dir locked/x: locked cannot be written to"]


CASES = [
    ({"stage": "two"}, "--stage must be a whole number, not 'two'"),
    ({"stage": "-1"}, "--stage must be a whole number, not '-1'"),
    ({"nbpe": "08"}, "--nbpe must be a whole number without leading zeros, not '08'"),
    ({"nj": "0"}, "--nj must be at least 1"),
    ({"nj": "9" * 30}, "--nj must be at most 1000000000, not 99999999999999999999"),
    ({"seed": "4294967296"}, "--seed must be at most 4294967295, not 4294967296"),
    ({"train_threads": "1.5"}, "--train_threads must be a whole number, not '1.5'"),
    ({"asr_text_fold_length": ""}, "--asr_text_fold_length is required"),
    ({"force": "yes"}, "--force must be true or false, not 'yes'"),
    ({"audio_format": "mp3"}, "--audio_format must be flac or wav, not 'mp3'"),
    ({"fs": "0k"}, "--fs must be a sampling rate, e.g. 16k or 16000, not '0k'"),
    ({"fs": "16"}, "--fs must be a sampling rate, e.g. 16k or 16000, not '16'"),
    ({"max_bad_share": "1.5"}, "--max_bad_share must be a share between 0 and 1, e.g. 0.02, no"),
    ({"max_wav_duration": "nan"}, "--max_wav_duration must be a number between 0 and 86400, not"),
    ({"min_wav_duration": "1e999"}, "--min_wav_duration must be a number between 0 and 86400"),
    ({"min_wav_duration": "5", "max_wav_duration": "5"}, "--min_wav_duration 5 is not less than"),
    ({"decoding_windows": "320 0"}, "--decoding_windows takes milliseconds of audio of a chunk"),
    ({"decoding_windows": "320 320"}, "--decoding_windows has 320 twice"),
    ({"decoding_windows": "320"}, "--decoding_windows 320: chunks of several lengths need"),
    ({"speed_perturb_factors": "1.0 1"}, "--speed_perturb_factors '1.0 1': give different facto"),
    ({"speed_perturb_factors": "0 1"}, "--speed_perturb_factors '0' is not a speed between 0.5"),
    ({"speed_perturb_factors": "nan"}, "--speed_perturb_factors 'nan' is not a speed between"),
    ({"train_set": "a b"}, "--train_set 'a b': ' ' (space) cannot be used"),
    ({"train_set": "a/b"}, "--train_set 'a/b': '/' (solidus) cannot be used"),
    ({"test_sets": "a b a"}, "--test_sets has a twice"),
    ({"valid_set": "train"}, "--valid_set train is the training set; copy its folder"),
    ({"test_sets": "org"}, "a set cannot be named 'org': dump/raw/org holds sets"),
    ({"test_sets": "train_sp", "speed_perturb_factors": "0.9 1.0"}, "a set cannot be named 'tr"),
    ({"lang": "e n"}, "--lang 'e n': ' ' (space) cannot be used"),
    ({"kd_tag": "a,b"}, "--kd_tag 'a,b': ',' (comma) cannot be used"),
    ({"asr_tag": ".x"}, "--asr_tag '.x': a name cannot begin with a dot"),
    ({"kd_args": "--kd_conf 'a b'"}, "--kd_args is split at spaces, and nothing in it is quoted"),
    ({"asr_args": "max_epoch 3"}, "--asr_args must begin with an option (--name value), not"),
    ({"asr_args": "--max_epohc 3"}, "--asr_args: unknown option --max_epohc (did you mean 'max_e"),
    ({"kd_args": "--kd_cnf=weight=1"}, "--kd_args: unknown option --kd_cnf (did you mean 'kd_co"),
    ({"kd_args": "--decoder_conf hidden_size=8"}, "--kd_args: --decoder_conf.hidden_size: a"),
    ({"kd_args": "--optim_conf lr=1e-3"}, "--kd_args: lr: expected a number, found '1e-3' (text"),
    ({"asr_args": "--grad_clip=1e1 --optim_conf=lr=1e-3"}, "--asr_args: --optim_conf=lr: exp"),
    ({"kd_args": "--token_list x"}, "--kd_args: --token_list: a student has its teacher's model"),
    (
        {"kd_args": "--encoder_conf main_conf.short_chunk_size=4"},
        "--kd_args: --encoder_conf: chunks stand in `train` of a stage of the plan",
    ),
    ({"inference_args": "--beam 2 --nbets 1"}, "--inference_args: unknown option --nbets (did"),
    (
        {"feats_normalize": "utterance_mvn", "use_streaming": "true"},
        "--feats_normalize utterance_mvn needs whole utterances",
    ),
    ({"local_data_opts": "--a 'b"}, "--local_data_opts has a quote that is not closed: --a 'b"),
    ({"skip_stages": "2,4"}, "--skip_stages takes stage numbers, not '2,4'"),
    ({"skip_stages": "6 14"}, "--skip_stages 14: no such stage; there are 1, 2, 3, 4, 5, 10, 11"),
    ({"stage": "5", "stop_stage": "4"}, "--stage 5 is after --stop_stage 4"),
    ({"compression_stage": "3", "stop_compression_stage": "2"}, "--compression_stage 3 is after"),
    ({"paths": "progresive"}, "--paths unknown path 'progresive' (did you mean 'progressive'?)"),
    ({"paths_epochs": "own+0"}, "--paths_epochs 'own+0' is none of sum, own, own+1, own+2"),
    ({"paths": "scratch", "kd_args": "--max_epoch 3"}, "--kd_args --max_epoch would train all"),
    ({"pack_models": "teacher halv"}, "--pack_models: no model 'halv' in conf/compression.yaml ("),
    ({"hf_repo": "me"}, "--hf_repo must be user/name, not 'me'"),
    ({"train_watts": "9 W"}, "--train_watts must be a number between 0.1 and 100000, not '9 W'"),
    ({"train_watts": "0"}, "--train_watts must be a number between 0.1 and 100000, not '0'"),
    ({"report_note": "a\nb"}, "--report_note must be one line without control characters"),
    ({"num_nodes": "2"}, "--num_nodes 2 needs a scheduler: set cmd_backend in cmd.sh"),
    ({"ngpu": "2"}, "--ngpu 2: this machine has 1; --ngpu 0 trains on the CPU"),
    ({"asr_config": "conf"}, "--asr_config conf: a folder, not a file (stage 10 reads it)"),
    ({"student_config": "c.yaml"}, "--student_config c.yaml: no such file (stage 16 reads it)"),
    ({"teacher_exp": "theirs", "teacher_model": "b.pth"}, "--teacher_exp theirs has no b.pth; na"),
    ({"teacher_exp": "theirs", "asr_exp": "theirs"}, "--teacher_exp theirs: is the folder that"),
    ({"teacher_exp": "conf", "teacher_model": "decode.yaml"}, "conf/config.yaml: no such file;"),
    ({"teacher_exp": "theirs", "teacher_model": "a.pth", "fs": "8k"}, "is 16000 Hz, the recipe's"),
]  # fmt: skip


@pytest.mark.parametrize("values, message", CASES, ids=[c[1][:40] for c in CASES])
def test_one_mistake(told, values, message):
    lines = told(**values)
    assert [line for line in lines if message in line], lines
    assert len(lines) == 1, lines


def test_values_that_are_not_mistakes(told):
    assert (
        told(
            kd_args="--kd_conf weight_schedule=[[0,0.0],[9,1.0]] --wandb_model_log_interval -1",
            inference_args="--beam_siz 2",  # argparse takes beginnings of names
            pack_models="teacher third third_half one_shot",
            speed_perturb_factors="0.9 1.0 1.1",
            local_data_opts="--a 'b c'",
            skip_stages="2 4 4",
            teacher_exp="theirs",
            teacher_model="a.pth",
            seed="0",
        )
        == []
    )


def test_all_mistakes_at_once(told):
    assert len(told(stage="x", nj="0", fs="1", lang="a b", kd_tag="a b", force="1")) == 6
    lines = told(asr_config="x", student_config="y", ngpu="4", kd_args="--x 1", dumpdir="data")
    assert len(lines) == 5


def test_what_is_made_of_a_wrong_value_is_not_told_again(told):
    assert len(told(expdir="a b", asr_exp="a b/asr_x", asr_stats_dir="a b/stats")) == 1


def test_only_what_the_stages_read_is_looked_at(told):
    assert told(stop_stage="5", asr_config="gone", compression_config="gone", ngpu="8") == []
    assert told(backend="slurm", ngpu="8", num_nodes="2") == []
    assert told(teacher_exp="theirs", stage="10", teacher_model="gone.pth") == []


def test_configs(told):
    def told_of(name, content):
        Path(f"conf/{name}.yaml").write_bytes(content)
        return told()

    assert told_of("train_teacher", b"max_epohc: 3\n" + KEPT.encode()) == [
        "conf/train_teacher.yaml:1: unknown key 'max_epohc' (did you mean 'max_epoch'?)"
    ]
    assert "not valid YAML" in told_of("train_teacher", b"a: [\n")[0]
    assert "not UTF-8" in told_of("train_teacher", b"a: \xe9\n")[0]
    assert "expected options by name" in told_of("train_teacher", b"- a\n")[0]
    assert told_of("train_teacher", KEPT.encode()) == []
    assert len(told_of("train_teacher", b"")) == 1  # nothing that is decoded with is kept
    told_of("train_teacher", KEPT.encode())
    assert "unknown key 'beam'" in told_of("decode", b"beam: 3\n")[0]


def test_how_chunks_are_decoded_is_said_by_options_of_the_recipe(told):
    """Else results of chunks would be called, and reported as, those of whole utterances."""
    (line,) = told(inference_args="--beam_size 2 --streaming true")
    assert line == "--inference_args: --streaming is --use_streaming true in the recipe; give that"
    (line,) = told(inference_args="--decoding stock", use_streaming="true")
    assert line == "--inference_args: --decoding is an option of the recipe; give it alone"
    Path("conf/decode.yaml").write_text("beam_size: 2\nstreaming: true\n")
    assert told(use_streaming="true") == told(stop_stage="5") == []
    (line,) = told()
    assert line.startswith("conf/decode.yaml: streaming is --use_streaming true in the recipe")
    Path("conf/decode.yaml").write_text("streaming: false\n")
    assert told() == []


def test_a_teacher_s_files(told):
    options = {"teacher_exp": "theirs", "teacher_model": "a.pth"}
    whole = Path("theirs/a.pth").read_bytes()
    for content, message in [
        (whole[:3000], "theirs/a.pth: not a readable checkpoint: it is cut off"),
        (b"", "theirs/a.pth: not a readable checkpoint"),
        (b"version https://git-lfs", "theirs/a.pth: not a readable checkpoint"),
    ]:
        Path("theirs/a.pth").write_bytes(content)
        assert told(**options) == [message]
    Path("theirs/a.pth").write_bytes(b"\x80\x02 as older versions of torch write it")
    assert told(**options) == []
    Path("theirs/config.yaml").write_text("ctc_conf: {}\n")
    assert "not a standalone transducer (espnet2.asr)" in told(**options)[0]
    Path("theirs/config.yaml").write_text("joint_network_conf: {}\nfrontend_conf: {fs: [1]}\n")
    assert "frontend_conf.fs: [1] is not a sampling rate" in told(**options)[0]


def test_the_checkpoints_of_espnet_are_found(tmp_path):
    options = {name: option.default for name, option in OPTIONS.items()}
    options.update(teacher_exp=str(tmp_path), inference_asr_model="valid.loss_transducer.ave.pth")
    for checkpoint in (
        "train.loss.best.pth",
        "valid.loss.best.pth",
        "valid.cer_transducer.ave_10best.pth",
        "valid.loss_transducer.ave_5best.pth",
        "valid.loss_transducer.ave_10best.pth",
        "valid.loss_transducer.ave.pth",
    ):  # each is preferred to those before it
        (tmp_path / checkpoint).touch()
        assert names_of(options)["teacher_model"] == checkpoint
    assert names_of({**options, "teacher_model": "b.pth"})["teacher_model"] == "b.pth"


def test_an_upload_needs_package_and_login(told, monkeypatch):
    for name in "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "XDG_CACHE_HOME":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", "home")
    monkeypatch.setenv("HOME", os.getcwd())
    upload = {"hf_repo": "me/x"}
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
    assert "huggingface_hub is not installed" in told(**upload)[0]
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(espnet_names, "_names", lambda *files: None)  # asks it, too
    espnet_names.training_names.cache_clear()
    espnet_names.decoding_names.cache_clear()
    assert "no login for the Hugging Face hub" in told(**upload)[0]
    assert told(**upload, hf_dry_run="true") == told(**upload, stop_stage="18") == []
    Path("home").mkdir()
    Path("home/token").write_text("x")
    assert told(**upload) == []
    espnet_names.training_names.cache_clear()
    espnet_names.decoding_names.cache_clear()


@pytest.mark.parametrize(
    "visible, files, count",
    [
        (None, ["nvidia0", "nvidia1", "nvidiactl"], 2),
        ("1", ["nvidia0", "nvidia1"], 1),
        ("", ["nvidia0"], 0),
        ("-1", ["nvidia0"], 0),
        (None, ["null"], 0),
    ],
)
def test_gpus_are_counted_without_torch(monkeypatch, visible, files, count):
    monkeypatch.setattr(machine.os, "listdir", lambda folder: files)
    monkeypatch.setattr(machine.os.path, "exists", lambda path: False)
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == count


def test_no_gpu_and_a_torch_without_gpus(told, monkeypatch):
    monkeypatch.setattr(prerequisites, "gpus", lambda: None)  # AMD's: nobody knows
    assert told(ngpu="2") == []
    monkeypatch.setattr(prerequisites, "gpus", lambda: 0)
    lines = told(ngpu="1", gpu_inference="true")
    assert lines == [
        "--ngpu 1: no GPU is here; --ngpu 0 trains on the CPU",
        "--gpu_inference true: no GPU is here; false decodes on the CPU",
    ]
    assert told(ngpu="1", stop_stage="10") == []
    monkeypatch.setattr(prerequisites, "torch_is_cpu_build", lambda: True)
    assert "the installed torch is a build for CPUs" in told(ngpu="1")[0]


def test_names_of_espnet_s_options_are_those_of_its_parsers():
    stock = pytest.importorskip("espnet2.bin.asr_transducer_inference")
    from espnet_kd.espnet.task import DistilTransducerTask

    for parser, names in (
        (DistilTransducerTask.get_parser(), espnet_names.training_names()),
        (stock.get_parser(), espnet_names.decoding_names()),
    ):
        words = {word[2:] for a in parser._actions for word in a.option_strings}
        assert words - {"", "help"} == names


@pytest.mark.parametrize("config", ["train_teacher", "train_student"])
@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_a_logger_that_is_not_installed_is_told_for_teacher_and_student(
    told, monkeypatch, package, config
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, package, raising=False)
    Path(f"conf/{config}.yaml").write_text(f"use_{package}: true\n{KEPT}")
    (line,) = told()
    assert f"conf/{config}.yaml: use_{package}: the package {package} is not installed" in line
    args = "asr_args" if "teacher" in config else "kd_args"
    assert told(**{args: f"--use_{package} false"}) == []
    Path(f"conf/{config}.yaml").write_text(f"max_epoch: 2\n{KEPT}")
    (line,) = told(**{args: f"--use_{package} true"})
    assert f"--{args}: --use_{package}: the package" in line
    assert told(stop_stage="10", **{args: f"--use_{package} true"}) == []


@pytest.mark.parametrize("args", ["asr_args", "kd_args"])
def test_a_training_of_no_epochs_is_told(told, args):
    for epochs in "0", "-1", "1.5", "many":
        (line,) = told(**{args: f"--max_epoch {epochs}"})
        assert f"--{args}: --max_epoch {epochs}: expected a whole number >= 1" in line
    name = "teacher" if args == "asr_args" else "student"
    Path(f"conf/train_{name}.yaml").write_text(f"max_epoch: 0\n{KEPT}")
    assert any("max_epoch: expected a whole number >= 1" in line for line in told())
