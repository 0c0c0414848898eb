"""The head and the tables of ESPnet's own RESULTS.md, for tools and eyes that know them."""

from datetime import datetime
from typing import List, Mapping

from espnet_kd.report.rows import Row
from espnet_kd.scoring.units import TYPES


def espnet_block(env: Mapping[str, object]) -> List[str]:
    """Print the head of ESPnet's RESULTS.md (scripts/utils/show_asr_result.sh), and more."""
    date = datetime.fromisoformat(str(env["date"])).strftime("%a %b %e %H:%M:%S %Z %Y")
    lines = [
        "# RESULTS",
        "## Environments",
        f"- date: `{date}`",
        f"- python version: `{env['python']}`",
        f"- espnet2 version: `espnet2 {env['espnet']}`",
        f"- pytorch version: `pytorch {env['torch']}`",
    ]
    if env["git_commit"]:
        lines += [f"- Git hash: `{env['git_commit']}`", f"  - Commit date: `{env['git_date']}`"]
    lines += [
        f"- torchaudio version: `{env['torchaudio']}`",
        f"- espnet_kd version: `{env['espnet_kd']}`",
        f"- platform: `{env['platform']}`",
        f"- CPU: `{env['cpu']}`, {env['cpu_count']} cores",
        f"- command: `{env['command']}`",
        "",
    ]
    return lines


def espnet_tables(row: Row, inference_tag: str) -> List[str]:
    """Print a model's tables as show_asr_result.sh does."""
    lines = [f"## {row.dir}"]
    for score_type in TYPES:
        lines += [f"### {score_type.upper()}", ""]
        lines += [
            "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for test_set, (snt, wrd, *rates) in row.summaries[score_type].items():
            cells = [f"{inference_tag}/{test_set}", f"{snt:.0f}", f"{wrd:.0f}"]
            lines.append(f"|{'|'.join(cells + [f'{x:.1f}' for x in rates])}|")
        lines.append("")
    return lines
