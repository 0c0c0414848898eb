"""Options of command lines, those of `GOOD`, given values that make no sense.

    python -m tests.bin.odd_values [VERB...]        # all values; prints what ends in a traceback

A command line is run in this process, as from a shell: with the good options of `GOOD`, and one
of them replaced, or one added. It ends with exit code 0, 1 or 2; with 1 it says why in one line.
"""

import argparse
import contextlib
import importlib
import io
import logging
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence, Tuple
from unittest import mock

import soundfile
import yaml

import espnet_kd.bin

LONG = 20  # seconds after which a command line hangs
PLAN = "--plan plan.yaml --students exp/kd --train_config train.yaml"
RUN = "--train_set train --valid_set dev --test_sets dev --asr_exp teacher --kd_tag kd"
RUN += " --compression_config plan.yaml --student_config train.yaml --inference_config empty"
TEACHER = "--teacher_exp teacher --teacher_model model.pth"
# A command line each that succeeds, or fails for want of what only a whole run has made.
GOOD = {
    "cache_teacher": f"{TEACHER} --data dump/dev --out exp/cache --num_workers 0",
    "check_install": "",
    "check_options": "--known_stages 1 2",
    "collect_stats": RUN,
    "compare_arms": "--pair exp/a/s=exp/b/s --out exp/ARMS.md",
    "compress": f"{RUN} --compression_stage 1 --only train",
    "decode": "--asr_train_config whole.yaml --asr_model_file teacher/model.pth --num_workers 0 "
    "--data_path_and_name_and_type dump/dev/wav.scp,speech,sound --output_dir exp/a/decode/b/c",
    "demo_page": "exported --out page --onnxruntime_web web",
    "derive_student": f"{PLAN} --student half {TEACHER} --out exp/new",
    "download_librispeech": "--out corpus --parts dev-clean --mirror nowhere",
    "filter_lengths": "--data dump/dev --out dump/short",
    "format_audio": "--data dump/dev --out dump/flac",
    "hard_labels": "--hyp dump/dev/text --data dump/dev --speech_shape stats/dev/speech_shape "
    "--config train.yaml --token_list tokens.txt --token_type char --out exp/labels",
    "import_corpus": "--corpus corpus --data folder --out data/imported",
    "import_teacher": f"{TEACHER} --fs 16k --token_dir data/tokens --out exp/imported",
    "lock": "--pid 1 exp/held",
    "make_tokens": "--text dump/dev/text --token_type char --out data/made",
    "manifest": "--check exp/kd",
    "measure_lengths": "--data dump/dev --config train.yaml --token_type char --out exp/lengths",
    "measure_speed": "--model t=teacher --inference_model model.pth --data dump/dev "
    "--out exp/speed.json",
    "new_recipe": "exp/new",
    "pack_model": "--results exp/results.json --model teacher",
    "perturb": "--data dump/dev --conditions plan.yaml --out dump/perturbed",
    "perturb_speed": "--data dump/dev --out dump/fast",
    "plan": f"{TEACHER} --target 0.6 --stages 2 --train_config train.yaml --no_estimate",
    "plan_stages": PLAN,
    "prepare_librispeech": "--corpus corpus --set dev-clean --out data/dev",
    "report": "--exp exp --model teacher=teacher --inference_tag decode --test_sets dev",
    "report_run": RUN,
    "report_seeds": "--run exp --run exp/kd --out exp/SEEDS.md",
    "robustness": "--exp exp --run exp --run exp/kd",
    "robustness_run": RUN,
    "score": "--ref dump/dev/text --hyp dump/dev/text --utt2spk dump/dev/utt2spk --out exp/scores",
    "transcribe": "exported a.wav",
    "train": "",  # see `train_line`
    "upload_model": "--archive tokens.txt --repo me/x --dry_run",
}
# The options of command lines of ESPnet's that are ours, or that the recipe gives or hands on.
OURS = {
    "decode": "asr_train_config asr_model_file data_path_and_name_and_type output_dir key_file "
    "ngpu seed batch_size beam_size nbest streaming config",
    "train": "config output_dir train_data_path_and_name_and_type token_type bpemodel ngpu "
    "valid_shape_file train_shape_file token_list init_param kd_conf amp_dtype wer_utterances "
    "max_epoch accum_grad batch_size batch_bins seed patience resume",
}
# Of these there would be a million processes, or epochs.
COUNTS = ("num_workers", "nj", "threads", "max_epoch")
VALUES = [
    "abc", "", " ", "-1", "0", "nan", "inf", "1e400", "9" * 25, "1.5", "[", "{a: [}", "é", "a\nb",
    "\udcff", "999999999", "x" * 5000, "gone/x", ".", "garbage", "empty", "/dev/null", "garbage/x",
]  # fmt: skip


class Run(NamedTuple):
    """What came of a command line; `trace` is empty unless it ended in an exception."""

    code: int
    said: str
    trace: str

    @property
    def fault(self) -> str:
        """What is wrong with how it ended, if anything."""
        if self.trace or "Traceback (most" in self.said:
            return self.trace or self.said
        if self.code not in (0, 1, 2):
            return f"exit code {self.code}: {self.said}"
        last = self.said.strip().rpartition("\n")[2]
        if self.code and "error: " not in (self.said if self.code == 2 else last):
            return f"no error in its last line: {self.said[-300:]}"
        return ""


