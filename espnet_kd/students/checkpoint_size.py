"""Bytes of the file that a model of given sizes will be, and the largest model for so many."""

from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence, Tuple

from espnet_kd.errors import UserError
from espnet_kd.spec.size_table import BY_NAME, RULE, Axis, Shape
from espnet_kd.spec.target import FLOAT, Target
from espnet_kd.students.architecture import LEAST, Architecture, Chooser, Counted
from espnet_kd.students.predictors import PREDICTORS
from espnet_kd.students.stand_in import StandIn

# Auxiliary heads: weight in `model_conf` and the size that each projects to the vocabulary.
HEADS = {"auxiliary_ctc_weight": "hidden_size", "auxiliary_lm_loss_weight": "decoder_size"}
# Of the archive that PyTorch writes: bytes for each tensor (its entry in two directories under
# a name such as `valid.loss_transducer.ave_10best/data/123`, its line in the table, what
# aligns it) and for all. Measured: 403 and 1,330 with the names of a conformer.
OF_TENSOR, OF_ARCHIVE = 425, 2000
TENSORS_OF_BLOCK, TENSORS_AROUND = 41, 14  # of a conformer block; of front end and joint network
STEPS = 512  # of the common factor of all widths
FINEST = 8  # feed-forward units that single blocks get at once


class Beside(NamedTuple):
    """What a checkpoint holds beside encoder, predictor and joint network.

    Attributes:
        bytes: Bytes of what does not shrink: a filter bank, mean and variance.
        tensors: Number of tensors of that.
        weights: `model_conf`, which says whether there are heads.
    """

    bytes: int = 0
    tensors: int = 0
    weights: Mapping[str, Any] = {}

    @property
    def heads(self) -> Tuple[str, ...]:
        """Return the sizes that auxiliary heads project to the vocabulary."""
        return tuple(size for key, size in HEADS.items() if self.weights.get(key, 0) > 0)

    def trained_with(self, *options: Mapping[str, Any]) -> "Beside":
        """Return it for a student whose training configs overrule the teacher's, in that order."""
        weights = dict(self.weights)
        for each in options:
            weights.update(each.get("model_conf") or {})
        return self._replace(weights=weights)


NOTHING = Beside()


def for_target(
    teacher: Architecture,
    target: Target,
    first_params: int,
    others: Beside,
    where: str,
    kept: Optional[Chooser] = None,
    inside: bool = False,
    shape: Shape = RULE,
) -> Architecture:
    """Find the largest student of a shape for a stage's target.

    Args:
        teacher: Sizes of the teacher; of a family's member those of the next larger one.
        target: The target.
        first_params: Parameters of the run's first teacher.
        others: What a checkpoint of the student holds beside.
        where: Name of the place in the plan, for messages.
        kept: Chooser of the blocks that a shallower student keeps; None: evenly spaced.
        inside: Whether it is a member of a family, for messages.
        shape: What shrinks how much.

    Raises:
        UserError: see `Architecture.shrink_to`.
    """
    try:
        if target.bytes is not None:
            return shrink_to_bytes(teacher, target.bytes, others, where, kept, shape)
        params = target.params(first_params)
        student = teacher.shrink_to(params, where, kept, shape)
        if not shape.fills:
            return student
        whole = teacher.with_blocks((kept or teacher.spaced)(student.num_blocks))
        return filled(student, whole, lambda model: model.params <= params)
    except UserError as e:
        if not inside:
            raise
        reason = str(e).removeprefix(f"{where}: ")
        raise UserError(
            f"{where}: no member of {target} fits inside the next larger one, which has "
            f"{teacher.params:,} parameters ({reason}); name another target, or sizes in 'student'"
        ) from None


def beside(state: Mapping[str, Any], config: Mapping[str, Any]) -> Beside:
    """Read it from a model.

    Args:
        state: The model's tensors by name.
        config: The model's training config.
    """
    cut = ("encoder.", "decoder.", "joint_network.", "ctc_lin.", "lm_lin.")
    rest = [tensor for name, tensor in state.items() if not name.startswith(cut)]
    size = sum(tensor.numel() * tensor.element_size() for tensor in rest)
    return Beside(size, len(rest), config.get("model_conf") or {})


