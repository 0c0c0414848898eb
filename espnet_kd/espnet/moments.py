"""What Adam has learnt of a teacher's parameters, for a student that is cut out of it.

A student of a stage with `anneal: through` goes on where its teacher's training ended: at that
place of the learning-rate schedule, and with the moments of the units that it keeps.
"""

import logging
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch

from espnet_kd.errors import UserError
from espnet_kd.methods.protocol import Prepared
from espnet_kd.plan.student import Student
from espnet_kd.saved import read_saved
from espnet_kd.spec.stage import THROUGH
from espnet_kd.spec.training_config import ADAMS, PLACE

SLOTS = ("exp_avg", "exp_avg_sq")  # in both
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of a batch norm
Moments = Dict[str, Dict[str, torch.Tensor]]  # slot, or `step` -> parameter -> tensor


def place_in_schedule(stage: Student, conf: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """Return a stage's `scheduler_conf` with its place in the schedule of its chain."""
    before, after = stage.epochs_around or (0, 0)
    return {**(conf or {}), **dict(zip(PLACE, (before, after)))}


def moments_for(
    stage: Student, teacher_exp: Path, teacher: torch.nn.Module, prepared: Prepared
) -> Optional[Moments]:
    """Cut the moments that a student begins with; None: it begins without any.

    Args:
        stage: The student.
        teacher_exp: Experiment of its teacher.
        teacher: The teacher's model, in stock ESPnet.
        prepared: The student as it was cut.

    Raises:
        UserError: the teacher is a student of the same schedule, and its training has left no
            moments; or the student is no part of it.
    """
    checkpoint = teacher_exp / "checkpoint.pth"
    moments = read_moments(checkpoint, teacher)
    if moments is None:
        why = "holds no moments of one Adam without groups (exclude_weight_decay) or gates"
        if not checkpoint.exists():
            why = "is not there"
        if stage.epochs_around and stage.epochs_around[0]:
            raise UserError(
                f"{checkpoint} {why}, which '{stage.name}' goes on from (anneal: {THROUGH}); "
                "train its teacher again, or say 'anneal: anew'"
            )
        logging.info(f"{checkpoint} {why}: the optimizer begins anew")
        return None
    if prepared.alike is None or prepared.state is None:
        raise UserError(
            f"{stage.at('anneal')}: '{THROUGH}': the student is no part of its teacher"
        )
    cut = {slot: prepared.alike(moments[slot]) for slot in SLOTS}
    names = cut[SLOTS[0]]
    # All have made the same steps, but those that began anew a stage before.
    steps = max(moments["step"].values(), key=float)
    logging.info(f"the optimizer goes on with moments of {len(names)} parameters")
    return {**cut, "step": {name: steps.clone() for name in names}}


def read_moments(checkpoint: Path, model: torch.nn.Module) -> Optional[Moments]:
    """Read the moments of each parameter.

    Args:
        checkpoint: A trainer's `checkpoint.pth`.
        model: The model that was trained.

    Returns:
        None if the file is not there, or its optimizer is none of `ADAMS`, or has groups of
        parameters (`exclude_weight_decay`), of which nobody knows what is in which, or the model
        was trained in another form (`gates`), whose parameters have another order.

    Raises:
        UserError: the file is damaged.
    """
    if not checkpoint.exists():
        return None
    hint = "remove it to begin without its moments"
    # As ESPnet resumes from it: the figures of the epochs are more than tensors.
    saved = read_saved(checkpoint, hint, map_location="cpu", weights_only=False)
    optimizers = saved.get("optimizers") or [] if isinstance(saved, dict) else []
    if len(optimizers) != 1 or len(optimizers[0]["param_groups"]) != 1:
        return None
    numbers, states = optimizers[0]["param_groups"][0]["params"], optimizers[0]["state"]
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    # With what distillation trains beside (`encoder_weight`) and leaves behind.
    names = [name for name in saved.get("model", {}) if name not in buffers]
    # Blocks of a second student (`cascade`) have batch statistics of their own.
    names = [name for name in names if not name.endswith(STATISTICS)]
    # Gates put a parameter elsewhere in the optimizer than in what is saved.
    in_order = [name for name in names if name in parameters]
    if len(numbers) != len(names) or in_order != [n for n in parameters if n in in_order]:
        return None
    moments: Moments = {slot: {} for slot in (*SLOTS, "step")}
    for number, name in zip(numbers, names):
        state, parameter = states.get(number, {}), parameters.get(name)
        if parameter is None:
            continue
        if any(slot not in state or state[slot].shape != parameter.shape for slot in SLOTS):
            continue  # that was frozen, or of another optimizer
        for slot in SLOTS:
            moments[slot][name] = state[slot]
        moments["step"][name] = torch.as_tensor(state["step"])
    return moments if moments["step"] else None


def begin_with(
    path: Path, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Give an optimizer the moments of a file; parameters that it does not name begin anew.

    Args:
        path: File that derivation has written.
        model: The model to be trained.
        optimizers: Its optimizers.

    Raises:
        UserError: the file is damaged or of another model, or the optimizer is another one.
    """
    moments = read_saved(path, "derive the student again", map_location="cpu", weights_only=True)
    kinds = [type(optimizer).__name__.lower() for optimizer in optimizers]
    if len(kinds) != 1 or kinds[0] not in ADAMS:
        raise UserError(
            f"{path}: moments for {' or '.join(ADAMS)}, but --optim is {', '.join(kinds)}"
        )
    state = optimizers[0].state_dict()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    numbers = [n for group in state["param_groups"] for n in group["params"]]
    parameters: List[torch.Tensor] = [
        p for group in optimizers[0].param_groups for p in group["params"]
    ]
    for number, parameter in zip(numbers, parameters):
        name = names[id(parameter)]
        if name not in moments["step"]:
            continue
        slots = {slot: moments[slot][name] for slot in SLOTS}
        if any(tensor.shape != parameter.shape for tensor in slots.values()):
            raise UserError(f"{path}: '{name}' has another shape; derive the student again")
        state["state"][number] = {"step": moments["step"][name], **slots}
    optimizers[0].load_state_dict(state)
