"""What the report found of each model: `exp/results.json`."""

import json
from pathlib import Path
from typing import Any, Dict

from espnet_kd.errors import UserError, nearest


def read_results(path: Path) -> Dict[str, Any]:
    """Read `results.json`.

    Raises:
        UserError: there is none, or it is not what the report writes.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; the report makes it (stage 17)")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise UserError(f"{path}: not JSON ({e}); run stage 17 again") from None
    for field in ("models", "inference_tag", "test_sets", "environment"):
        if not isinstance(results, dict) or not results.get(field):
            raise UserError(f"{path}: no field '{field}'; run stage 17 again")
    return results


def find_model(results: Dict[str, Any], name: str, where: Path) -> Dict[str, Any]:
    """Return the entry of the model that the report calls `name`.

    Raises:
        UserError: there is no such model, naming the nearest.
    """
    models = {model["name"]: model for model in results["models"]}
    if name not in models:
        raise UserError(
            f"{where}: no model '{name}'{nearest(name, models)}; it has {', '.join(models)}"
        )
    return models[name]
