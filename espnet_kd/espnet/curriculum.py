"""A teacher as it was after earlier epochs of its own training, one after the other.

A curriculum that comes for free (A. Panigrahi et al., "Progressive distillation induces an
implicit curriculum", arXiv 2410.05464): what a student of random weights is taught first is what
the teacher learnt first. Epochs change the teacher's weights only; all else of a training stays.
"""

import logging
from pathlib import Path
from typing import List

import torch

from espnet_kd.common.records import FACTS
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.methods import method_named
from espnet_kd.methods.callbacks import Callback, Run
from espnet_kd.saved import load_state


class TeacherEpochs(Callback):
    """Gives the teacher its weights of an epoch, as `kd_conf.curriculum` says."""

    def on_start(self, run: Run) -> None:
        """Refuse what would be missing hours later.

        Raises:
            UserError: the teacher's epochs are not known, one is not there, or the training has
                fewer epochs than teachers.
        """
        if not _wanted(run):
            return
        files = _files(run)
        if run.options.max_epoch < len(files):
            raise UserError(
                f"{_place(run)}: {len(files)} teachers in turn, but the training has "
                f"{run.options.max_epoch} epochs; name fewer, or train longer"
            )
        missing = next((file for file in files if not file.is_file()), None)
        if missing is not None:
            raise UserError(
                f"{missing}: no such file, which {_place(run)} asks for; train the teacher with "
                "keep_nbest_models of as many as its epochs, beside those whose mean it is "
                "(--asr_args '--keep_nbest_models 3 10'; docs/plan.md, curriculum)"
            )

    def on_begin(self, run: Run, epoch: int) -> None:
        """Load the teacher of an epoch."""
        if not _wanted(run):
            return
        files = _files(run)
        file = files[(epoch - 1) * len(files) // run.options.max_epoch]
        teacher, config = run.model.teacher, run.model.options.teacher_config
        with torch.random.fork_rng(devices=[]):  # a model that is built draws weights
            loaded = load_transducer(config, str(file))
        state = loaded.state_dict()
        conf = read_yaml(config, "a teacher is needed").get("method_conf")
        if conf and file != files[-1]:  # an epoch is saved as it was trained, not as it decodes
            exported = method_named(conf["method"]).export(load_state(str(file)), conf).state
            state = {name: exported[name] for name in state}
        teacher.model.load_state_dict(state)
        run.model.dev_wer.teacher = None  # its WER is another, too
        logging.info(f"epoch {epoch} is taught by {file}")


def _wanted(run: Run) -> bool:
    return bool(run.model.options.curriculum) and run.model.teacher is not None


def _place(run: Run) -> str:
    return f"kd_conf.curriculum {run.model.options.curriculum}"


def _files(run: Run) -> List[Path]:
    """Return the teacher's checkpoints in their order, that of the plan at last."""
    model = Path(run.model.options.teacher_model)
    epochs = (FACTS.read_if_there(model.parent) or {}).get("epochs")
    if not epochs:
        raise UserError(
            f"{_place(run)}: {model.parent}/{FACTS.file} names no epochs of the teacher: it was "
            "not trained by this recipe; leave the option out"
        )
    shares = run.model.options.curriculum
    return [model.with_name(f"{max(1, round(s * epochs))}epoch.pth") for s in shares] + [model]