def checkpoint_bytes(model: Architecture, others: Beside) -> int:
    """Return what a checkpoint of these sizes takes at most; it takes hardly less."""
    numbers = model.params
    tensors = TENSORS_AROUND + TENSORS_OF_BLOCK * model.num_blocks + others.tensors
    tensors += 1 + PREDICTORS[model.decoder].tensors * model.rnn_layers
    for size in others.heads:
        numbers += (getattr(model, size) + 1) * model.vocab
        tensors += 2
    # Batch norm's mean, variance and count.
    numbers += 2 * (model.hidden_size + 1) * model.num_blocks
    return FLOAT * numbers + others.bytes + OF_TENSOR * tensors + OF_ARCHIVE


def shrink_to_bytes(
    teacher: Architecture,
    most: int,
    others: Beside,
    where: str,
    kept: Optional[Chooser] = None,
    shape: Shape = RULE,
) -> Architecture:
    """Find the largest student whose checkpoint has at most `most` bytes.

    The shape is that of `Architecture.shrink_to`, with finer steps; what is left then goes to the
    feed-forward units, the joint network and the predictor, a step each in turn, and in the end
    to the units of single blocks.

    Args:
        teacher: Sizes of the teacher.
        most: Bytes of the file.
        others: What is in it beside.
        where: Name of the place in the plan, for messages.
        kept: Chooser of the blocks that a shallower student keeps; None: evenly spaced.
        shape: What shrinks how much.

    Raises:
        UserError: not even the smallest student is that small, or the teacher is.
    """
    fits = fits_in(most, others)
    if isinstance(teacher, StandIn):
        if fits(teacher.conformer):
            return teacher.conformer
        teacher = teacher.conformer
    counted = bytes_of_file(others)
    teacher.check_reach(most, where, counted, shape)
    for shallow, last in teacher.shallower(most / counted.size(teacher), kept, shape):
        steps = range(STEPS, int(STEPS * LEAST) - 1, -1)
        students = (shallow.scaled(step / STEPS, shape) for step in steps)
        student = next((s for s in students if fits(s)), None)
        if student is not None and (last or student.hidden_size >= teacher.narrowest):
            return filled_by_block(filled(student, shallow, fits), shallow, fits)
    raise UserError(f"{where}: no student of at most {most:,} {counted.unit} can be derived")


def bytes_of_file(others: Beside) -> Counted:
    """Return what counts the bytes of a model's checkpoint."""
    return Counted("bytes of the checkpoint", lambda model: checkpoint_bytes(model, others))


def fits_in(most: int, others: Beside) -> Callable[[Architecture], bool]:
    """Return what says whether a model's checkpoint has at most so many bytes."""
    return lambda model: checkpoint_bytes(model, others) <= most


def filled(
    student: Architecture, shallow: Architecture, fits: Callable[[Architecture], bool]
) -> Architecture:
    """Give what a target leaves to units that are cheap one by one.

    Args:
        student: The student's sizes, which fit.
        shallow: Sizes of the blocks that it is cut from, which nothing outgrows.
        fits: Says whether sizes are small enough.
    """
    axes = {axis.field: axis for axis in student.axes}
    names = ("linear_size", "joint_size", "embed_size", "decoder_size")
    growing = [axes[name] for name in names if name in axes]
    while growing:
        for axis in list(growing):
            larger = _larger(student, shallow, axis, range(student.num_blocks))
            if larger is None or not fits(larger):
                growing.remove(axis)
            else:
                student = larger
    return student


def filled_by_block(
    student: Architecture, shallow: Architecture, fits: Callable[[Architecture], bool]
) -> Architecture:
    """Give what is still left to the feed-forward units of one block after the other.

    Args:
        student: See `filled`.
        shallow: See `filled`.
        fits: See `filled`.
    """
    units = BY_NAME["encoder.linear_size"]
    for block in range(student.num_blocks):
        larger = _larger(student, shallow, units, [block], FINEST)
        while larger is not None and fits(larger):
            student = larger
            larger = _larger(student, shallow, units, [block], FINEST)
    return student


def _larger(
    student: Architecture, shallow: Architecture, axis: Axis, blocks: Sequence[int], step: int = 0
) -> Optional[Architecture]:
    """Take a step along an axis, in some blocks; None: the teacher has no more."""
    grid = step or student.grid(axis)
    sizes = list(student.of_blocks(axis))
    for b in blocks:
        sizes[b] += grid
        if sizes[b] > shallow.size_of(axis, b):
            return None
    value = tuple(sizes) if axis.per_block else sizes[0]
    return student.resized(**{axis.field: value})
