"""Options of `asr_kd.sh` as typed values, with the names that follow from them."""

import argparse
import dataclasses
import os
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from espnet_kd.cli import new_parser
from espnet_kd.run.names import names_of
from espnet_kd.run.options import OPTIONS

Words = Tuple[str, ...]


class Commands(NamedTuple):
    """Commands by which jobs run, as `cmd.sh` says; they are called like Kaldi's run.pl.

    Attributes:
        backend: `local`, or the name of a scheduler.
        train: Command of jobs on CPUs.
        cuda: Command of trainings, and of other jobs on GPUs.
        decode: Command of decoding.
    """

    backend: str
    train: str
    cuda: str
    decode: str

    @classmethod
    def from_environment(cls, python: str) -> "Commands":
        """Read what `cmd.sh` has exported; without it everything runs on this machine.

        Args:
            python: Command that runs Python.
        """
        local = f"{python} -m espnet_kd.bin.run_local"
        names = ("train_cmd", "cuda_cmd", "decode_cmd")
        backend = os.environ.get("cmd_backend") or "local"
        return cls(backend, *(os.environ.get(name) or local for name in names))


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of the recipe that Python's stages read; `asr_kd.sh --help` describes them.

    Attributes:
        base_train_set: Training set before its speed is perturbed.
        data_feats: Folder of the formatted data directories.
        token_list: File of the tokens.
        bpemodel: File of the BPE model; `none`: there is none.
        scored_sets: Test sets, by where they lie below `data_feats`.
        stock_tag: Name of the directory of what ESPnet's own streaming gives; empty: none.
    """

    force: bool
    ngpu: int
    num_nodes: int
    nj: int
    inference_nj: int
    gpu_inference: bool
    train_threads: Optional[int]
    expdir: str
    python: str
    seed: str
    fs: str
    max_dropped_share: str
    train_set: str
    valid_set: str
    unlabelled_sets: Words
    token_type: str
    asr_config: str
    asr_args: str
    asr_exp: str
    asr_stats_dir: str
    feats_normalize: str
    asr_speech_fold_length: int
    asr_text_fold_length: int
    teacher_exp: str
    compression_config: str
    student_config: str
    paths: str
    paths_at: str
    paths_epochs: str
    ablate: bool
    compression_stage: int
    kd_args: str
    kd_tag: str
    use_teacher_cache: bool
    cache_band: int
    inference_config: str
    inference_args: str
    inference_tag: str
    inference_asr_model: str
    use_streaming: bool
    decoding: str
    stock_wer: bool
    decoding_windows: Words
    report_note: str
    train_watts: str
    local_score_opts: str
    robustness: str
    export_formats: Words
    export_models: Words
    export_utterances: int
    base_train_set: str
    data_feats: str
    token_list: str
    bpemodel: str
    scored_sets: Words
    stock_tag: str

    @classmethod
    def of(cls, options: Mapping[str, str]) -> "Settings":
        """Make settings of the options as the user gave them, which have been checked."""
        values = {**options, **names_of(options)}
        fields = {f.name: _typed(values[f.name], f.type) for f in dataclasses.fields(cls)}
        return cls(**fields)

    def data(self, name: str) -> str:
        """Name the formatted data directory of a set."""
        return f"{self.data_feats}/{name}"

    @property
    def train_dir(self) -> str:
        """Data directory that is trained on."""
        return self.data(self.train_set)

    @property
    def valid_dir(self) -> str:
        """Data directory that is validated on."""
        return self.data(self.valid_set)

    @property
    def teacher_stage(self) -> str:
        """Number of the stage that makes the first teacher."""
        return "5" if self.teacher_exp else "11"

    def maker_of_set(self, name: str) -> str:
        """Number of the stage that makes a set; what is trained on is filtered by length."""
        return "4" if name in (self.train_set, self.valid_set) else "3"

    def student_folder(self, name: str) -> str:
        """Name the experiment of a student."""
        return f"{self.expdir}/{self.kd_tag}_{name}"

    def threads(self, commands: Commands) -> int:
        """Count the threads of a training on the CPU.

        Here one: two took 2.3 times as long on a busy machine (docs/benchmarks.md), and what a
        student becomes shall not hang on who else computes. A scheduler keeps its cores free: it
        is asked for a modest number.
        """
        return self.train_threads or (1 if commands.backend == "local" else 4)


def _typed(value: str, kind: Any) -> Any:
    if kind is bool:
        return value == "true"
    if kind is int:
        return int(value)
    if kind == Optional[int]:
        return int(value) if value else None
    return tuple(value.split()) if kind is Words else value


def recipe_parser(program: str, description: Optional[str]) -> argparse.ArgumentParser:
    """Build a parser that knows all options of `asr_kd.sh`, with its defaults.

    Args:
        program: Name of the command line.
        description: Text of its help.
    """
    parser = new_parser(description)
    help_ = "name that lines of the log and errors begin with"
    parser.add_argument("--program", default=program, help=help_)
    group = parser.add_argument_group("options of asr_kd.sh, whose --help describes them")
    for name, option in OPTIONS.items():
        group.add_argument(f"--{name}", default=option.default, metavar="VALUE", help=" ")
    return parser


def recipe_options(args: argparse.Namespace) -> Dict[str, str]:
    """Return the values of all options of the recipe."""
    return {name: getattr(args, name) for name in OPTIONS}
