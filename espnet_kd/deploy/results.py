"""The models that a report knows."""

from pathlib import Path

from espnet_kd.common.records import ReportedModel, Results
from espnet_kd.errors import check_name


def find_model(results: Results, name: str, where: Path) -> ReportedModel:
    """Return the entry of the model that the report calls `name`.

    Raises:
        UserError: there is no such model, naming the nearest.
    """
    models = {model["name"]: model for model in results["models"]}
    check_name(f"{where}: no model", name, models)
    return models[name]
