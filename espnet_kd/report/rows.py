"""One row a model: what `results.json`, the tables and the plots are all made from."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from espnet_kd.common.json_file import rounded
from espnet_kd.common.records import DECODING, FACTS, HISTORY, Epoch, Figures, GateResult, Speed
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.deploy.artifact import count_parameters, of_experiment
from espnet_kd.methods.protocol import OnDevice
from espnet_kd.report.costs import Cost, cost_of
from espnet_kd.report.device_form import on_device
from espnet_kd.report.models import Model
from espnet_kd.report.paths import Lineage, lineage
from espnet_kd.report.scores import Scores
from espnet_kd.scoring.bootstrap import Interval
from espnet_kd.scoring.counts import Counts, read_counts
from espnet_kd.scoring.faults import fault
from espnet_kd.scoring.units import TYPES
from espnet_kd.spec.not_stock import Ours, parts_of_ours


@dataclass
class Row:
    """Facts about a model; None where the run did not record it.

    Rates are in percent, differences in points against the first teacher, above 0 worse.
    Dictionaries go from test set to value. `faults` says where a model does not recognise speech
    (`scoring.faults`); `hit_limit` counts utterances at whose limit decoding stopped. `rtf` holds
    `median` and `p95`; it, `decode_memory_mb` (2^20 bytes) and `joules_per_hour` of audio are from
    `speed.json`. `summaries` has, per score type and test set, sclite's summary line. `path`,
    `teacher`, `taught_by`, `gate`, `before_training`, `stepwise` and `trainings` are those of
    `paths.Lineage`; `cost` is of this training; `path_cost`, `path_updates`, `path_seconds`
    include all students before it.
    `wer_stock` is that of ESPnet's own streaming where `wer` is of ours, `wer_windows` in chunks
    of other lengths (milliseconds, then test set). `on_device` tells what a device holds of a
    model whose method has a form for it (`report/device_form.py`). `also_on` names paths of which
    it is a student, too (`plan.twins`). `not_stock` says what of it ESPnet does not have.
    """

    name: str
    stage: int
    path: Optional[str]
    teacher: Optional[str]
    taught_by: Optional[str]
    dir: str
    checkpoint: str
    params: int
    params_total: int
    compression: float
    size_mb: float
    on_device: Optional[OnDevice]
    wer: Dict[str, float]
    cer: Dict[str, float]
    wer_stock: Optional[Dict[str, float]]
    wer_windows: Dict[str, Dict[str, float]]
    wer_diff: Optional[Dict[str, Interval]]
    cer_diff: Optional[Dict[str, Interval]]
    errors: Dict[str, Dict[str, Counts]]
    faults: Dict[str, str]
    hit_limit: Optional[int]
    rtf: Optional[Dict[str, float]]
    decode_memory_mb: Optional[float]
    joules_per_hour: Optional[float]
    train_seconds: Optional[float]
    updates: Optional[int]
    epochs: Optional[int]
    path_updates: Optional[float]
    path_seconds: Optional[float]
    cost: Cost
    path_cost: Cost
    trainings: Tuple[Path, ...]
    gate: Optional[GateResult]
    before_training: Optional[Figures]
    peak_memory_mb: Optional[float]
    device: Optional[str]
    summaries: Dict[str, Dict[str, List[float]]]
    history: List[Epoch]
    also_on: Sequence[str]
    stepwise: bool = False
    not_stock: str = ""

    @property
    def steps(self) -> Optional[int]:
        """Trainings since the first teacher; None: unknown."""
        return len(self.trainings) or None

    @property
    def device_bytes(self) -> Optional[float]:
        """Bytes on a device; None: its method has no form for one."""
        return None if self.on_device is None else self.on_device.bytes

    def to_json(self) -> Dict[str, Any]:
        """Return the row for `results.json`: plain containers, no noise digits."""
        data = asdict(self)
        del data["summaries"], data["history"], data["trainings"]  # files of their own hold them
        del data["on_device"]
        if not self.not_stock:
            del data["not_stock"]
        if self.on_device is not None:
            data["device_params"] = self.on_device.params
            data["device_mb"] = self.on_device.bytes / 1e6
        for by_set in data["errors"].values():
            for test_set, c in by_set.items():
                words = c["correct"] + c["substitutions"] + c["deletions"]
                by_set[test_set] = {"ref_words": words, **c}
        return rounded(data)


def collect(
    models: Sequence[Model],
    inference_tag: str,
    test_sets: Sequence[str],
    scores: Scores,
    speed: Optional[Speed],
    stock_tag: Optional[str] = None,
    windows: Optional[Mapping[str, str]] = None,
    also_on: Optional[Mapping[str, List[str]]] = None,
    watts: Optional[float] = None,
) -> List[Row]:
    """Read everything about `models`; the first is the one all are compared with.

    `speed` is what `speed.json` holds, or None; `stock_tag` names the directory of what ESPnet's
    own streaming gives, `windows` those of decodings in chunks of other lengths. `also_on` has
    the further paths of models by name. `watts` is the power while training, as the user says.

    Raises:
        UserError: a checkpoint is missing, or a file is not what it should be.
    """
    rows: List[Row] = []
    to_first = [(m.name, models[0].name) for m in models[1:]]
    diffs = {
        (t, s): dict(zip((m.name for m in models[1:]), scores.intervals(to_first, t, s)))
        for t in TYPES
        for s in test_sets
    }
    names = {m.dir.name: m.name for m in reversed(models)}  # exp/ may have been moved
    names |= {str(m.dir.resolve()): m.name for m in models}
    for m in models:
        artifact, ours = of_experiment(m.dir, m.checkpoint), _ours(m.dir)
        theirs = all(part.streams for part in ours)  # whether ESPnet's own streaming decodes it
        params = count_parameters(m.checkpoint)
        first = rows[0].params if rows else params.decoding
        measured = speed["models"].get(m.name) if speed else None
        facts = FACTS.read_if_there(m.dir) or {}
        past = Lineage(steps=0, cost=cost_of([m.dir], m.dir, first))
        if rows:
            past = lineage(m.dir, models[0].dir, first)
        errors = {t: {s: scores.total(m.name, t, s) for s in test_sets} for t in TYPES}
        of_model = {
            t: {s: diffs[t, s][m.name] for s in test_sets} if rows else None for t in TYPES
        }
        rows.append(
            Row(
                name=m.name,
                stage=m.stage if past.steps is None else past.steps,
                path=past.path,
                teacher=past.teacher and _name_of(past.teacher, names),
                taught_by=past.taught_by and _name_of(past.taught_by, names),
                dir=str(m.dir),
                checkpoint=m.checkpoint.name,
                params=params.decoding,
                params_total=params.total,
                compression=1 - params.decoding / first,
                size_mb=artifact.size_mb,
                on_device=on_device(m.checkpoint),
                wer={s: c.error_rate for s, c in errors["wer"].items()},
                cer={s: c.error_rate for s, c in errors["cer"].items()},
                wer_stock=_wer_of(m.dir / stock_tag, test_sets) if stock_tag and theirs else None,
                wer_windows={
                    window: _wer_of(m.dir / tag, test_sets)
                    for window, tag in (windows or {}).items()
                },
                wer_diff=of_model["wer"],
                cer_diff=of_model["cer"],
                errors=errors,
                faults={s: what for s, c in errors["wer"].items() if (what := fault(c))},
                train_seconds=facts.get("train_seconds"),
                updates=facts.get("updates"),
                epochs=facts.get("epochs"),
                path_updates=past.path_cost.updates,
                path_seconds=past.path_cost.seconds,
                cost=past.cost.at_power(watts),
                path_cost=past.path_cost.at_power(watts),
                trainings=past.trainings,
                gate=past.gate,
                before_training=past.before_training,
                peak_memory_mb=facts.get("peak_memory_mb"),
                device=facts.get("device"),
                summaries={
                    t: {s: scores.summaries[m.name, t, s] for s in test_sets} for t in TYPES
                },
                history=HISTORY.read_if_there(m.dir) or [],
                rtf={"median": measured["median"], "p95": measured["p95"]} if measured else None,
                decode_memory_mb=measured.get("peak_memory_mb") if measured else None,
                joules_per_hour=measured.get("joules_per_hour") if measured else None,
                hit_limit=_hit_limit(m.dir / inference_tag, test_sets),
                also_on=(also_on or {}).get(m.name, []),
                stepwise=past.stepwise,
                not_stock="; ".join(part.why for part in ours),
            )
        )
    return rows


def _ours(exp: Path) -> List[Ours]:
    """List the parts of a model that ESPnet does not have."""
    path = exp / "config.yaml"
    return parts_of_ours(read_yaml(path, "an experiment's config")) if path.is_file() else []


def _name_of(exp: str, names: Dict[str, str]) -> str:
    """Name an experiment as the report does: that very folder, or else one called the same."""
    name = names.get(str(Path(exp).resolve()))
    return name or names.get(Path(exp).name, exp)


def _wer_of(decode_dir: Path, test_sets: Sequence[str]) -> Dict[str, float]:
    """Return the WER of each test set in percent."""
    paths = {s: decode_dir / s / "score_wer/counts.tsv" for s in test_sets}
    return {s: Counts.total(read_counts(p).values()).error_rate for s, p in paths.items()}


def _hit_limit(decode_dir: Path, test_sets: Sequence[str]) -> Optional[int]:
    """Count the utterances of all test sets at whose limit decoding stopped."""
    limits: List[int] = []
    for test_set in test_sets:
        for path in sorted((decode_dir / test_set).glob(f"logdir/output.*/{DECODING.file}")):
            count = DECODING.read_path(path).get("hit_limit")
            limits += [] if count is None else [count]
    return sum(limits) if limits else None
