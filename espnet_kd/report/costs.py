"""What a training took, and all trainings of a path together.

The model of cost: a training update of N parameters is three forward passes of N, and a forward
pass costs 2 N operations a frame (J. Kaplan et al., "Scaling laws for neural language models",
arXiv 2001.08361, section 2.1). The unit is an epoch of the first teacher's own training. Small
models are dearer than that: front end, lattice and Python do not shrink with them, which the
seconds show.
"""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from espnet_kd.common.records import DECODING, FACTS, HISTORY, STUDENT, Facts, Student
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.spec.pseudo_labels import NONE
from espnet_kd.spec.stage import FIRST, PREVIOUS

FORWARD = 1 / 3  # of an update
MADE_SETS = "hard_labels"  # folder of the sets that were made for one student


@dataclass(frozen=True)
class Cost:
    """Cost of trainings; None where it is not recorded.

    Attributes:
        updates: Number of updates.
        audio_hours: Hours of audio that went through training, repetitions counted.
        seconds: Wall time of the epochs and their validation.
        cpu_seconds: CPU time of the same.
        gpu_seconds: Wall time times GPUs.
        teacher_epochs: Operations, in epochs of the first teacher's training: students forward
            and backward, teachers and caches forward, derivation; without validation.
        kwh: Kilowatt-hours: the wall time at the power that the user has named.
    """

    updates: Optional[float] = None
    audio_hours: Optional[float] = None
    seconds: Optional[float] = None
    cpu_seconds: Optional[float] = None
    gpu_seconds: Optional[float] = None
    teacher_epochs: Optional[float] = None
    kwh: Optional[float] = None

    def at_power(self, watts: Optional[float]) -> "Cost":
        """Return the same with its energy, at a power in watts; None: nobody has measured it."""
        if watts is None or self.seconds is None:
            return self
        return replace(self, kwh=watts * self.seconds / 3.6e6)

    @classmethod
    def total(cls, costs: Iterable["Cost"]) -> "Cost":
        """Add up; what one of them does not know is not known."""
        costs = list(costs)
        columns = {f.name: [getattr(c, f.name) for c in costs] for f in fields(cls)}
        return cls(**{name: _sum(values) for name, values in columns.items()})

    @classmethod
    def mean(cls, costs: Sequence["Cost"]) -> "Cost":
        """Return the mean over runs."""
        summed = cls.total(costs)
        values = {name: x and x / len(costs) for name, x in asdict(summed).items()}
        return cls(**values)

    @classmethod
    def from_json(cls, data: Optional[Mapping[str, Any]]) -> "Cost":
        """Read what `results.json` holds; older ones have none."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: x for name, x in (data or {}).items() if name in known})


def _sum(values: Sequence[Optional[float]]) -> Optional[float]:
    known = [x for x in values if x is not None]
    return sum(known) if len(known) == len(values) else None


def cost_of(folders: Sequence[Path], first: Path, params: int) -> Cost:
    """Count what some students took.

    Args:
        folders: Experiments, each once; none: they are not known.
        first: Experiment of the first teacher.
        params: Parameters of the first teacher.

    Raises:
        UserError: a file is not what it should be.
    """
    if not folders:
        return Cost()
    costs: List[Cost] = []
    once: Dict[str, float] = {}
    for folder in folders:
        cost, caches = _training(folder, first, params)
        costs.append(cost)
        once.update(caches)
    total = Cost.total(costs)
    if total.teacher_epochs is None:
        return total
    epochs = total.teacher_epochs + sum(once.values())
    return Cost(**{**asdict(total), "teacher_epochs": epochs})


def _training(folder: Path, first: Path, params: int) -> Tuple[Cost, Dict[str, float]]:
    """Return the cost of a training, and of passes over the training set that may be shared."""
    facts = FACTS.read_if_there(folder) or Facts()
    audio = _audio(folder)
    seconds, epochs = facts.get("train_seconds"), facts.get("epochs")
    operations: Optional[float] = None
    once: Dict[str, float] = {}
    if epochs is not None:
        operations, once = _operations(folder, first, params, epochs, audio)
    cost = Cost(
        facts.get("updates"),
        None if audio is None else audio / 3600,
        seconds,
        facts.get("cpu_seconds"),
        None if seconds is None else seconds * facts.get("ngpu", 0),
        operations,
    )
    return cost, once


def _audio(folder: Path) -> Optional[float]:
    """Return the seconds of audio that went through a training; None: it is not recorded."""
    trained = [epoch.get("train", {}) for epoch in HISTORY.read_if_there(folder) or []]
    rates = [(t.get("audio_seconds_per_second"), t.get("seconds")) for t in trained]
    return _sum([None if r is None or s is None else r * s for r, s in rates]) if rates else None


def _operations(
    folder: Path, first: Path, params: int, epochs: int, audio: Optional[float]
) -> Tuple[Optional[float], Dict[str, float]]:
    """Return operations in teacher-epochs, and those of caches and hard labels by their name."""
    if folder.resolve() == first.resolve():
        return float(epochs), {}
    student = STUDENT.read_if_there(folder) or Student()
    # What a training computes with: factors, members of a family, two exits. Who learns from the
    # student hears whole matrices, and the largest member.
    alone = student.get("effective_params") or student.get("params")
    path = folder / "config.yaml"
    if alone is None or not path.is_file():
        return None, {}
    size = student.get("update_params") or alone
    kd = read_yaml(path, "an experiment's config").get("kd_conf") or {}
    heard, unit = audio and audio / epochs, _audio(first)  # seconds of an epoch
    unit = unit and unit / ((FACTS.read_if_there(first) or Facts()).get("epochs") or 1)
    made, label_set = folder / MADE_SETS, student.get("label_set")
    sets = sorted(p.name for p in made.iterdir() if p.is_dir()) if made.is_dir() else [""]
    sets = [label_set] if label_set else sets
    share = heard / unit if heard and unit and made.is_dir() else 1.0
    # An epoch on another set, or on chosen labels, counts by its audio, in epochs of the teacher.
    chosen = (student.get("select") or {}).get("by", NONE) != NONE
    if (label_set or chosen) and not (heard and unit):
        return None, {}
    work = float(share * epochs * (size + (modes_of(kd) - 1) * alone))
    once: Dict[str, float] = {}
    taught_by = _params(kd.get("teacher_config"), folder, params)
    if kd.get("objective", "none") != "none" and kd.get("teacher_cache"):
        once[f"cache of {kd['teacher_cache']}"] = share * FORWARD * taught_by / params
    elif kd.get("objective", "none") != "none":
        # Beside a second exit a teacher that shares the chunks hears longer ones, too.
        second = "lookahead_params" in student and size > alone  # or it counts nothing
        passes = 2 if second and kd.get("teacher_context", "shared") == "shared" else 1
        teachers = taught_by + params * bool(kd.get("first_teacher_config"))
        work += share * FORWARD * epochs * passes * teachers
    if student.get("labels") == "teacher":
        for by in _labellers(student, folder, first):
            labelled_by = _params(f"{by}/config.yaml" if by else None, folder, params)
            for name in sets:  # what was decoded of it, or else what was left of that
                decoded = _decoded(by, name, folder) if unit else None
                part = decoded / unit if decoded and unit else share
                once[f"labels of {by} on {name}"] = part * FORWARD * labelled_by / params
    derivation = student.get("derivation")
    if derivation is not None and audio and derivation["utterances"]:
        mean = derivation["work"] / derivation["utterances"]
        work += FORWARD * mean * derivation["audio_seconds"] / (unit or audio / epochs)
    return work / params, once


def _labellers(student: Student, folder: Path, first: Path) -> List[Optional[str]]:
    """Return the experiments that labelled a student's set; None stands for the first teacher."""
    above = student.get("teacher")
    named = student.get("label_teachers")
    if named is None:
        return [student.get("taught_by") or above]
    beside = str(folder).removesuffix(student.get("name", ""))  # experiments of other stages
    known = {PREVIOUS: above, FIRST: str(first)}
    return [known.get(name, name if "/" in name else f"{beside}{name}") for name in named]


