"""The records that training, derivation, decoding and the report leave behind.

A teacher cache has one of its own, `teachers/fingerprint.py`.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional, TypedDict, cast

from espnet_kd.common.json_file import Record, check_shape
from espnet_kd.errors import UserError

Count = Annotated[int, 0]
Amount = Annotated[float, 0]
Figures = Dict[str, Optional[float]]  # null: a figure that was not finite


class Facts(TypedDict, total=False):
    """Costs of a training, or the origin of an imported teacher."""

    imported_from: str
    checkpoint: str
    checkpoint_sha256: str
    epochs: Annotated[int, 1]
    max_epoch: Annotated[int, 1]
    updates: Optional[Count]
    skipped_updates: Count
    train_seconds: Optional[Amount]
    cpu_seconds: Optional[Amount]
    peak_memory_mb: Optional[Amount]
    device: Optional[str]
    ngpu: Count
    seed: int


class _Epoch(TypedDict):
    epoch: Annotated[int, 1]


class Epoch(_Epoch, total=False):
    """Figures of an epoch."""

    train: Figures
    valid: Figures


class Derivation(TypedDict):
    """Passes over a sample by which a student was chosen and checked.

    `work` is parameters times utterances that went forward; a backward pass counts twice.
    """

    utterances: Count
    audio_seconds: Amount
    work: Amount


class Student(TypedDict, total=False):
    """Sizes, origin and parameters of a student that was derived."""

    stage: Annotated[int, 1]
    name: str
    path: str
    teacher: Optional[str]
    first_teacher: str
    taught_by: str
    init: str
    anneal: str
    labels: str
    label_set: str
    label_teachers: List[str]
    select: Optional[Dict[str, Any]]
    kept_blocks: List[Count]
    params: Count
    params_by_part: Dict[str, Count]
    teacher_params: Count
    first_teacher_params: Count
    compression: float
    effective_params: Count
    update_params: Amount
    members: List[Count]
    lookahead_params: Count
    sizes: Dict[str, Any]
    importance: Dict[str, List[Optional[float]]]
    before_training: Figures
    derivation: Derivation


class _GateRound(TypedDict):
    epochs: Annotated[int, 1]
    wer: Amount
    teacher_wer: Amount
    utterances: Count


class GateRound(_GateRound, total=False):
    """Error rates after a round of training."""

    fault: Optional[str]


class _Gate(TypedDict):
    verdict: str


class GateResult(_Gate, total=False):
    """Measurements and decision of a gate."""

    student: str
    teacher: str
    student_wer: Amount
    teacher_wer: Amount
    difference: float
    rounds: List[GateRound]


class _File(TypedDict):
    path: str
    sha256: str


class _Manifest(TypedDict):
    student: str
    stage: Dict[str, Any]
    teacher: str
    files: Dict[str, _File]


class Manifest(_Manifest, total=False):
    """Everything that a student was made from."""

    fingerprint: str
    stock: str
    siblings: Dict[str, Dict[str, str]]
    training: Dict[str, Any]
    gate: Optional[GateResult]
    wer: Dict[str, Optional[Amount]]
    versions: Dict[str, Optional[str]]
    date: str


class _Decoding(TypedDict):
    audio_seconds: Amount
    decode_seconds: Amount


class Decoding(_Decoding, total=False):
    """Time and memory of a decoding job."""

    utterances: Count
    rtf: Optional[Amount]
    peak_memory_mb: Optional[Amount]
    device: str
    threads: Annotated[int, 1]
    streaming: bool
    decoding: str
    hit_limit: Optional[Count]


class Factor(TypedDict):
    """Real-time factor of a model over utterances."""

    median: Amount
    p95: Amount


class Measured(Factor, total=False):
    """Time, memory and energy of decoding with a model."""

    peak_memory_mb: Amount
    joules_per_hour: Amount


class Energy(TypedDict, total=False):
    """Counters of energy that were read, or why none was."""

    counters: List[str]
    not_measured: str


class _Speed(TypedDict):
    utterances: Annotated[int, 1]
    audio_seconds: Amount
    cores: Annotated[int, 1]
    load: List[Amount]
    models: Dict[str, Measured]


class Speed(_Speed, total=False):
    """Decoding speed of all models of a report, measured in one process."""

    threads: Annotated[int, 1]
    device: Optional[str]
    streaming: bool
    energy: Energy


class Late(TypedDict):
    """Delay of tokens, in milliseconds."""

    median: float
    p90: float


class _Delayed(TypedDict):
    errors: List[Count]


class Delayed(_Delayed, total=False):
    """Delays of a model, and its word errors in each utterance; no delays: it is not streaming."""

    tokens: Count
    chunk_ms: Optional[Amount]
    latency_ms: Optional[Amount]
    token: Optional[Late]
    first: Optional[Late]
    last: Optional[Late]
    frames: Optional[Late]


class _Delay(TypedDict):
    """Greedy decoding of all models of a report: how late tokens come, and how many are wrong."""

    utterances: Annotated[int, 1]
    audio_seconds: Amount
    alignment: str
    words: List[Count]
    models: Dict[str, Delayed]


class Delay(_Delay, total=False):
    """The same, with the speaker of each utterance, and the recording it was made of."""

    speakers: List[str]
    sources: List[str]


class _Difference(TypedDict):
    diff: float
    low: float
    high: float


class _ReportedModel(TypedDict):
    name: str
    dir: str
    checkpoint: str
    stage: Count
    params: Annotated[int, 1]
    compression: float
    size_mb: Amount
    wer: Dict[str, Amount]
    wer_diff: Optional[Dict[str, _Difference]]


class ReportedModel(_ReportedModel, total=False):
    """A model of the report."""

    relative_dir: str
    device_params: Count
    device_mb: Amount
    cer: Dict[str, Amount]
    not_stock: str
    wer_stock: Optional[Dict[str, Amount]]
    path: Optional[str]
    also_on: List[str]
    stepwise: bool
    teacher: Optional[str]
    taught_by: Optional[str]
    rtf: Optional[Factor]
    joules_per_hour: Optional[Amount]
    faults: Dict[str, str]
    device: Optional[str]
    epochs: Optional[Count]
    updates: Optional[Count]
    train_seconds: Optional[Amount]
    cost: Dict[str, Optional[Amount]]
    path_cost: Dict[str, Optional[Amount]]


class _FamilyCost(TypedDict):
    against: str
    sizes: List[List[str]]
    cost: Dict[str, Optional[Amount]]
    cost_against: Dict[str, Optional[Amount]]


class FamilyCost(_FamilyCost, total=False):
    """Sizes that steps and another way have both made, and what each way cost."""

    shared: List[List[str]]


class _Compared(_Difference):
    model: str
    against: str
    family: str
    test_set: str
    p: Amount
    p_holm: Amount


class Compared(_Compared, total=False):
    """A difference of two models' WER, in points."""

    z: Optional[float]
    remark: Optional[str]
    verdict: str


