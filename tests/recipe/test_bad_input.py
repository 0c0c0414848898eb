"""What a user can get wrong, through the real command lines and the real stage script.

One line says what and where, the exit code is not 0, and nothing is overwritten.
tests/data/test_bad_data.py has more about data directories, one command at a time.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from mini_run import OPTIONS, copy_recipe, environment
from toy import TRAINING, call, inside, train_words, write_data, write_teacher, write_yaml

from tests.espnet.tiny import TOKENS
from tests.faults.forking import LIGHT, shared_python
from tests.patience import PATIENCE

# ------------------------------------------------------------------ models: no shell needed
TEACHER = "teacher/config.yaml", "teacher/model.pth"
DERIVE = (
    "derive_student --plan plan.yaml --stage 1 --teacher_exp teacher --teacher_model model.pth "
    "--train_config train.yaml --out exp/student"
)
IMPORT = (
    "import_teacher --teacher_exp teacher --teacher_model model.pth --fs 16k "
    "--token_dir data/tokens --out exp/imported"
)
TRAIN = "train " + " ".join(train_words("exp/student", config="student.yaml"))
DECODE = (
    "decode --asr_train_config teacher/config.yaml --asr_model_file teacher/model.pth "
    "--data_path_and_name_and_type dump/dev/wav.scp,speech,sound --output_dir exp/decoded"
)
SCORE = "score --ref dump/dev/text --hyp exp/text --utt2spk dump/dev/text --out exp"
ALL = DERIVE, IMPORT, TRAIN  # everything that reads a teacher


def snapshot(folder="."):
    """Content of every file: none may change, none may come or go."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def change(path, **values):
    """Change a YAML file; nested keys as `a__b`."""

    def do():
        config = yaml.safe_load(Path(path).read_text())
        for key, value in values.items():
            *parents, last = key.split("__")
            place = config
            for parent in parents:
                place = place[int(parent) if parent.isdigit() else parent]
            place[last] = value
        write_yaml(path, config)

    return do


def change_state(edit):
    """Change the teacher's checkpoint."""

    def do():
        state = torch.load("teacher/model.pth", weights_only=True)
        torch.save(edit(state) or state, "teacher/model.pth")

    return do


def write(path, content):
    return lambda: Path(path).write_bytes(content)


def remove(path):
    return lambda: Path(path).unlink()


def cut(path, share=0.5):
    def do():
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: int(share * len(content))])

    return do


def plan(text):
    return write("plan.yaml", text.encode())


def pop(name):
    return change_state(lambda state: state.pop(name) is None)


def stages(*stages):
    return plan(yaml.safe_dump({"stages": list(stages)}))


