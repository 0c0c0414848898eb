"""JSON files that the other tools leave behind, read leniently: most are optional."""

import json
from pathlib import Path
from typing import Any, Dict

from espnet_kd.errors import UserError


def read_json(path: Path, kind: type) -> Any:
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


def experiment(folder: Path, model: Dict[str, Any]) -> Path:
    """Return where an entry of `<folder>/results.json` has its files.

    Reports before `relative_dir` name it from where they ran.
    """
    if "relative_dir" in model:
        return folder / model["relative_dir"]
    return Path(model["dir"])


def rounded(data: Any) -> Any:
    """Round every float to 4 decimals, a small one to 4 digits."""
    if isinstance(data, dict):
        return {key: rounded(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [rounded(value) for value in data]
    if not isinstance(data, float):
        return data
    return round(data, 4) if abs(data) >= 0.1 else float(f"{data:.4g}")
