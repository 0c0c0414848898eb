"""Contradictions in a plan, told before any teacher is trained."""

from typing import Any, Dict, Mapping, Optional, Sequence

from espnet_kd.errors import UserError, check_choice, shown
from espnet_kd.spec.distillation import Distillation
from espnet_kd.spec.gate import LONGER, OF_LONGER, Gate
from espnet_kd.spec.method import DEFAULT
from espnet_kd.spec.named_sizes import check_together
from espnet_kd.spec.option import known_options
from espnet_kd.spec.size_table import SHAPES, each
from espnet_kd.spec.stage import FIRST, PREVIOUS, THROUGH, Stage
from espnet_kd.spec.training_config import ADAMS, TO_ZERO, TrainingConfig

IDLE = ("curriculum", "layers", "auxiliary", "relations")  # without a teacher


def check_names(stages: Sequence[Stage]) -> None:
    """Refuse names of students that are the same, or would be on some file systems.

    Raises:
        UserError: two names differ in case at most, those that a gate would add included.
    """
    names: Dict[str, str] = {}
    added: Dict[str, str] = {}
    for stage in stages:
        other = names.get(stage.name.lower())
        if other is not None:
            case = "" if other == stage.name else f": it differs from '{other}' in case only"
            raise UserError(f"{stage.at('name')}: duplicate name '{stage.name}'{case}")
        names[stage.name.lower()] = stage.name
        if stage.gate and stage.gate.otherwise == "split":
            why = f"the gate of '{stage.name}' may add (otherwise: split)"
            added |= {f"{stage.name}_{part}".lower(): why for part in ("half", "again")}
        why = f"the training of '{stage.name}' leaves, too"
        added |= {f"{stage.name}_{part}".lower(): why for part in stage.method_conf.siblings}
    for stage in stages:
        reason = added.get(stage.name.lower())
        if reason is not None:
            raise UserError(
                f"{stage.at('name')}: '{stage.name}' is the name of a student that {reason}; "
                "rename the stage"
            )


def check_gate(where: str, gate: Optional[Gate], stages: Sequence[Stage]) -> None:
    """Refuse words of the plan's gate that no stage goes by.

    Args:
        where: Name of the place, for messages.
        gate: The plan's gate for all stages; None: none.
        stages: The stages that it is for; none: the family's reader says so.

    Raises:
        UserError: no stage has a gate, none is trained longer by it, or each says another.
    """
    if gate is None or not stages:
        return
    gates = [stage.gate for stage in stages if stage.gate is not None]
    if not gates:
        raise UserError(
            f"{where}: all stages say 'gate: false'; leave this gate out, or that in some stage"
        )
    for key in OF_LONGER if all(g.otherwise != LONGER for g in gates) else ():
        if key in gate.written:
            raise UserError(
                f"{where}.{key}: found {shown(gate.written[key])}, which is of 'otherwise: "
                f"{LONGER}', and no stage's gate says that; leave it out"
            )
    for key in gate.written:
        heard = [s for s in stages if s.gate is not None and f"gate.{key}" in s.places]
        if key in OF_LONGER:
            heard = [s for s in heard if s.gate is not None and s.gate.otherwise == LONGER]
        if not heard:
            raise UserError(
                f"{where}.{key}: found {shown(gate.written[key])}, which all stages that could go "
                "by it overrule in a 'gate' of their own; leave it out"
            )


def check_members(stages: Sequence[Stage]) -> None:
    """Refuse members of a family that is none, or comes later.

    Raises:
        UserError: that is so.
    """
    for i, stage in enumerate(stages):
        name = stage.method_conf.made_of
        if name is None:
            continue
        confs = [before.method_conf for before in stages[:i] if before.name == name]
        nested = getattr(confs[0], "nested", None) if confs else None
        number = stage.method_conf.values["number"]
        if nested is None or number > len(nested.members) + 1:
            raise UserError(
                f"{stage.at('method_conf.of')}: '{name}' is no earlier stage that trains a family "
                f"with {number} members; 'family' beside 'stages' writes such stages"
            )


