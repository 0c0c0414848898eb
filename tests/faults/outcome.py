"""What a finished run has come to: everything that must not depend on its fate."""

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Dict, List

import numpy as np

# What a clock, a memory meter or the machine says.
MEASURED = re.compile(
    r"second|rtf|load|memory|time|date|started|finished|environment|git|command|elapsed|versions"
)
# Of a decoding and its scores.
SCORED = ("text", "score_wer/counts.tsv", "score_cer/counts.tsv", "score_wer/result.txt")


def outcome(recipe: Path) -> Dict[str, str]:
    """A checksum for each result below `recipe`, by name; files that cannot be read too."""
    results: Dict[str, str] = {}
    exp = recipe / "exp"
    models = sorted(path.parent for path in exp.glob("*/config.yaml"))
    for model in models:
        name = model.name
        for path in sorted(model.glob("valid.*.ave.pth")):
            results[f"{name}/{path.name}"] = checkpoint_id(path)
        for text in sorted(model.glob("decode*/**/text")):
            if "logdir" in text.parts:
                continue
            for file in SCORED:
                path = text.parent / file
                if path.is_file():
                    results[str(path.relative_to(exp))] = _id(path.read_bytes())
        for path in sorted(model.glob("packed/*.zip")):
            results[f"{name}/packed"] = archive_id(path)
    results["results.json"] = report_id(exp / "results.json")
    results["RESULTS.md"] = table_id(exp / "RESULTS.md")
    return results


def differences(reference: Dict[str, str], other: Dict[str, str]) -> List[str]:
    """Names of the results that differ, or that one of them lacks."""
    names = sorted({*reference, *other})
    return [name for name in names if reference.get(name) != other.get(name)]


def _id(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def checkpoint_id(path: Path) -> str:
    """Bitwise the same tensors give the same; the name of the file inside does not count."""
    return _members(path.read_bytes(), lambda name: name.partition("/")[2])


def _members(data: bytes, renamed) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = {renamed(name): _id(archive.read(name)) for name in archive.namelist()}
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError) as e:
        return f"damaged ({type(e).__name__}) {_id(data)}"
    return _id(json.dumps(parts, sort_keys=True).encode())


def archive_id(path: Path) -> str:
    """Model, configuration and tokens of a packed model; not its card, which tells times."""
    parts = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                data = archive.read(name)
                if name.endswith(".pth"):
                    parts[name] = _members(data, lambda part: part.partition("/")[2])
                elif name.endswith(".npz"):
                    parts[name] = _arrays(data)
                elif name.endswith((".model", ".txt")):
                    parts[name] = _id(data)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as e:
        return f"damaged ({type(e).__name__})"
    return _id(json.dumps(parts, sort_keys=True).encode())


def _arrays(data: bytes) -> str:
    with np.load(io.BytesIO(data)) as arrays:
        return _id(b"".join(arrays[name].tobytes() for name in sorted(arrays)))


def report_id(path: Path) -> str:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        return f"damaged ({type(e).__name__})"
    return _id(json.dumps(_unmeasured(content), sort_keys=True).encode())


def _unmeasured(content):
    if isinstance(content, dict):
        return {k: _unmeasured(v) for k, v in content.items() if not MEASURED.search(k)}
    if isinstance(content, list):
        return [_unmeasured(item) for item in content]
    return content


def table_id(path: Path) -> str:
    """The first table of a report, without the columns that are measured."""
    if not path.is_file():
        return "none"
    rows = []
    for line in path.read_text().splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            break
    if not rows:
        return "none"
    wanted = [
        i
        for i, title in enumerate(rows[0])
        if title in ("Stage", "Model", "Parameters", "Smaller by") or re.match("WER|CER", title)
    ]
    cells = [[row[i] for i in wanted if i < len(row)] for row in rows]
    return _id(json.dumps(cells).encode())
