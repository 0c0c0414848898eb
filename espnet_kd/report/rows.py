"""One row a model: what `results.json`, the tables and the plots are all made from."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from espnet_kd.common.json_file import rounded
from espnet_kd.common.records import DECODING, FACTS, HISTORY
from espnet_kd.report.models import Model
from espnet_kd.report.paths import Lineage, lineage
from espnet_kd.report.scores import Scores
from espnet_kd.report.sizes import measure
from espnet_kd.scoring.bootstrap import Interval
from espnet_kd.scoring.counts import Counts
from espnet_kd.scoring.faults import fault
from espnet_kd.scoring.units import TYPES


@dataclass
class Row:
    """What is known of a model; None where the run did not record it.

    Rates are in percent, differences in points against the first teacher, above 0 worse.
    Dictionaries go from test set to value. `faults` says where a model does not recognise speech
    (`scoring.faults`); `hit_limit` counts utterances at whose limit decoding stopped. `rtf` holds
    `median` and `p95`, from `speed.json`. `summaries` has, per score type and test set, sclite's
    summary line. `path`,
    `teacher`, `gate` and `before_training` are those of `paths.Lineage`; `path_updates` and
    `path_seconds` include all students before this one.
    """

    name: str
    stage: int
    path: Optional[str]
    teacher: Optional[str]
    dir: str
    checkpoint: str
    params: int
    params_total: int
    compression: float
    size_mb: float
    wer: Dict[str, float]
    cer: Dict[str, float]
    wer_diff: Optional[Dict[str, Interval]]
    cer_diff: Optional[Dict[str, Interval]]
    errors: Dict[str, Dict[str, Counts]]
    faults: Dict[str, str]
    hit_limit: Optional[int]
    rtf: Optional[Dict[str, float]]
    decode_memory_mb: Optional[float]
    train_seconds: Optional[float]
    updates: Optional[int]
    epochs: Optional[int]
    path_updates: Optional[int]
    path_seconds: Optional[float]
    gate: Optional[Dict[str, Any]]
    before_training: Optional[Dict[str, Any]]
    peak_memory_mb: Optional[float]
    device: Optional[str]
    summaries: Dict[str, Dict[str, List[float]]]
    history: List[Dict[str, Any]]

    def to_json(self) -> Dict[str, Any]:
        """Return the row for `results.json`: plain containers, no noise digits."""
        data = asdict(self)
        del data["summaries"], data["history"]  # files of their own hold them
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
    speed: Mapping[str, Any],
) -> List[Row]:
    """Read everything about `models`; the first is the one all are compared with.

    `speed` is what `speed.json` holds, or empty.

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
        size = measure(m.checkpoint)
        first = rows[0].params if rows else size.params
        facts = FACTS.read_if_there(m.dir) or {}
        past = lineage(m.dir, models[0].dir) if rows else Lineage(steps=0)
        errors = {t: {s: scores.total(m.name, t, s) for s in test_sets} for t in TYPES}
        own = {t: {s: diffs[t, s][m.name] for s in test_sets} if rows else None for t in TYPES}
        rows.append(
            Row(
                name=m.name,
                stage=m.stage if past.steps is None else past.steps,
                path=past.path,
                teacher=past.teacher and _name_of(past.teacher, names),
                dir=str(m.dir),
                checkpoint=m.checkpoint.name,
                params=size.params,
                params_total=size.params_total,
                compression=1 - size.params / first,
                size_mb=size.size_mb,
                wer={s: c.error_rate for s, c in errors["wer"].items()},
                cer={s: c.error_rate for s, c in errors["cer"].items()},
                wer_diff=own["wer"],
                cer_diff=own["cer"],
                errors=errors,
                faults={s: what for s, c in errors["wer"].items() if (what := fault(c))},
                train_seconds=facts.get("train_seconds"),
                updates=facts.get("updates"),
                epochs=facts.get("epochs"),
                path_updates=past.updates,
                path_seconds=past.seconds,
                gate=past.gate,
                before_training=past.before_training,
                peak_memory_mb=facts.get("peak_memory_mb"),
                device=facts.get("device"),
                summaries={
                    t: {s: scores.summaries[m.name, t, s] for s in test_sets} for t in TYPES
                },
                history=HISTORY.read_if_there(m.dir) or [],
                rtf=speed.get("models", {}).get(m.name),
                **_decoding(m.dir / inference_tag, test_sets),
            )
        )
    return rows


def _name_of(exp: str, names: Dict[str, str]) -> str:
    """Name an experiment as the report does: that very folder, or else one called the same."""
    found = names.get(str(Path(exp).resolve()))
    return found or names.get(Path(exp).name, exp)


def _decoding(decode_dir: Path, test_sets: Sequence[str]) -> Dict[str, Any]:
    """Add up what the decoding jobs of all test sets recorded."""
    memory: List[float] = []
    limits: List[int] = []
    for test_set in test_sets:
        for path in sorted((decode_dir / test_set).glob(f"logdir/output.*/{DECODING.file}")):
            job = DECODING.read_path(path)
            memory.append(job.get("peak_memory_mb") or 0)
            limits += [] if job.get("hit_limit") is None else [job["hit_limit"]]
    return {
        "decode_memory_mb": max(memory, default=0) or None,
        "hit_limit": sum(limits) if limits else None,
    }
