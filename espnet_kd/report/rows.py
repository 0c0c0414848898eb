"""One row a model: what `results.json`, the tables and the plots are all made from."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from espnet_kd.errors import UserError
from espnet_kd.report.models import Model
from espnet_kd.report.sizes import measure
from espnet_kd.scoring.bootstrap import Interval, paired_interval
from espnet_kd.scoring.counts import Counts, read_counts
from espnet_kd.scoring.sclite import sum_row
from espnet_kd.scoring.tokens import TYPES

Scores = Dict[str, Dict[str, Counts]]  # test set -> utterance -> counts


@dataclass
class Row:
    """What is known of a model; None where the run did not record it.

    Rates are in percent, differences in points against the first teacher, above 0 worse.
    Dictionaries go from test set to value. `summaries` has, per score type and test set,
    sclite's summary line.
    """

    name: str
    stage: int
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
    rtf: Optional[float]
    decode_memory_mb: Optional[float]
    train_seconds: Optional[float]
    updates: Optional[int]
    epochs: Optional[int]
    peak_memory_mb: Optional[float]
    device: Optional[str]
    summaries: Dict[str, Dict[str, List[float]]]
    history: List[Dict[str, Any]]

    def to_json(self) -> Dict[str, Any]:
        """Return the row for `results.json`: plain containers, no noise digits."""
        data = asdict(self)
        del data["summaries"], data["history"]  # files of their own hold them
        for key in ("wer_diff", "cer_diff"):
            for test_set, interval in (getattr(self, key) or {}).items():
                data[key][test_set]["significant"] = interval.significant
        for by_set in data["errors"].values():
            for test_set, c in by_set.items():
                words = c["correct"] + c["substitutions"] + c["deletions"]
                by_set[test_set] = {"ref_words": words, **c}
        return _rounded(data)


def collect(
    models: Sequence[Model], inference_tag: str, test_sets: Sequence[str], draws: int, seed: int
) -> List[Row]:
    """Read everything about `models`; the first is the one all are compared with.

    Raises:
        UserError: a checkpoint or a score is missing, or two models were scored on
            different references.
    """
    # Scores first: reading them is cheap, and they are what is missing most often.
    scores = {
        (m.name, t): {
            s: read_counts(_score_dir(m, inference_tag, s, t) / "counts.tsv") for s in test_sets
        }
        for m in models
        for t in TYPES
    }
    summaries = {
        (m.name, t): {s: _summary(_score_dir(m, inference_tag, s, t)) for s in test_sets}
        for m in models
        for t in TYPES
    }
    rows: List[Row] = []
    for m in models:
        size = measure(m.checkpoint)
        first = rows[0].params if rows else size.params
        facts = _read_json(m.dir / "facts.json", dict)
        errors = {
            t: {s: Counts.total(c.values()) for s, c in scores[m.name, t].items()} for t in TYPES
        }
        diffs = {t: None for t in TYPES}
        if rows:
            for t in TYPES:
                diffs[t] = _compare(m, models[0], scores, t, draws, seed)
        rows.append(
            Row(
                name=m.name,
                stage=m.stage,
                dir=str(m.dir),
                checkpoint=m.checkpoint.name,
                params=size.params,
                params_total=size.params_total,
                compression=1 - size.params / first,
                size_mb=size.size_mb,
                wer={s: c.error_rate for s, c in errors["wer"].items()},
                cer={s: c.error_rate for s, c in errors["cer"].items()},
                wer_diff=diffs["wer"],
                cer_diff=diffs["cer"],
                errors=errors,
                train_seconds=facts.get("train_seconds"),
                updates=facts.get("updates"),
                epochs=facts.get("epochs"),
                peak_memory_mb=facts.get("peak_memory_mb"),
                device=facts.get("device"),
                summaries={t: summaries[m.name, t] for t in TYPES},
                history=_read_json(m.dir / "history.json", list),
                **_decoding(m.dir / inference_tag, test_sets),
            )
        )
    return rows


def _score_dir(model: Model, inference_tag: str, test_set: str, score_type: str) -> Path:
    return model.dir / inference_tag / test_set / f"score_{score_type}"


def _summary(score_dir: Path) -> List[float]:
    """Read the Sum/Avg line, as ESPnet's show_asr_result.sh does."""
    path = score_dir / "result.txt"
    row = sum_row(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    if row is None:
        raise UserError(f"{path}: no line 'Sum/Avg'; score this model again")
    return row


def _compare(
    model: Model, teacher: Model, scores: Dict[Any, Scores], score_type: str, draws: int, seed: int
) -> Dict[str, Interval]:
    """Return, per test set, `model` minus `teacher`."""
    result = {}
    for test_set, own in scores[model.name, score_type].items():
        base = scores[teacher.name, score_type][test_set]
        words = [c.ref_words for c in own.values()]
        if list(own) != list(base) or words != [c.ref_words for c in base.values()]:
            raise UserError(
                f"{test_set}: {model.name} and {teacher.name} were scored on different "
                "references; score both again"
            )
        result[test_set] = paired_interval(
            [c.errors for c in own.values()], [c.errors for c in base.values()], words, draws, seed
        )
    return result


def _decoding(decode_dir: Path, test_sets: Sequence[str]) -> Dict[str, Optional[float]]:
    """Add up what the decoding jobs of all test sets recorded.

    The real-time factor is decoding time over speech time, both summed over jobs: what one
    process needs, however many ran beside it.
    """
    audio = seconds = 0.0
    memory: List[float] = []
    for test_set in test_sets:
        for path in sorted((decode_dir / test_set).glob("logdir/output.*/rtf.json")):
            job = _read_json(path, dict)
            try:
                audio += job["audio_seconds"]
                seconds += job["decode_seconds"]
            except KeyError as e:
                raise UserError(f"{path}: no {e} in it; decode {test_set} again") from None
            memory.append(job.get("peak_memory_mb") or 0)
    return {
        "rtf": seconds / audio if audio else None,
        "decode_memory_mb": max(memory, default=0) or None,
    }


def _read_json(path: Path, kind: type) -> Any:
    """Read an optional file: an empty `kind` if it is not there."""
    if not path.is_file():
        return kind()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise UserError(f"{path}: not JSON ({e}); remove it or make it again") from None
    if not isinstance(data, kind):
        raise UserError(f"{path}: a JSON {kind.__name__} was expected; make it again")
    return data


def _rounded(data: Any) -> Any:
    """Round every float to 4 digits."""
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_rounded(value) for value in data]
    return round(data, 4) if isinstance(data, float) else data