def check_teachers(stages: Sequence[Stage]) -> None:
    """Refuse teachers that are not there when they are needed.

    Raises:
        UserError: a stage is to be taught by one that is none, comes later, or teaches nothing.
    """
    for i, stage in enumerate(stages):
        known = [PREVIOUS, FIRST, *(before.name for before in stages[:i])]
        check_choice(stage.at("teacher"), stage.taught_by, known)
        if known.count(stage.taught_by) > 1:
            raise UserError(
                f"{stage.at('teacher')}: '{stage.taught_by}' may be the stage of that name or "
                f"another model; rename the stage"
            )
        labels = stage.labels == "teacher" and stage.label_teachers is None
        if stage.taught_by != PREVIOUS and not stage.kd.distils and not labels:
            who = "nobody teaches" if stage.labels != "teacher" else "its 'label_teachers' teach"
            raise UserError(
                f"{stage.at('teacher')}: '{stage.taught_by}' with objective 'none': {who} it; "
                "leave it out"
            )
        if stage.taught_by == FIRST and stage.kd.first_weight:
            raise UserError(
                f"{stage.at('first_weight')}: found {stage.kd.first_weight:g} beside 'teacher: "
                f"{FIRST}', which are one model; leave one of them out"
            )


def check_cutting(stages: Sequence[Stage]) -> None:
    """Refuse words on how a student is cut where none is.

    Raises:
        UserError: a method that cuts nothing, weights that are not inherited, or sizes by name,
            which nobody has to choose.
    """
    for i, stage in enumerate(stages):
        for key, plain in (("allocate", "rule"), ("blocks", "spaced"), ("units", "weight")):
            value, why = getattr(stage, key), ""
            if key == "allocate" and stage.method_conf.made_of is not None and value in SHAPES:
                continue  # a family's members have the shape of their largest
            if stage.method != DEFAULT:
                why = f"method '{stage.method}' cuts nothing"
                if key in known_options(type(stage.method_conf)):
                    why += f"; its own '{key}' stands in method_conf"
            elif key != "allocate" and stage.init == "random":
                why = "it chooses what is inherited, and init 'random' inherits nothing"
            elif key == "allocate" and stage.target is None:
                why = "it makes sizes of a 'target', and 'student' names them"
            if value != plain and why:
                raise UserError(
                    f"{stage.at(key)}: '{value}': {why}; leave it out, or say '{plain}' where "
                    "another stage is merged in"
                )
        if stage.allocate == "learned":
            _check_learned(stage, stages[i - 1] if i else None)


def _check_learned(stage: Stage, before: Optional[Stage]) -> None:
    """Refuse sizes that nobody will have learned, before hours of training.

    Args:
        stage: The stage with `allocate: learned`.
        before: The stage before it; None: the first teacher may have gates, from another run.

    Raises:
        UserError: the stage before has no gates, or they leave more than the target.
    """
    if stage.target is not None and stage.target.bytes is not None:
        raise UserError(
            f"{stage.at('target')}: gates know parameters, not bytes: with 'allocate: learned' "
            f"expected a share or a number of parameters, found {stage.target}"
        )
    if before is None:
        return
    gates = getattr(before.method_conf, "gates", None)
    if gates is None:
        raise UserError(
            f"{stage.at('allocate')}: 'learned' takes the sizes that gates have left, and "
            f"'{before.name}' has none: say 'method_conf: {{gates: {stage.target}}}' there"
        )
    if stage.target is not None and stage.target.below(gates):
        raise UserError(
            f"{stage.at('target')}: {stage.target} is below the {gates} that the gates of "
            f"'{before.name}' leave; say the same in both"
        )


def check_idle(stages: Sequence[Stage]) -> None:
    """Refuse words on distillation in a stage that does not distil.

    Numbers may stand there, but for those of a band and numbers of blocks; so may what the
    training config says of all students.

    Raises:
        UserError: an option that would be passed over in silence.
    """
    known = known_options(Distillation)
    for stage in stages:
        if stage.kd.distils:
            continue
        for conf, where in ((stage.kd, ""), (stage.train.kd, "train.kd_conf.")):
            for key in conf.written:
                field, facts = known[key]
                words = facts.choices or key in IDLE or key.startswith("band_")
                if key != "objective" and words and getattr(conf, field.name) != field.default:
                    raise UserError(
                        f"{stage.at(where + key)}: found {shown(conf.written[key])}, which "
                        "objective 'none' has no use for; leave it out"
                    )


def check_said_twice(stages: Sequence[Stage]) -> None:
    """Refuse what another word of the same stage overrules.

    Raises:
        UserError: epochs or an option of distillation that stand in two places.
    """
    for stage in stages:
        epochs = stage.train.options.get("max_epoch")
        if stage.epochs is not None and epochs is not None:
            raise UserError(
                f"{stage.at('train.max_epoch')}: found {shown(epochs)} beside "
                f"'epochs: {stage.epochs}', which overrules it; leave it out"
            )
        for key, value in stage.train.kd.written.items():
            above = stage.kd.written.get(key, value)
            if above != value:
                raise UserError(
                    f"{stage.at('train.kd_conf')}.{key}: found {shown(value)}, which the stage's "
                    f"own '{key}', {shown(above)}, overrules; say it in the stage"
                )


