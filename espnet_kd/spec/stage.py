"""One entry of a plan's `stages`: a student, as the user has written it."""

import dataclasses
import re
from typing import Any, List, Mapping, Optional, Type

from espnet_kd.errors import UserError, shown
from espnet_kd.spec.distillation import IN_STAGE, Distillation
from espnet_kd.spec.gate import LONGER, OF_LONGER, Gate, read_gate
from espnet_kd.spec.method import DEFAULT, MethodOptions, read_method, read_method_conf
from espnet_kd.spec.named_sizes import NamedSizes, read_sizes
from espnet_kd.spec.option import Options, known_options, option
from espnet_kd.spec.pseudo_labels import MEDIAN, VOTE, Select, read_select, read_set, read_teachers
from espnet_kd.spec.reader import check_keys, read
from espnet_kd.spec.size_table import SHAPES
from espnet_kd.spec.target import Target, read_target
from espnet_kd.spec.training_config import TrainingConfig, read_train

LONGEST_NAME = 60  # a file system takes 255 bytes, and paths and tags come before it
RESERVED = ("teacher",)
PREVIOUS, FIRST = "previous", "first"  # teachers of a stage
THROUGH = "through"


def read_name(where: str, name: Any) -> str:
    """Return the name of a stage: a part of directory names and of lines between programs.

    Raises:
        UserError: it is not text, or text that cannot be such a part.
    """
    if not isinstance(name, str):
        raise UserError(f"{where}: expected text, found {shown(name)}; write it in quotes")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UserError(
            f"{where}: {shown(name)} may hold letters, digits, '-' and '_' only, and begin with a "
            "letter or digit"
        )
    if len(name) > LONGEST_NAME:
        raise UserError(f"{where}: {shown(name)} has more than {LONGEST_NAME} characters")
    if name.lower() in RESERVED:
        raise UserError(f"{where}: '{name}' is reserved: the first model has it in the report")
    return name


def read_taught_by(where: str, name: Any) -> str:
    """Return who teaches a stage; whether there is such a stage is another question.

    Raises:
        UserError: it is no word.
    """
    if not isinstance(name, str):
        raise UserError(
            f"{where}: expected '{PREVIOUS}', '{FIRST}' or the name of an earlier stage, found "
            f"{shown(name)}"
        )
    return name


