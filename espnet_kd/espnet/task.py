"""The ESPnet Task for teachers and students.

The same Task trains both: a teacher has no `kd_conf`, or one with `objective: none`.
"""

import argparse
import importlib.util
import multiprocessing
import re
from typing import Any, Iterable, Iterator, List, Tuple

import torch
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel
from espnet2.tasks.asr_transducer import ASRTransducerTask
from espnet2.utils.nested_dict_action import NestedDictAction
from torch.multiprocessing import ProcessExitedException

from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.data.coverage import read_token_list
from espnet_kd.errors import UserError, run_main, shown
from espnet_kd.espnet.cached import NAME, check_cache
from espnet_kd.espnet.mixed_precision import AMP_DTYPES, autocast_dtype
from espnet_kd.espnet.model import DistilTransducer
from espnet_kd.espnet.reading import DataBatches, in_one_line
from espnet_kd.espnet.stock import attach
from espnet_kd.espnet.teacher import FrozenTeacher, load_transducer
from espnet_kd.espnet.trainer import DistilTrainer
from espnet_kd.espnet.training_parts import check_parts
from espnet_kd.fileio import read_table
from espnet_kd.saved import check_finite, checked_loads
from espnet_kd.spec.distillation import Distillation, read_kd_conf
from espnet_kd.spec.option import known_options
from espnet_kd.spec.option_values import wrong_values
from espnet_kd.spec.training_config import check_loggers

AGAIN = "put back a copy of it, or make it again"


