"""Averaged models in the form that stock ESPnet decodes, where another form is trained."""

import copy
from pathlib import Path
from typing import Any, List, Mapping

import torch
import yaml

from espnet_kd.common.device_weights import (
    PARTS,
    Rounded,
    Weights,
    write_device,
)
from espnet_kd.common.records import FACTS, STUDENT
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.espnet.auxiliary_layers import PREFIX
from espnet_kd.espnet.stock import build, check_forms
from espnet_kd.fileio import atomic_open, atomic_path, save_tensors
from espnet_kd.methods import method_named
from espnet_kd.methods.callbacks import Callback, Run
from espnet_kd.methods.protocol import Sibling, device_file, kept_file
from espnet_kd.saved import read_saved

# What the records of students of one training have in common.
ORIGIN = ("stage", "teacher", "first_teacher", "taught_by", "init", "labels")
AGAIN = "run the training again: it averages anew"


class ExportAverages(Callback):
    """Replaces the averages that ESPnet has made by what the student's method exports.

    ESPnet averages saved forms, number by number. The models of epochs stay saved forms, so
    that a training which is made longer averages the same things again.
    """

    def on_end(self, run: Run) -> None:
        """Export each average, after a check that it computes what was trained."""
        conf = run.model.method_conf
        if not run.main or run.options.no_forward_run:
            return
        if not conf:
            _strip(averages(run.folder, run.options))
            return
        method = method_named(conf["method"])
        config = read_yaml(run.folder / "config.yaml", AGAIN)
        for path in averages(run.folder, run.options):
            saved = read_saved(path, AGAIN, map_location="cpu", weights_only=True)
            exported = method.export(saved, conf)
            run.model.load_state_dict({**saved, **exported.state})
            check_forms(run.model, config, exported.state)
            # A method passes on what the terms of the loss have beside the student.
            state = {k: x for k, x in exported.state.items() if not k.startswith("kd_")}
            if exported.device:
                write_device(for_device(exported.device), device_file(path))
            if exported.kept:
                with atomic_path(kept_file(path)) as tmp:
                    save_tensors(exported.kept, tmp, torch.save)
            with atomic_path(path) as tmp:
                save_tensors(state, tmp, torch.save)
            for name, sibling in exported.siblings.items():
                _write_sibling(run.folder / name, config, sibling, path)


def _write_sibling(
    folder: Path, config: Mapping[str, Any], sibling: Sibling, average: Path
) -> None:
    """Write another model of a training as an experiment of its own.

    Args:
        folder: Its folder.
        config: The student's config.
        sibling: The model.
        average: The student's average of the same epochs, whose names it gets.
    """
    config = {key: value for key, value in config.items() if key != "method_conf"}
    config = {**config, **sibling.config}
    build(copy.deepcopy(config)).load_state_dict(sibling.state)  # it is one
    folder.mkdir(exist_ok=True)
    with atomic_path(folder / average.name) as tmp:
        save_tensors(sibling.state, tmp, torch.save)
    for link in average.parent.glob("*.ave.pth"):
        if link.is_symlink() and link.resolve() == average.resolve():
            (folder / link.name).unlink(missing_ok=True)
            (folder / link.name).symlink_to(average.name)
    with atomic_open(folder / "config.yaml") as f:
        yaml.safe_dump(config, f, sort_keys=False, allow_unicode=True)
    student = STUDENT.read_if_there(average.parent)
    if student is not None:
        origin = {key: value for key, value in student.items() if key in ORIGIN}
        name = f"{student.get('name', average.parent.name)}_{folder.name}"
        STUDENT.write(folder, {**origin, "name": name, "path": folder.name})
    facts = FACTS.read_if_there(average.parent)
    if facts is not None:
        FACTS.write(folder, facts)


def _strip(paths: List[Path]) -> None:
    """Take auxiliary layers out of averages: they may outweigh a small student."""
    for path in paths:
        saved = read_saved(path, AGAIN, map_location="cpu", weights_only=True)
        state = {name: x for name, x in saved.items() if not name.startswith(PREFIX)}
        if len(state) < len(saved):
            with atomic_path(path) as tmp:
                save_tensors(state, tmp, torch.save)


def averages(folder: Path, options: Any) -> List[Path]:
    """List ESPnet's averages, links to them left out.

    Args:
        folder: The experiment.
        options: The trainer's.
    """
    names = [f"{phase}.{key}" for phase, key, _ in options.best_model_criterion]
    return [path for name in names for path in sorted(folder.glob(f"{name}.ave_*best.pth"))]


def for_device(weights: Mapping[str, Any]) -> Weights:
    """Leave out what decoding does not compute with.

    Args:
        weights: Tensors and rounded tensors by their names (`Exported.device`).

    Returns:
        Those that a device needs, tensors as arrays.
    """
    return {
        name: w if isinstance(w, Rounded) else w.detach().cpu().numpy()
        for name, w in weights.items()
        if name.startswith(PARTS) and (isinstance(w, Rounded) or w.is_floating_point())
    }