@dataclasses.dataclass(frozen=True)
class Stage(Options):
    """One student of a plan.

    Attributes:
        name: Part of the student's directory name.
        target: Wanted size, or None.
        sizes: The student's sizes by ESPnet's names, or None.
        epochs: Epochs of distillation; None leaves the training config's.
        method: Name of the compression method (`spec.method`).
        method_conf: Options of that method, of the class that it has registered.
        init: `teacher`: inherited weights; `random`.
        blocks: Choice of the blocks that are inherited: `spaced` evenly; those with the largest
            block `influence`; those whose absence costs the largest loss (`skip_loss`).
        units: Choice of the units that are inherited, by the norm of their `weight` or by
            `taylor`, or by `taylor_change`, whose frames count by how much they change.
        allocate: Way in which a target becomes sizes: our `rule`, `deep` (`spec.size_table`),
            measured `sensitivity`, or what was `learned` by the gates of the stage before.
        labels: Labels of the student's RNN-T loss: the `transcript`, or what
            the `teacher` makes of the training set (hard labels).
        label_set: Set that it is trained on in place of the training set; empty: that.
        label_teachers: Models whose labels are put together; None: its teacher alone.
        combine: Way in which the labels of several are put together, `median` or `vote`.
        select: Choice of the labels that are trained on; None: all.
        keep_source: Share of the utterances that are of the training set, beside a `label_set`.
        taught_by: Model whose posteriors (and hard labels) it learns: its teacher, which is the
            `previous` student, the run's `first` teacher, or the student of an earlier stage.
            Weights, and what they are measured on, are the previous student's in any case.
        anneal: Whether learning rate and optimizer begin `anew`, or go `through` the stages.
        train: Overrides of the training config.
        gate: Condition for being the next student's teacher; None: none.
        kd: Distillation options that stand in the stage itself; see `kd_conf`.
        number: Place in the plan, from 1; a student that a gate or a path adds has the
            number of the stage whose size it has or leads to.
        where: `file: stages[0]`, for messages.
        places: Names, for messages, of what stands elsewhere in the file: `gate.margin` beside
            `stages`, the sizes of a family in its `members`.
    """

    name: str = option(
        "",
        "part of the names of folders; `stage<K>` by default",
        read=read_name,
        values="letters, digits, `-`, `_`",
    )
    target: Optional[Target] = option(
        None,
        "at most this share of the first teacher's parameters, this many parameters, or this "
        "size of a checkpoint (10^6 bytes)",
        read=read_target,
        values="`0.6`, `750000`, `1.8 MB`",
    )
    sizes: Optional[NamedSizes] = option(
        None,
        "or sizes by ESPnet's names; what is not named is the teacher's",
        key="student",
        read=read_sizes,
        values="`{encoder: {num_blocks: 4}}`",
    )
    epochs: Optional[int] = option(
        None, "epochs; those of the training config by default", least=1, neutral=True
    )
    method: str = option(
        DEFAULT, "the compression method", read=read_method, values="a method's name"
    )
    method_conf: MethodOptions = option(
        MethodOptions(),
        "options of the method",
        read=lambda where, value: value,  # which they are, `method` says
        values="`{option: value}`",
    )
    init: str = option("teacher", "inherited weights or fresh ones", choices=("teacher", "random"))
    blocks: str = option(
        "spaced",
        "which blocks are kept: evenly spaced, those that turn their input most, those whose "
        "absence costs the most loss",
        choices=("spaced", "influence", "skip_loss"),
    )
    units: str = option(
        "weight",
        "which channels, units and heads are kept: by squared weights, by (weight × gradient)², "
        "or by that where frames count as much as the encoder's output changes there",
        choices=("weight", "taylor", "taylor_change"),
    )
    allocate: str = option(
        "rule",
        "how a target becomes sizes: by our `rule`, which shrinks all alike; `deep`, which keeps "
        "more blocks and gives up feed-forward units first, for steps to half or less; "
        "`sensitivity`: step by step where a parameter saved costs the least loss before "
        "training, measured anew after each factor of 2.6, for small steps (in one of 12 or 24 "
        "it was worse than `deep`); or `learned`: what the `gates` of the stage before have left",
        choices=(*SHAPES, "sensitivity", "learned"),
    )
    labels: str = option(
        "transcript",
        "what the student is trained on: the transcripts, or what its teacher makes of the "
        "training set (hard labels)",
        choices=("transcript", "teacher"),
    )
    label_set: str = option(
        "",
        "the set that it is trained on in place of the training set, one of `--unlabelled_sets`; "
        "with `labels: transcript` it has transcripts",
        read=read_set,
        values="a set's name",
    )
    label_teachers: Optional[List[str]] = option(
        None,
        "models whose labels are put together; by default the stage's teacher alone",
        read=read_teachers,
        values="`[previous, exp/asr_b, exp/asr_c]`",
    )
    combine: str = option(
        MEDIAN,
        "how they are put together: for each utterance the hypothesis nearest to all others, or "
        "a vote on each word of that, ties to the best on the validation set",
        choices=(MEDIAN, VOTE),
    )
    select: Optional[Select] = option(
        None,
        "labels that are trained on: by `agreement` of the teachers, by `confidence`, or all "
        "(`none`), and the share that is kept (0.7)",
        read=read_select,
        values="`{by: agreement, keep: 0.7}`",
    )
    keep_source: float = option(
        0.0,
        "with a `label_set`: share of the utterances that are the training set's, with their "
        "transcripts",
        least=0,
        most=0.95,
    )
    taught_by: str = option(
        PREVIOUS,
        "whose posteriors and hard labels it learns: those of the student before it, whose "
        "weights it inherits in any case, of the run's first teacher, or of an earlier stage's "
        "student",
        key="teacher",
        read=read_taught_by,
        values="`previous`, `first`, a stage's name",
    )
    anneal: str = option(
        "anew",
        "the learning rate rises and falls in each stage `anew`, or once over all stages in a row "
        "that say `through`, with what the optimizer has learnt of the units that are kept",
        choices=("anew", THROUGH),
    )
    train: TrainingConfig = option(
        TrainingConfig(),
        "options of ESPnet's training, which overrule the students' training config",
        read=read_train,
        values="`{option: value}`",
    )
    gate: Optional[Gate] = option(
        None,
        "when the student may become the next teacher; stands in a stage or beside `stages` "
        "for all",
        read=read_gate,
        values="`{margin: 1.0, otherwise: stop}`, `false`",
        neutral=True,
    )
    kd: Distillation = Distillation(objective="collapsed")
    number: int = 0
    where: str = ""
    places: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    def at(self, key: str) -> str:
        """Name the place in the file where an option is written, for messages.

        Args:
            key: Name of the option, or of one in it: `target`, `gate.otherwise`.
        """
        parts = key.split(".")
        for n in range(len(parts), 0, -1):
            place = self.places.get(".".join(parts[:n]))
            if place is not None:
                return ".".join([place, *parts[n:]])
        return f"{self.where}.{key}"

    def kd_conf(self, base: TrainingConfig) -> Distillation:
        """Return its distillation options, the teacher's files excepted.

        Args:
            base: The recipe's training config for students, which the plan overrules.
        """
        return self.kd.over(self.train.kd.over(base.kd))


def read_stage(
    where: str,
    number: int,
    entry: Any,
    gate: Optional[Gate],
    places: Mapping[str, str],
    cls: Type[Stage] = Stage,
) -> Stage:
    """Read one entry of `stages`.

    Args:
        where: Name of the place, for messages.
        number: 1 for the first.
        entry: Content of the YAML.
        gate: The plan's gate for all stages.
        places: See `Stage`; what the entry says of its gate itself stands there.
        cls: Class of the stage.

    Raises:
        UserError: an unknown key (naming the nearest right one), a wrong value, or no size.
    """
    check_keys(entry, where, [*known_options(cls), *IN_STAGE], "keys and values")
    written = {key: entry[key] for key in entry if key not in IN_STAGE}
    stage = read(cls, {"name": f"stage{number}", **written}, where)
    conf = read_method_conf(stage.method, entry.get("method_conf"), f"{where}.method_conf")
    kd = {key: entry[key] for key in IN_STAGE if key in entry}
    of_stage = [] if stage.gate is None else [f"gate.{key}" for key in stage.gate.written]
    if stage.gate is not None:
        idle = stage.gate
        gate = stage.gate.over(gate or Gate())
        for key in OF_LONGER if gate.otherwise != LONGER else ():
            if key in idle.written:
                raise UserError(
                    f"{where}.gate.{key}: found {shown(idle.written[key])}, which is of "
                    f"'otherwise: {LONGER}'; it is '{gate.otherwise}': leave it out"
                )
    stage = dataclasses.replace(
        stage,
        method_conf=conf,
        kd=read(Distillation, {"objective": "collapsed", **kd}, where),
        gate=None if "gate" in entry and stage.gate is None else gate,
        number=number,
        where=where,
        places={key: place for key, place in places.items() if key not in of_stage},
    )
    conf.check_stage(stage)
    return stage