def verbs() -> List[str]:
    """All command lines."""
    return [module.name for module in pkgutil.iter_modules(espnet_kd.bin.__path__)]


class _Parser(BaseException):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parser_of(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a command line, made as when it runs."""

    def stop(self, *args, **kwargs):
        raise _Parser(self)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            call(verb, [])
        except _Parser as e:
            return e.parser
    raise AssertionError(f"{verb} reads no options")


def call(verb: str, words: Sequence[str]) -> Run:
    """Run a command line in this process."""
    module = importlib.import_module(f"espnet_kd.bin.{verb}")
    said, code, trace = io.StringIO(), 0, ""

    def hangs(*_):
        raise TimeoutError(f"still runs after {LONG} s")

    logging.getLogger().handlers.clear()  # or they write to the last one's stderr
    before = signal.signal(signal.SIGALRM, hangs), signal.getsignal(signal.SIGTERM)
    signal.alarm(LONG)
    try:
        with (
            mock.patch.object(sys, "argv", [f"{verb}.py", *words]),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            module.main()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        if isinstance(e.code, str):
            said.write(e.code)
    except Exception:
        code, trace = 1, traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before[0])
        signal.signal(signal.SIGTERM, before[1])
    return Run(code, said.getvalue(), trace)


def words_with(good: Sequence[str], option: str, value: str) -> List[str]:
    """The good words with an option replaced, or added."""
    words, skip = [], False
    for word in good:
        if word.startswith("--"):
            skip = word == option
        if not skip:
            words.append(word)
    return [f"{option}={value}", *words]


def cases(verb: str, values: Sequence[str]) -> Iterator[Tuple[str, str]]:
    """All options with all values that argparse itself does not refuse by a list of choices."""
    for action in parser_of(verb)._actions:
        option = action.option_strings[-1] if action.option_strings else ""
        if not option or action.nargs == 0 or action.dest == "help":
            continue
        if verb in OURS and option[2:] not in OURS[verb].split():
            continue
        for value in values[:1] if action.choices else values:
            if not (value.startswith("99") and action.dest in COUNTS):
                yield option, value


def write_state() -> None:
    """Everything that the command lines of `GOOD` read, in the current folder."""
    from tests.recipe.toy import TRAINING, write_data, write_teacher, write_yaml

    write_data()
    for name in "train", "dev":
        utterances = [line.split()[0] for line in open(f"dump/{name}/text")]
        Path(f"dump/{name}/utt2spk").write_text("".join(f"{u} s\n" for u in utterances))
        Path(f"dump/{name}/utt2num_samples").write_text("".join(f"{u} 9000\n" for u in utterances))
    write_teacher(Path("teacher"))
    write_yaml("plan.yaml", {"stages": [{"name": "half", "target": 0.6}]})
    write_yaml("train.yaml", {**TRAINING, "max_epoch": 1})
    config = yaml.safe_load(Path("teacher/config.yaml").read_text())
    defaults = dict.fromkeys(("non_linguistic_symbols", "cleaner", "g2p"))
    write_yaml("whole.yaml", {**config, **defaults})
    write_yaml("teacher.yaml", {**config, **TRAINING, "max_epoch": 1, "token_list": None})
    Path("garbage").write_bytes(bytes(range(256)) * 4)
    Path("empty").write_bytes(b"")
    Path("corpus/LibriSpeech/dev-clean").mkdir(parents=True)
    Path("exp/kd").mkdir(parents=True)
    Path("exp/results.json").write_text('{"models": []}\n')
    write_exported()


def write_exported() -> None:
    """An exported model, a sound for it, and what stands for onnxruntime-web."""
    from espnet_kd.device.demo_folder import RUNTIME_FILES

    Path("web").mkdir()
    for name in RUNTIME_FILES:
        Path("web", name).touch()
    with contextlib.suppress(ImportError):  # without onnx the command lines end earlier
        from tests.device.tone_model import tones, write_tone_model

        write_tone_model(Path("exported"))
        soundfile.write("a.wav", tones("AB"), 16000)


def train_line() -> List[str]:
    """A training of one epoch."""
    from tests.recipe.toy import train_words

    return train_words("exp/trained", config="teacher.yaml") + ["--max_epoch", "1"]


def good_words(verb: str) -> List[str]:
    """The words of `GOOD`."""
    return train_line() if verb == "train" else GOOD[verb].split()


def main() -> int:
    """Print all faults."""
    faults = count = 0
    os.environ.setdefault("ESPNET_KD_RUN", "1-x")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_state()
        kept = Path(f"{folder}.kept")
        shutil.copytree(folder, kept, symlinks=True)
        for verb in sys.argv[1:] or GOOD:
            good = good_words(verb)
            for option, value in cases(verb, VALUES):
                run = call(verb, words_with(good, option, value))
                count += 1
                if run.fault:
                    faults += 1
                    shown = run.fault.strip().splitlines()
                    place = shown[-4:-1] if len(value) < 99 else shown[-4:-2]
                    text = " | ".join([line.strip()[:90] for line in (*place, shown[-1])])
                    print(f"{verb} {option}={value[:20]!r}: {text}", flush=True)
                for path in Path(folder).iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(kept)
        os.chdir("/")
    print(f"{count} command lines, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
