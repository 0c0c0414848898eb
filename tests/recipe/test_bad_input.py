"""What a user can get wrong, through the real command lines and the real stage script.

One line says what and where, the exit code is not 0, and nothing is overwritten.
tests/data/test_bad_data.py has more about data directories, one command at a time.
"""

import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from toy import TRAINING, call, inside, train_words, write_data, write_teacher, write_yaml

from tests.espnet.tiny import TOKENS

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
    (plan("stages: []\n"), [DERIVE], "plan.yaml: 'stages' is empty"),
    (plan(""), [DERIVE], "plan.yaml: no 'stages'"),
    (plan("stages: [{target: 0.5\n"), [DERIVE], "plan.yaml: not valid YAML"),
    (stages({"targt": 0.5}), [DERIVE], "unknown key 'targt' (did you mean 'target'?)"),
    (stages({"student": {"encoder": {"width": 8}}}), [DERIVE], "unknown key 'width'"),
    (stages(STUDENT_LARGER), [DERIVE], "num_blocks: 5 is larger than the teacher's 4"),
    (stages({"student": {}}), [DERIVE], "parameters are not fewer than its teacher's"),
    (stages({"target": 1.5}), [DERIVE], "expected a fraction between 0 and 1"),
    (stages({"target": 0.001}), [DERIVE], "no student of at most"),
    (stages({"target": 0.5, "objective": "ful"}), [DERIVE], "(did you mean 'full'?)"),
    (stages({"target": 0.5, "train": {"optimm": 1}}), [DERIVE], "(did you mean 'optim'?)"),
    (change("train.yaml", max_epohc=3), [DERIVE], "(did you mean 'max_epoch'?)"),
    (remove("train.yaml"), [DERIVE], "train.yaml: no such file"),
    # --- config and checkpoint that do not belong together
    (change(TEACHER[0], **WIDER), ALL, "has shape (24, 16); teacher/config.yaml asks for (40, 16)"),
    (change(TEACHER[0], model_conf={}), ALL, "holds 'ctc_lin.weight', which teacher/config.yaml"),
    (pop("joint_network.lin_out.bias"), ALL, "lacks 'joint_network.lin_out.bias'"),
    (change_state(lambda s: {"epoch": 3}), ALL, "teacher/model.pth: lacks '"),
    (change_state(lambda s: [1, 2]), ALL, "teacher/model.pth: "),
    (change_state(lambda s: {"model": s, "epoch": Path}), ALL, "model.pth: not a readable check"),
    (cut(TEACHER[1]), ALL, "teacher/model.pth: not a readable checkpoint"),
    (write(TEACHER[1], b""), ALL, "teacher/model.pth: not a readable checkpoint"),
    (write(TEACHER[1], b"text\n"), ALL, "teacher/model.pth: not a readable checkpoint"),
    (remove(TEACHER[1]), [*ALL, DECODE], "teacher/model.pth: no such file"),
    (remove(TEACHER[0]), [*ALL, DECODE], "teacher/config.yaml: no such file"),
    (write(TEACHER[0], b""), ALL, "teacher/config.yaml: not the config of"),
    (write(TEACHER[0], b"a: [\n"), ALL, "teacher/config.yaml: not valid YAML"),
    (change(TEACHER[0], encoder_conf__body_conf=[]), ALL, "teacher/config.yaml: "),
    (change(TEACHER[0], encoder_conf={"hidden": 3}), ALL, "teacher/config.yaml: "),
    # --- a teacher of another kind
    (change(TEACHER[0], token_list=TOKENS[:-1] + ["D", TOKENS[-1]]), [TRAIN], "teacher/model.pth"),
    (lambda: write_teacher(Path("teacher"), token_list=[*TOKENS[:4], "X", *TOKENS[5:]]), [TRAIN],
     "token lists differ: token 4 is 'X' for the teacher, 'B' for the student"),
    (lambda: write_teacher(Path("teacher"), token_list=[*TOKENS, "Y"]), [TRAIN],
     "token lists differ: the teacher has 8 tokens, the student 7"),
    (change("student.yaml", frontend_conf__hop_length=128), [TRAIN], "front ends differ: hop_leng"),
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
ROWS = [(damage, command, words) for damage, commands, words in MODEL_CASES for command in commands]


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


@pytest.mark.parametrize("damage, command, words", ROWS, ids=[f"{r[1][:6]}-{r[2]}" for r in ROWS])
def test_models(damage, command, words, good, tmp_path, monkeypatch):
    shutil.copytree(good, tmp_path / "x")
    monkeypatch.chdir(tmp_path / "x")
    damage()
    before = snapshot()
    verb, *options = command.split()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, err = call(verb, options)
    assert code == 1
    # ESPnet's own commands begin with the command line.
    lines = [line for line in err.splitlines() if not line.startswith(f"{sys.executable} ")]
    assert len(lines) == 1 and lines[0].startswith(f"{verb}: error: "), err
    assert words in lines[0]
    assert snapshot() == before
