"""`manifest.json`: what a student was made from, so that it can be made again or doubted."""

from pathlib import Path
from typing import Any, Dict, List

from espnet_kd.common.records import GATE, MANIFEST, STUDENT, Manifest
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError
from espnet_kd.fileio import file_digest
from espnet_kd.methods import method_named
from espnet_kd.methods.protocol import device_file
from espnet_kd.plan.student import Student
from espnet_kd.report.environment import environment
from espnet_kd.run.step_record import read_record
from espnet_kd.scoring.counts import Counts, read_counts
from espnet_kd.spec.not_stock import parts_of_ours

VERSIONS = ("espnet_kd", "espnet", "torch", "torchaudio", "python", "git_commit")


def write_manifest(
    exp: Path, stage: Student, plan: Path, teacher: Path, model: str
) -> Dict[str, Any]:
    """Write `exp/manifest.json`; apart from `date` the same run writes the same.

    Args:
        exp: The student's experiment.
        stage: Options of the student's stage.
        plan: The plan's file.
        teacher: Experiment of the student's teacher.
        model: The checkpoint of both.

    Raises:
        UserError: one of the files is not there, so the student is not finished.
    """
    files = {
        "plan": plan,
        "teacher_config": teacher / "config.yaml",
        "teacher_model": teacher / model,
        "init": exp / "init.pth",
        "config": exp / "config.yaml",
        "model": exp / model,
    }
    if device_file(exp / model).is_file():
        files["device"] = device_file(exp / model)
    siblings = stage.method_conf.siblings
    files |= {kind: exp / kind / model for kind in siblings}
    env = environment("")
    sizes = (STUDENT.read_if_there(exp) or {}).get("sizes", {})
    manifest = {
        "student": stage.name,
        "stage": stage.record(),
        "fingerprint": stage.fingerprint(),
        "teacher": str(teacher),
        "stock": _not_stock(sizes) or method_named(stage.method).stock,
        "files": {name: {"path": str(p), "sha256": digest(p)} for name, p in files.items()},
        "training": _training(exp),
        "gate": GATE.read_if_there(exp),
        "wer": _error_rates(exp),
        "versions": {name: env[name] for name in VERSIONS},
        "date": env["date"],
    }
    not_stock = {kind: _not_stock(_config(exp / kind)) for kind in siblings}
    if any(not_stock.values()):
        manifest["siblings"] = {k: {"stock": why} for k, why in not_stock.items() if why}
    MANIFEST.write(exp, manifest)
    return manifest


def _config(exp: Path) -> Dict[str, Any]:
    return read_yaml(exp / "config.yaml", "training leaves it")


def _not_stock(config: Dict[str, Any]) -> str:
    """Say that ESPnet does not decode a model; empty: it does."""
    ours = "; ".join(part.why for part in parts_of_ours(config))
    return f"none: {ours}" if ours else ""


def differences(manifest: Manifest) -> List[str]:
    """Name the files that are not those of a manifest, one line each."""
    lines = []
    for name, file in manifest["files"].items():
        path = Path(file["path"])
        if not path.is_file():
            lines.append(f"{name}: {path} is not there")
        elif digest(path) != file["sha256"]:
            lines.append(f"{name}: {path} has changed")
    return lines


def digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        UserError: it is not there.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; the manifest is of a finished student")
    return file_digest(path)


def _training(exp: Path) -> Dict[str, Any]:
    """Options and inputs of the training, as the recipe's record has them."""
    record = read_record(str(exp), "train")
    if record is None or record.problem:
        return {}
    inputs = {record.path_of(name): content for name, (_, content) in record.inputs.items()}
    options = {**record.options, **record.neutral}
    return {"options": options, "max_epoch": record.epochs, "inputs": inputs}


def _error_rates(exp: Path) -> Dict[str, float]:
    """WER in percent of every set that is scored, by `<inference tag>/<set>`."""
    rates = {}
    scored = [p for sets in ("*", "org/*") for p in exp.glob(f"*/{sets}/score_wer/counts.tsv")]
    for path in sorted(scored):
        name = str(path.parents[1].relative_to(exp))
        rates[name] = round(Counts.total(read_counts(path).values()).error_rate, 4)
    return rates
