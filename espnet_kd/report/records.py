"""JSON files that the other tools leave behind, read leniently: most are optional."""

import json
from pathlib import Path
from typing import Any

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


def rounded(data: Any) -> Any:
    """Round every float to 4 digits."""
    if isinstance(data, dict):
        return {key: rounded(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [rounded(value) for value in data]
    return round(data, 4) if isinstance(data, float) else data