WIDER = {"encoder_conf__body_conf__0__linear_size": 40}
STUDENT_LARGER = {"student": {"encoder": {"num_blocks": 5}}}
MODEL_CASES = [
    # what is done to a good state, commands, words of the error
    # --- a plan
    (remove("plan.yaml"), [DERIVE], "plan.yaml: no such file"),
    (plan("stages: []\n"), [DERIVE], "plan.yaml:1: 'stages' is empty"),
    (plan(""), [DERIVE], "plan.yaml: the file is empty; a compression plan with 'stages' is"),
    (plan("stages: [{target: 0.5\n"), [DERIVE], "plan.yaml:2: not valid YAML"),
    (stages({"targt": 0.5}), [DERIVE], "unknown key 'targt' (did you mean 'target'?)"),
    (stages({"student": {"encoder": {"width": 8}}}), [DERIVE], "unknown key 'width'"),
    (stages(STUDENT_LARGER), [DERIVE], "num_blocks: 5 is larger than the teacher's 4"),
    (stages({"student": {}}), [DERIVE], "stages[0].student: names no size, so the student is"),
    (stages({"student": {"encoder": {"num_blocks": 4}}}), [DERIVE], "parameters are not fewer th"),
    (stages({"target": 1.5}), [DERIVE], "expected a fraction between 0 and 1"),
    (stages({"target": 0.5}, {"target": 0.6}), [DERIVE], "stages[1].target: 0.6 is not smaller"),
    (stages({"target": 0.001}), [DERIVE], "no student of at most"),
    (stages({"target": 0.5, "objective": "ful"}), [DERIVE], "(did you mean 'full'?)"),
    (stages({"target": 0.5, "train": {"optimm": 1}}), [DERIVE], "(did you mean 'optim'?)"),
    # --- in a stage that comes later, after a training of its own
    (stages({"target": 0.5}, {"target": 0.4, "train": {"optimm": 1}}), [DERIVE], "[1].train: unk"),
    (stages({"target": 0.5}, {"target": 0.001}), [DERIVE], "stages[1].target: no student of at m"),
    (stages({"target": 0.5}, STUDENT_LARGER), [DERIVE], "stages[1].student.encoder.num_blocks: 5"),
    (change("train.yaml", max_epohc=3), [DERIVE], "(did you mean 'max_epoch'?)"),
    (remove("train.yaml"), [DERIVE], "train.yaml: no such file"),
    # --- config and checkpoint that do not belong together
    (change(TEACHER[0], **WIDER), ALL, "shape (24, 16); teacher/config.yaml asks for (40, 16)"),
    (change(TEACHER[0], model_conf={}), ALL, "holds 'ctc_lin.weight', which teacher/config.yaml"),
    (pop("joint_network.lin_out.bias"), ALL, "lacks 'joint_network.lin_out.bias'"),
    (change_state(lambda s: {"epoch": 3}), ALL, "teacher/model.pth: not the parameters of a mod"),
    (change_state(lambda s: [1, 2]), ALL, "teacher/model.pth: not the parameters of a model"),
    (change_state(lambda s: {"model": s, "epoch": Path}), ALL, "model.pth: not a readable check"),
    (cut(TEACHER[1]), ALL, "teacher/model.pth: not a readable checkpoint"),
    (write(TEACHER[1], b""), ALL, "teacher/model.pth: not a readable checkpoint"),
    (write(TEACHER[1], b"text\n"), ALL, "teacher/model.pth: not a readable checkpoint"),
    (remove(TEACHER[1]), [*ALL, DECODE], "teacher/model.pth: no such file"),
    (remove(TEACHER[0]), [*ALL, DECODE], "teacher/config.yaml: no such file"),
    (write(TEACHER[0], b""), ALL, "teacher/config.yaml: the file is empty"),
    (write(TEACHER[0], b"a: [\n"), ALL, "teacher/config.yaml:2: not valid YAML"),
    # --- whatever reads a config, ESPnet after us
    *((write(TEACHER[0], content), [*ALL, DECODE], words) for content, words in (
        (b"# Gr\xfc\xdfe\n", "teacher/config.yaml:1: not UTF-8: byte 0xfc at offset 4"),
        (b"a: &a [*a]\n", "teacher/config.yaml:1: a[0]: '*a' contains itself"),
        (b"a: " + b"[" * 3000, "teacher/config.yaml:1: nested more than 40 levels deep"),
        (b"fs: 1\nfs: 2\n", "teacher/config.yaml:2: duplicate key 'fs'"),
        (b"a: !!python/object/apply:os.system ['touch exp/x']\n", "the tag 'tag:yaml.org,2002:py"),
    )),
    *((write("student.yaml", content), [TRAIN], words) for content, words in (
        (b"seed: 1\n# \xe9\n", "student.yaml:2: not UTF-8: byte 0xe9 at offset 10"),
        (b"seed: 1\nseed: 2\n", "student.yaml:2: duplicate key 'seed'"),
        (b"seed: .nan\n", "student.yaml:1: seed: '.nan' is not a usable number"),
    )),
    (change("student.yaml", use_wandb=True), [TRAIN], "--use_wandb: the package wandb is not"),
    (change(TEACHER[0], encoder_conf__body_conf=[]), ALL, "teacher/config.yaml: "),
    (change(TEACHER[0], encoder_conf={"hidden": 3}), ALL, "teacher/config.yaml: "),
    # --- a teacher of another kind
    (change(TEACHER[0], token_list=TOKENS[:-1] + ["D", TOKENS[-1]]), [TRAIN], "teacher/model.pth"),
    (lambda: write_teacher(Path("teacher"), token_list=[*TOKENS[:4], "X", *TOKENS[5:]]), [TRAIN],
     "token lists differ: token 4 is 'X' for the teacher, 'B' for the student"),
    (lambda: write_teacher(Path("teacher"), token_list=[*TOKENS, "Y"]), [TRAIN],
     "token lists differ: the teacher has 8 tokens, the student 7"),
    (change("student.yaml", frontend_conf__hop_length=128), [TRAIN], "front ends differ: hop_"),
    (change("student.yaml", encoder_conf__input_conf__subsampling_factor=2), [TRAIN],
     "subsampling differs: teacher 4"),
    (change("student.yaml", kd_conf__wieght=1), [TRAIN], "(did you mean 'weight'?)"),
    (change("student.yaml", kd_conf__teacher_model=None), [TRAIN], "needs teacher_config and"),
    (change(TEACHER[0], frontend_conf__fs="8k"), [IMPORT], "is 8000 Hz, the recipe's audio has"),
    (change(TEACHER[0], token_list="gone.txt"), [IMPORT], "token_list is gone.txt, which is neit"),
    (change(TEACHER[0], token_type="bpe"), [IMPORT], "bpemodel is not set"),
    (change(TEACHER[0], normalize="global_mvn", normalize_conf={"stats_file": "gone.npz"}),
     [IMPORT], "gone.npz"),
    (write("teacher/config.yaml", b"ctc_conf: {}\n"), [IMPORT], "not a standalone transducer"),
    # --- a stage before the one it needs
    (remove("dump/dev/wav.scp"), [DECODE], "dump/dev/wav.scp: no such file"),
    (lambda: None, [SCORE], "exp/text: no such file"),
]  # fmt: skip
ROWS = [(damage, command, words) for damage, all_, words in MODEL_CASES for command in all_]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A state in which every command would succeed."""
    with inside(tmp_path_factory.mktemp("good")) as folder:
        write_data()
        write_teacher(Path("teacher"))
        write_yaml("plan.yaml", {"stages": [{"target": 0.6, "objective": "full"}]})
        write_yaml("train.yaml", {**TRAINING, "max_epoch": 1})
        code, err = call("derive_student", DERIVE.split()[1:])
        assert code == 0, err
        shutil.copy("exp/student/student.yaml", "student.yaml")
    return folder


@pytest.fixture
def state(good, tmp_path, monkeypatch):
    """A copy of it."""
    shutil.copytree(good, tmp_path / "state")
    monkeypatch.chdir(tmp_path / "state")


def only_line(err):
    """The only line of stderr, apart from the command line that ESPnet begins with."""
    lines = [line for line in err.splitlines() if not line.startswith(f"{sys.executable} ")]
    assert len(lines) == 1, err
    return lines[0]


@pytest.mark.parametrize("damage, command, words", ROWS, ids=[f"{r[1][:6]}-{r[2]}" for r in ROWS])
def test_models(damage, command, words, state):
    damage()
    before = snapshot()
    verb, *options = command.split()
    code, err = call(verb, options)
    assert code == 1
    line = only_line(err)
    assert line.startswith(f"{verb}: error: ") and words in line
    assert snapshot() == before


@pytest.mark.parametrize("command", ALL, ids=["derive", "import", "train"])
def test_nothing_is_wrong_with_the_state_itself(command, state):
    verb, *options = command.split()
    code, err = call(verb, options)
    assert code == 0, err


# ------------------------------------------------------------------ disk full
FULL = """
import contextlib
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from toy import call
for command in sys.argv[2:]:
    if command.startswith("decode"):  # its output is small
        with contextlib.suppress(OSError), open("full/fill", "wb", buffering=0) as f:
            while True:
                f.write(bytes(1000))
    verb, *options = command.split()
    code, err = call(verb, options)
    left = sorted(path.name for path in Path("full").rglob("*") if path.is_file())
    print("RESULT", code, err.splitlines()[-1], "Traceback" in err, *left, sep="|")
