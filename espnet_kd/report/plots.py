"""The plots of a run."""

from pathlib import Path
from typing import List, Optional

from espnet_kd.report.figures import drawing
from espnet_kd.report.findings import Content
from espnet_kd.report.plot_conditions import wer_by_condition
from espnet_kd.report.plot_dev_wer import dev_wer_curves, has_dev_wer
from espnet_kd.report.plot_fronts import wer_against_bytes, wer_against_rtf
from espnet_kd.report.plot_losses import loss_curves
from espnet_kd.report.plot_wer import wer_against_params


def draw(content: Content, folder: Path) -> Optional[List[Path]]:
    """Draw what there is data for.

    Returns:
        The files written, or None if matplotlib is not installed.
    """
    rows = content.rows
    conditions = [b for b in content.breakdowns if b.by == "condition" and len(b.labels) > 1]
    with drawing() as possible:
        if not possible:
            return None
        paths = [wer_against_params(content, folder / "wer_vs_params.png")]
        fronts = (
            wer_against_bytes(content, folder / "wer_vs_bytes.png"),
            wer_against_rtf(content, folder / "wer_vs_rtf.png"),
        )
        paths += [path for path in fronts if path is not None]
        if conditions:
            paths.append(wer_by_condition(rows, conditions, folder / "wer_vs_condition.png"))
        if any(row.history for row in rows):
            paths.append(loss_curves(rows, folder / "loss_curves.png"))
        if any(map(has_dev_wer, rows)):
            paths.append(dev_wer_curves(rows, folder / "dev_wer_curves.png"))
    return paths