def check_annealing(stages: Sequence[Stage]) -> None:
    """Refuse a schedule over several stages where a student is no part of its teacher.

    Raises:
        UserError: its weights are fresh, or made by another method, or it has another predictor,
            or a gate may change how long it is trained.
    """
    for stage in stages:
        if stage.anneal != THROUGH:
            continue
        why = ""
        if stage.method != DEFAULT:
            why = f"method '{stage.method}' does not cut a student out of its teacher"
        elif stage.init != "teacher":
            why = f"init '{stage.init}' inherits nothing"
        elif stage.sizes is not None and "decoder.type" in stage.sizes.named:
            why = "a predictor of another kind is no part of the teacher's"
        elif stage.gate is not None:
            why = "a gate may train it longer, or another student between"
        if why:
            raise UserError(
                f"{stage.at('anneal')}: '{THROUGH}' takes the optimizer's moments of the units "
                f"that are kept, at a place in the schedule that is known before; {why}"
            )


def check_annealed_by(
    stages: Sequence[Stage], base: TrainingConfig, given: Optional[Mapping[str, Any]] = None
) -> None:
    """Refuse a schedule over several stages that cannot be told its length.

    Args:
        stages: Stages of a plan.
        base: The recipe's training config for students.
        given: Options of the command line (--kd_args), which overrule both.

    Raises:
        UserError: a stage with `anneal: through` has another optimizer or scheduler, an optimizer
            with groups of parameters, or may end early.
    """
    for stage in stages:
        if stage.anneal != THROUGH:
            continue
        options = {**base.options, **stage.train.options, **(given or {})}

        def where(key: str) -> str:
            overruled = given is not None and key in given
            return "in --kd_args" if overruled else f"in {base.where} or the stage's train"

        for key, wanted in (("optim", ADAMS), ("scheduler", (TO_ZERO,))):
            if options.get(key) not in wanted:
                raise UserError(
                    f"{stage.at('anneal')}: '{THROUGH}' needs {key}: {' or '.join(wanted)}; it is "
                    f"{options.get(key, 'not named')} {where(key)}"
                )
        if given is not None and "max_epoch" in given:
            raise UserError(
                f"{stage.at('anneal')}: '{THROUGH}' goes by the epochs of its stages, which "
                "--kd_args --max_epoch overrules; say 'epochs' there"
            )
        for key, needed in (
            ("exclude_weight_decay", "an optimizer without groups of parameters"),
            ("patience", "a length that is known before"),
        ):
            if options.get(key) not in (None, False, 0, "none"):
                raise UserError(
                    f"{stage.at('anneal')}: '{THROUGH}' needs {needed}; leave {key} out "
                    f"{where(key)}"
                )


def check_sizes_fall(stages: Sequence[Stage]) -> None:
    """Refuse students that cannot be smaller than their teachers, or not exist.

    Raises:
        UserError: a target or a named size that is above one before it, or sizes that exclude
            one another.
    """
    sizes: Dict[str, Any] = {}  # the last that were named, by part and key
    for i, stage in enumerate(stages):
        for before in stages[:i]:
            stage.method_conf.check_after(stage, before)
            if stage.target is None or before.target is None:
                continue
            if stage.target.below(before.target) is False:
                raise UserError(
                    f"{stage.at('target')}: {stage.target} is not smaller than the "
                    f"{before.target} of '{before.name}'; a student must be smaller than its "
                    "teacher"
                )
        if stage.method_conf.keeps_sizes:
            continue
        if stage.target is not None:
            sizes = {}  # whatever the target makes of them
            continue
        assert stage.sizes is not None  # `check_stage` wants a target or sizes
        named = stage.sizes.named
        if not named and stage.kd.distils:
            raise UserError(
                f"{stage.at('student')}: names no size, so the student is not smaller than its "
                "teacher; 'objective: none' trains the same sizes on"
            )
        if "decoder.type" in named:  # a predictor of another kind, with sizes of its own
            sizes = {key: n for key, n in sizes.items() if not key.startswith("decoder.")}
        for key, value in named.items():
            if key not in sizes or isinstance(value, str):
                continue
            size, largest = max(each(value)), max(each(sizes[key]))
            if size > largest:
                raise UserError(
                    f"{stage.at('student')}.{key}: {size} is larger than the {largest} of a "
                    "stage before; a student must be smaller than its teacher"
                )
        if "encoder.num_blocks" in named:  # sizes of each block of another depth
            sizes = {key: n for key, n in sizes.items() if not isinstance(n, tuple)}
        sizes |= named
        check_together(sizes, stage.at("student"))