"""


def test_a_full_disk_while_models_are_written(state):
    """A file system of 60 kB in a mount namespace of our own: no root is needed."""
    Path("full").mkdir()
    mount = 'mount -t tmpfs -o size=60k none full && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"]).returncode:
        pytest.skip("cannot mount a small file system here")
    commands = [
        DERIVE.replace("exp/student", "full/student"),
        IMPORT.replace("exp/imported", "full/imported"),
        # What is there already is small enough for a model, and too large for a checkpoint.
        TRAIN.replace("exp/student", "full/trained"),
        DECODE.replace("exp/decoded", "full/decoded")
        .replace("teacher/config.yaml", "full/trained/config.yaml")
        .replace("teacher/model.pth", "exp/student/init.pth"),
    ]
    done = subprocess.run(
        [*unshare, sys.executable, "-c", FULL, str(Path(__file__).parent), *commands],
        env=environment(),
        capture_output=True,
        text=True,
    )
    results = [x.split("|")[1:] for x in done.stdout.splitlines() if x.startswith("RESULT|")]
    assert len(results) == len(commands), done.stderr
    kept = set()
    code, line, traceback, *_ = results.pop()
    assert (code, traceback) == ("1", "False")
    assert line.startswith("decode: error: the disk is full; free some space and run"), line
    for (code, line, traceback, *left), verb, name in zip(
        results,
        ("derive_student", "import_teacher", "train"),
        ("student/init.pth", "imported/model.pth", "trained/checkpoint.pth"),
    ):
        assert (code, traceback) == ("1", "False")
        assert line == (
            f"{verb}: error: the disk is full while writing full/{name}; free some space and "
            "run the same command again: finished work is kept"
        )
        assert kept <= set(left) and Path(name).name not in left
        assert not [name for name in left if name.endswith(".tmp")]
        kept = set(left)


# ------------------------------------------------------------------ the stage script
CORPUS = "--train_parts tiny-train --dev_parts tiny-dev"
SHELL = {
    **{name: OPTIONS[name] for name in ("nj", "inference_nj", "train_threads")},
    "ngpu": "0",
    "local_data_opts": f"--corpus corpus {CORPUS}",
    "train_set": "train",
    "valid_set": "dev",
    "test_sets": "tiny-test",
    "token_type": "char",
}
CHAPTER = "corpus/tiny-train/7/30"
SIZES = {"tiny-train": 60, "tiny-dev": 3, "tiny-test": 3}
PLAN = "conf/compression.yaml"


def write_corpus():
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        folder = Path("corpus", name, "7", "30")
        folder.mkdir(parents=True)
        with open(folder / "7-30.trans.txt", "w") as f:
            for i in range(size):
                soundfile.write(
                    folder / f"7-30-{i:04d}.flac", 0.1 * rng.uniform(-1, 1, 4000), 16000
                )
                f.write(f"7-30-{i:04d} ONE TWO {'AB'[i % 2]}\n")


def run(recipe, **options):
    words = ["./run.sh"]
    for name, value in {**SHELL, "python": shared_python(*LIGHT), **options}.items():
        words += [f"--{name}", str(value)]
    return subprocess.run(
        words, cwd=recipe, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The LibriSpeech recipe after stages 1 to 5."""
    recipe = copy_recipe("librispeech", tmp_path_factory.mktemp("prepared"))
    with inside(recipe):
        write_corpus()
        done = run(recipe, stop_stage=5)
        assert done.returncode == 0, done.stdout + done.stderr
    return recipe


