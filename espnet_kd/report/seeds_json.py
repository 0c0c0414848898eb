"""The report over several seeds as data: what `SEEDS.md` says, beside it."""

from dataclasses import asdict
from typing import Any, Dict, List, Sequence

from espnet_kd.common.json_file import rounded
from espnet_kd.report.costs import Cost
from espnet_kd.report.seeds import PooledDifference, Runs
from espnet_kd.report.size_family import FamilyResult, Margin, family_to_json


def seeds_json(
    runs: Runs, differences: Sequence[PooledDifference], draws: int, seed: int
) -> Dict[str, Any]:
    """Return plain containers, named as in `results.json`.

    Args:
        runs: Runs that are pooled.
        differences: Pooled differences of the runs.
        draws: Draws of the bootstrap.
        seed: Seed of the bootstrap.
    """
    margin = runs.margin or Margin()
    models = [
        {
            "name": m.name,
            "path": m.path,
            "params": list(m.range),
            "wer": {s: runs.wer(m.name, s).tolist() for s in runs.test_sets},
            "cost": asdict(m.cost),
            "path_cost": asdict(m.path_cost),
        }
        for m in runs.models
    ]
    return rounded(
        {
            "runs": runs.names,
            "left_out": runs.left_out,
            "test_sets": runs.test_sets,
            "method": {
                "drawn": {s: g.to_json() for s, g in runs.groupings.items()},
                "level": 0.95,
                "draws": draws,
                "seed": seed,
                "margin": margin.points,
                "margin_set_by": margin.where,
            },
            "models": models,
            "differences": [
                {**asdict(d), "sound": runs.is_sound(d.test_set, d.model, d.against)}
                for d in differences
            ],
            "families": _families(runs, margin),
        }
    )


def _families(runs: Runs, margin: Margin) -> List[Dict[str, Any]]:
    results: Dict[str, List[FamilyResult]] = {}
    for result in runs.families():
        results.setdefault(result.family.against, []).append(result)
    unknown = Cost(), Cost()
    return [
        family_to_json(of_one[0].family, of_one, runs.family_costs.get(against, unknown), margin)
        for against, of_one in results.items()
    ]