class _Method(TypedDict):
    level: float
    interval: str
    draws: Count


class Drawn(TypedDict):
    """Groups of a test set that the bootstrap has drawn."""

    by: str
    groups: Count
    speakers: Count


class Method(_Method, total=False):
    """How the report was computed."""

    drawn: Dict[str, Drawn]
    margin: Amount
    margin_set_by: str


class _Environment(TypedDict):
    date: str


class _Results(TypedDict):
    inference_tag: str
    test_sets: List[str]
    models: List[ReportedModel]
    method: Method
    environment: _Environment


class Results(_Results, total=False):
    """The report."""

    note: Optional[str]
    decoding: Optional[str]
    stock_tag: Optional[str]
    speed: Dict[str, Any]
    comparisons: List[Compared]
    families: List[FamilyCost]


class _Robust(TypedDict):
    inference_tag: str
    test_sets: List[str]
    models: Dict[str, str]


class Robust(_Robust, total=False):
    """Models of a run that were heard under other conditions: names and folders."""

    relative_dirs: Dict[str, str]


def _check_results(results: Results) -> None:
    """Find models without a score that the report's tables have."""
    for field in ("models", "test_sets"):
        if not results[field]:
            raise UserError(f"{field}: expected at least one")
    for i, model in enumerate(results["models"]):
        rates = {"wer": model["wer"], "wer_stock": model.get("wer_stock")}
        for field, values in {**rates, "wer_diff": model["wer_diff"]}.items():
            for test_set in results["test_sets"]:
                if values is not None and test_set not in values:
                    raise UserError(f"models[{i}].{field}: no value for '{test_set}'")
    if any(model.get("rtf") for model in results["models"]):
        speed = {**results.get("speed", {}), "models": {}}  # each model has its own
        check_shape(speed, Speed, "speed")
        _check_speed(cast(Speed, speed))  # as its shape has shown