@pytest.fixture
def recipe(prepared, tmp_path, monkeypatch):
    """A copy of it."""
    copy = shutil.copytree(prepared, tmp_path / "egs2/librispeech/asr_kd")
    monkeypatch.chdir(copy)
    return copy


def two(name, act):
    """Do something to two utterances of 60: more than the share that may be bad."""

    def do():
        for i in range(2):
            act(Path(CHAPTER, name.format(i=i)))

    return do


def other_rate(path):
    soundfile.write(path, np.zeros(2000), 8000)


def fewer_lines(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[2:]))


def empty_corpus():
    shutil.rmtree("corpus")
    Path("corpus").mkdir()


def nothing():
    pass


FLAC = "7-30-000{i}.flac"
FIRST = {"stage": 1, "stop_stage": 1, "force": "true"}
THIRD = {"stage": 3, "stop_stage": 3, "force": "true"}
SHELL_CASES = [
    # what is done to a good state, options, tool that says it, its words
    (nothing, {**FIRST, "local_data_opts": f"--corpus nowhere {CORPUS}"}, "data.sh",
     "nowhere: no such corpus folder"),
    (empty_corpus, FIRST, "prepare_librispeech", "corpus: the corpus folder is empty"),
    (two(FLAC, Path.unlink), FIRST, "prepare_librispeech", "2 transcripts without audio"),
    (two("7-30.trans.txt", fewer_lines), FIRST, "prepare_librispeech",
     "4 sound files without transcript"),
    (two(FLAC, lambda p: p.write_bytes(b"")), FIRST, "prepare_librispeech", "zero-length"),
    (two(FLAC, lambda p: p.write_bytes(b"x")), FIRST, "prepare_librispeech", "unreadable (Format"),
    (nothing, {**FIRST, "local_data_opts": ""}, "download_librispeech", "no corpus named"),
    (two(FLAC, other_rate), THIRD, "format_audio", "sampling rate 8000 Hz found, 16000 Hz want"),
    (nothing, {**THIRD, "fs": "8k"}, "format_audio", "sampling rate 16000 Hz found, 8000 Hz want"),
    (two(FLAC, Path.unlink), THIRD, "format_audio", "2 of 60 utterances are unusable"),
    (nothing, {"stage": 3, "fs": "8k"}, "step", "with other options (fs 16k, now fs 8k)"),
    (write(PLAN, b"stages: []\n"), {}, "asr_kd.sh", "'stages' is empty"),
    (write(PLAN, b"stages: [{targt: 0.5}]\n"), {}, "asr_kd.sh", "(did you mean 'target'?)"),
    (write(PLAN, b"stages: [{target: 1.2}]\n"), {}, "asr_kd.sh", "a fraction between 0 and 1"),
    (write(PLAN, b"stages: [{target: 0.5}, {target: 0.5}]\n"), {}, "asr_kd.sh",
     "must be smaller than its teacher"),
    (write(PLAN, b"stages: [{target: 0.5, objective: full}]\n"), {"use_teacher_cache": "true"},
     "asr_kd.sh", "stages[0].objective: with a teacher cache it must be"),
    (nothing, {"compression_stage": 9}, "asr_kd.sh", "--compression_stage 9: conf/compression.ya"),
    (nothing, {"asr_config": "conf/gone.yaml"}, "asr_kd.sh", "--asr_config conf/gone.yaml: no su"),
    (nothing, {"teacher_exp": "gone"}, "asr_kd.sh", "--teacher_exp gone: no such directory"),
    (nothing, {"stage": 11}, "asr_kd.sh", "which stage 10 makes: run stage 10 first"),
    (nothing, {"stage": 12}, "asr_kd.sh", "which stage 11 makes: run stage 11 first"),
    (nothing, {"stage": 13}, "asr_kd.sh", "which stage 12 makes: run stage 12 first"),
    (nothing, {"stage": 16}, "asr_kd.sh", "which stage 11 makes: run stage 11 first"),
    (nothing, {"stage": 16, "compression_stage": 2}, "asr_kd.sh",
     "which stage 16 (--compression_stage 1) makes"),
    (nothing, {"stage": 17}, "asr_kd.sh", "which stage 13 makes: run stage 13 first"),
    (lambda: shutil.rmtree("data"), {"stage": 3}, "asr_kd.sh", "which stage 1 makes: run stage 1"),
    (lambda: shutil.rmtree("dump/raw/org"), {"stage": 4}, "asr_kd.sh", "which stage 3 makes: run"),
    (lambda: shutil.rmtree("dump/raw/train"), {"stage": 5}, "asr_kd.sh", "which stage 4 makes: r"),
    (lambda: shutil.rmtree("data/en_token_list"), {"stage": 10}, "asr_kd.sh",
     "which stage 5 makes: run stage 5 first"),
]  # fmt: skip


