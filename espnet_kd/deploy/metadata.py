"""The head of a model card: YAML that the Hugging Face hub reads.

Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from typing import Any, Dict, List, Optional, Sequence

import yaml

from espnet_kd.common.records import ReportedModel, Results

TASK = "automatic-speech-recognition"


def metadata(
    results: Results,
    model: ReportedModel,
    name: str,
    tags: Sequence[str],
    language: Optional[str],
    license: Optional[str],
    datasets: Sequence[str],
    base_model: Optional[str],
) -> List[str]:
    """Return the lines between the two `---`.

    Args:
        results: The report.
        model: Entry of this model in it.
        name: Name of the model.
        tags: Tags beside those that all our models have.
        language: Language as ISO 639-1 code.
        license: Identifier as the hub has it.
        datasets: Names on the hub of what it was trained on.
        base_model: Repository of the model it was made from.
    """
    head: Dict[str, Any] = {"library_name": "espnet", "pipeline_tag": TASK}
    head["license"] = license or "unknown"
    if language:
        head["language"] = language
    if datasets:
        head["datasets"] = list(datasets)
    if base_model:
        head["base_model"] = base_model
    head["tags"] = ["espnet", "audio", TASK, "transducer", *tags]
    head["metrics"] = ["wer", "cer"]
    head["model-index"] = [{"name": name, "results": _results(results, model, datasets)}]
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True).splitlines()


def _results(
    results: Results, model: ReportedModel, datasets: Sequence[str]
) -> List[Dict[str, Any]]:
    """Return an entry for each test set; models that recognise nothing have no result."""
    entries = []
    for s in results["test_sets"]:
        if s in (model.get("faults") or {}):
            continue
        metrics = [
            {"type": kind, "name": f"{kind.upper()} (%)", "value": round(rates[s], 2)}
            for kind, rates in (("wer", model["wer"]), ("cer", model.get("cer", {})))
            if s in rates
        ]
        dataset = {"type": datasets[0] if datasets else s, "name": s}
        task = {"type": TASK, "name": "Speech recognition"}
        entries.append({"task": task, "dataset": dataset, "metrics": metrics})
    return entries