def _check_history(history: List[Epoch]) -> None:
    numbers = [epoch["epoch"] for epoch in history]
    if numbers != sorted(set(numbers)):
        raise UserError("epoch: the numbers do not rise from entry to entry")


def _check_speed(speed: Speed) -> None:
    if len(speed["load"]) != 2:
        raise UserError("load: expected two numbers, before and after")


def _check_delay(delay: Delay) -> None:
    for field, counts in {
        "words": delay["words"],
        **{f"models.{name}.errors": model["errors"] for name, model in delay["models"].items()},
    }.items():
        if len(counts) != delay["utterances"]:
            raise UserError(f"{field}: expected {delay['utterances']}, found {len(counts)}")
    for field, labels in (("speakers", delay.get("speakers")), ("sources", delay.get("sources"))):
        if labels is not None and len(labels) != delay["utterances"]:
            raise UserError(f"{field}: expected {delay['utterances']}, found {len(labels)}")
    if not sum(delay["words"]):
        raise UserError("words: expected more than 0")


FACTS: Record[Facts] = Record("facts.json", Facts, "train the model again, or remove the file")
HISTORY: Record[List[Epoch]] = Record(
    "history.json", List[Epoch], "remove the file: only plots need it", _check_history
)
STUDENT: Record[Student] = Record("student.json", Student, "derive the student again (stage 16)")
GATE: Record[GateResult] = Record(
    "gate.json", GateResult, "remove the file and run stage 16 again"
)
MANIFEST: Record[Manifest] = Record(
    "manifest.json", Manifest, "run stage 16 again for a finished student"
)
DECODING: Record[Decoding] = Record(
    "rtf.json", Decoding, "remove the file, or decode this set again"
)
SPEED: Record[Speed] = Record(
    "speed.json", Speed, "remove the file and run stage 17 again", _check_speed
)
DELAY: Record[Delay] = Record(
    "delay.json", Delay, "remove the file and run stage 17 again", _check_delay
)
ROBUSTNESS: Record[Robust] = Record("robustness.json", Robust, "run stage 22 again")
RESULTS: Record[Results] = Record("results.json", Results, "run stage 17 again", _check_results)
_OF_MODELS = (FACTS, HISTORY, STUDENT, GATE, MANIFEST, DECODING)
FILES = [record.file for record in (*_OF_MODELS, SPEED, DELAY, ROBUSTNESS, RESULTS)]


def seen_from(folder: Path, path: Path) -> str:
    """Return the way from `folder` to `path`, so that both can be moved together."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def heard_experiments(folder: Path, record: Robust) -> Dict[str, Path]:
    """Return where the models of `<folder>/robustness.json` have their files, by name.

    Records before `relative_dirs` name it from where they were written.
    """
    if "relative_dirs" in record:
        return {name: folder / path for name, path in record["relative_dirs"].items()}
    return {name: Path(path) for name, path in record["models"].items()}


def experiment(folder: Path, model: ReportedModel) -> Path:
    """Return where an entry of `<folder>/results.json` has its files.

    Reports before `relative_dir` name it from where they ran.
    """
    if "relative_dir" in model:
        return folder / model["relative_dir"]
    return Path(model["dir"])