def contents():
    """Without logs, the marks of work that was begun or ended, and the times of sound files."""
    return {
        path: content
        for path, (_, content) in snapshot().items()
        if path.suffix != ".log"
        and not path.name.startswith((".done", ".started"))
        and path.name != "utt2audio"
    }


def said(done):
    """Error lines as (program, text), without the line that says which stage it was."""
    assert "Traceback" not in done.stderr + done.stdout
    # A job's error is quoted, after the name of its log.
    lines = re.findall(
        r"^(?:run_local: failed .*?, log: \S+: )?([\w.]+): error: (.*)$", done.stderr, re.M
    )
    assert lines, done.stderr
    if len(lines) > 1:
        program, text = lines.pop()
        assert program == "asr_kd.sh" and re.match(r"stage \d+ \(.*\) failed \(exit code", text)
    return lines


@pytest.mark.parametrize(
    "damage, options, tool, words", SHELL_CASES, ids=[f"{c[2]}-{c[3]}" for c in SHELL_CASES]
)
def test_stages(damage, options, tool, words, recipe):
    damage()
    before = contents()
    done = run(recipe, **options)
    assert done.returncode != 0
    [(program, text)] = said(done)
    assert program == tool and words in text
    assert contents() == before


def test_a_few_bad_files_are_skipped_with_a_count(recipe):
    Path(CHAPTER, "7-30-0000.flac").write_bytes(b"")
    done = run(recipe, **FIRST)
    assert done.returncode == 0, done.stderr
    assert "skipped 1 unusable sound files" in done.stderr
    assert len(Path("data/train/text").read_text().splitlines()) == SIZES["tiny-train"] - 1