def _decoded(by: Optional[str], name: str, folder: Path) -> Optional[float]:
    """Return the seconds of a set that a model decoded for its labels; None: not recorded."""
    if not by or not name:
        return None
    runs: Dict[Path, float] = {}  # of its decodings with several options one is meant
    for path in _beside(Path(by), folder).glob(f"*/{name}/logdir/output.*/{DECODING.file}"):
        seconds = DECODING.read_path(path)["audio_seconds"]
        runs[path.parents[1]] = runs.get(path.parents[1], 0.0) + seconds
    return max(runs.values(), default=None)


def _beside(exp: Path, folder: Path) -> Path:
    """Return an experiment: where exp/ was moved, they lie side by side."""
    return exp if exp.is_dir() else folder.parent / exp.name


def modes_of(kd: Mapping[str, Any]) -> int:
    """Return how often a batch goes through a student of these options (but its predictor)."""
    return 2 if kd.get("two_modes") else 1


def _params(config: Optional[str], folder: Path, first: int) -> int:
    """Count the parameters of a teacher; one that is no student is the first."""
    if not config:
        return first
    exp = _beside(Path(config).parent, folder)
    student = STUDENT.read_if_there(exp) if exp.is_dir() else None
    return (student or Student()).get("params", first)


# ------------------------------------------------------------------ what was held equal
MEASURES = {
    "updates": "updates",
    "audio_hours": "hours of audio",
    "seconds": "seconds of training",
    "cpu_seconds": "CPU seconds",
    "gpu_seconds": "GPU seconds",
    "teacher_epochs": "teacher-epochs",
}
SAME = 0.02


def held_equal(
    ours: Cost,
    theirs: Cost,
    alone: Tuple[Optional[float], Optional[float]],
    names: Sequence[str],
    lead: str = "Between",
) -> str:
    """Say which costs two ways had alike, and what the others were.

    Args:
        ours: Cost of one way, all students on it.
        theirs: Cost of the other way.
        alone: Updates of the two last students alone; None: not asked for.
        names: Names of both ways, in a sentence.
        lead: Beginning of the sentence.
    """
    pairs = [(word, getattr(ours, f), getattr(theirs, f)) for f, word in MEASURES.items()]
    pairs.append(("updates of the last student alone", *alone))
    known = [(w, a, b) for w, a, b in pairs if a is not None and b is not None and (a or b)]
    if not known:
        return f"What {names[0]} and {names[1]} cost was not recorded."
    alike = [abs(a - b) <= SAME * max(a, b) for _, a, b in known]
    equal = [f"{w} ({_number(a)})" for (w, a, _), same in zip(known, alike) if same]
    other = [
        f"{w} ({_number(a)} against {_number(b)})" for (w, a, b), x in zip(known, alike) if not x
    ]
    sentence = f"{lead} {names[0]} and {names[1]} the cost was equal in {_listed(equal)}"
    return sentence + (f", not in {_listed(other)}." if other else ".")


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]])) or "nothing"


def _number(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 or x == int(x) else f"{x:.3g}"