class DistilTransducerTask(ASRTransducerTask):
    """`asr_transducer` of ESPnet plus `--kd_conf`, `--method_conf`, `--amp_dtype`, ....

    The options stand under their own key: stock inference, which builds the model from the
    other keys of `config.yaml`, passes over them.
    """

    trainer = DistilTrainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add ESPnet's arguments and ours."""
        super().add_task_arguments(parser)
        # ESPnet has both on by default and fails without the packages, which it does not
        # ask for: they belong to our extra `plot`.
        parser.set_defaults(
            use_tensorboard=importlib.util.find_spec("tensorboard") is not None,
            use_matplotlib=importlib.util.find_spec("matplotlib") is not None,
        )
        group = parser.add_argument_group("Distillation related")
        group.add_argument(
            "--kd_conf",
            action=NestedDictAction,
            default={},
            help="Distillation options, e.g. --kd_conf objective=collapsed --kd_conf weight=0.5; "
            f"there are {', '.join(known_options(Distillation))}",
        )
        group.add_argument(
            "--method_conf",
            action=NestedDictAction,
            default={},
            help="Form in which a compression method trains the student; derivation writes it",
        )
        group.add_argument(
            "--amp_dtype",
            choices=AMP_DTYPES,
            default="auto",
            help="Number format of --use_amp: what ESPnet takes, or bfloat16 without loss "
            "scaling, on a CPU too",
        )
        group.add_argument(
            "--wer_utterances",
            type=int,
            default=32,
            help="Utterances of the validation set that are decoded greedily each epoch, for "
            "`wer` and `wer_teacher` in the statistics; 0: none",
        )
        group.add_argument(
            "--init_moments",
            help="Moments of Adam to begin with, of a stage with `anneal: through`; derivation "
            "writes them",
        )

    @classmethod
    def check_required_command_args(cls, args: argparse.Namespace) -> None:
        """Check the arguments before anything is built.

        Raises:
            UserError: a package that they ask for is not installed, or a number is too small.
        """
        super().check_required_command_args(args)
        check_loggers(vars(args), "--")
        _check_options(args, cls.get_parser())
        most = max(1, torch.cuda.device_count()) if torch.cuda.is_available() else 0
        if args.ngpu > most:
            raise UserError(
                f"--ngpu {args.ngpu}: at most {most} can be used here; --ngpu 0 trains on the CPU"
            )
        _check_tables(args)

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> Tuple[str, ...]:
        """Allow the entries of a teacher cache as one more data stream."""
        return super().optional_data_names(train, inference) + (() if inference else (NAME,))

    @classmethod
    def main(cls, *args: Any, **kwargs: Any) -> None:
        """Train in this process or in one for each GPU; see ESPnet's `AbsTask.main`.

        Raises:
            UserError: such a process has failed.
        """
        try:
            super().main(*args, **kwargs)
        except ProcessExitedException as e:  # it has said why itself
            raise UserError(f"{e}; its error stands above") from None

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Train in this process; see ESPnet's `AbsTask.main_worker`.

        Raises:
            UserError: a file of weights that it reads is damaged.
        """
        if multiprocessing.parent_process() is None:
            cls._work(args)
        else:  # started by `main`: nobody else would show its error in one line
            run_main(cls._work)(args)

    @classmethod
    def _work(cls, args: argparse.Namespace) -> None:
        with checked_loads(AGAIN):
            super().main_worker(args)

    @classmethod
    def build_streaming_iterator(cls, *args: Any, **kwargs: Any) -> Iterable:
        """Return ESPnet's iterator, which tells our model the names of its utterances, too."""
        return _Named(super().build_streaming_iterator(*args, **kwargs))

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetASRTransducerModel:
        """Build ESPnet's model and put our losses and, if any, the teacher on it.

        Raises:
            UserError: the options are wrong, or the teacher or its cache does not fit.
        """
        options = read_kd_conf(getattr(args, "kd_conf", None)).complete()
        device = "cuda" if getattr(args, "ngpu", 0) > 0 else "cpu"
        use_amp = getattr(args, "use_amp", False)
        autocast_dtype(use_amp, getattr(args, "amp_dtype", "auto"), device)  # may refuse
        teachers = []
        trains = not getattr(args, "collect_stats", False)
        if trains and options.distils and not options.teacher_cache:
            # Of whom `complete` has seen that all files are named.
            files: List[Tuple[str, Any, Any]]
            files = [("teacher", options.teacher_config, options.teacher_model)]
            if options.first_weight > 0:
                first = options.first_teacher_config, options.first_teacher_model
                files.append(("first teacher", *first))
            dtype = getattr(torch, options.teacher_dtype)
            teachers = [
                FrozenTeacher(load_transducer(*pair), name, dtype) for name, *pair in files
            ]
        model = super().build_model(args)
        if model.normalize is not None:
            file = (args.normalize_conf or {}).get("stats_file", "--normalize")
            check_finite(model.normalize.state_dict(), file, "make it again (stage 10)")
        method_conf = getattr(args, "method_conf", None) or {}
        attached = attach(model, method_conf)
        student = DistilTransducer.wrap(model, options, *teachers)
        student.terms += attached.terms
        student.callbacks, student.method_conf = attached.callbacks, method_conf
        student.rests, student.own_share = attached.rests, attached.own_share
        if trains:
            check_cache(args, options, student)
        return student


def _check_options(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Check values of whatever kind, and build the small parts that they name.

    Raises:
        UserError: ESPnet would refuse one, hours later perhaps.
    """
    file = getattr(args, "config", None)
    of_file = read_yaml(file, "an option names it") if file else {}

    def place(name: str) -> str:
        return f"{file}: {name}" if name.partition(".")[0] in of_file else f"--{name}"

    for name, problem in wrong_values(vars(args), parser._actions):
        raise UserError(f"{place(name)}: {problem}")
    check_parts(vars(args), parser.get_default("model_conf"), place)


def _check_tables(args: argparse.Namespace) -> None:
    """Read the shape files and the token list before ESPnet does.

    Raises:
        UserError: one is missing, damaged, or holds a duplicate.
    """
    for path in [*(args.train_shape_file or ()), *(args.valid_shape_file or ())]:
        for utt, shape in read_table(path).items():
            # While statistics are made, they only list utterances.
            if not args.collect_stats and not re.fullmatch(r"[0-9]+(,[0-9]+)*", shape):
                raise UserError(f"{path}: '{utt}' has {shown(shape)}, which is no shape")
    if isinstance(args.token_list, str):
        read_token_list(args.token_list)


class _Named:
    """Batches whose names our model knows: ESPnet hands `collect_feats` none."""

    def __init__(self, batches: DataBatches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator:
        for names, batch in in_one_line(self.batches):
            DistilTransducer.batch_names = names
            yield names, batch