def test_more_bad_files_are_skipped_if_that_is_asked_for(recipe):
    two(FLAC, lambda path: path.write_bytes(b""))()
    more = {"max_bad_share": "0.1", "stop_stage": 3}
    assert "already done" in run(recipe, stage=3, **more).stdout  # it decides refusal only
    done = run(recipe, **more, force="true")
    assert done.returncode == 0, done.stderr
    assert len(Path("data/train/text").read_text().splitlines()) == SIZES["tiny-train"] - 2
    # A header that cannot be decoded further is found by stage 3.
    two("7-30-001{i}.flac", lambda path: path.write_bytes(path.read_bytes()[:400]))()
    assert run(recipe, **THIRD).returncode != 0
    done = run(recipe, **{**THIRD, **more})
    assert done.returncode == 0, done.stderr


def test_a_teacher_that_does_not_match_its_config(recipe):
    """From end to end once: stage 5, its process, the stage script."""
    write_teacher(Path("theirs"))
    change("theirs/config.yaml", **WIDER)()
    before = contents()
    theirs = {"teacher_exp": "theirs", "teacher_model": "model.pth"}
    done = run(recipe, stage=5, stop_stage=5, python=sys.executable, **theirs)
    assert done.returncode == 1, done.stderr
    [(program, text)] = said(done)
    assert program == "import_teacher", done.stderr
    assert text.startswith("theirs/model.pth: '") and "theirs/config.yaml asks for" in text
    assert contents() == before
