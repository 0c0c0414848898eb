"""The record that a step leaves in its folder: `.started.<step>`, then `.done.<step>`."""

import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, TypedDict

from espnet_kd.common.json_file import check_shape, read_json
from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_open
from espnet_kd.run.content import Content

FORMAT = 1
STARTED, DONE = ".started.", ".done."
UP = 3  # folders above a file in which the record of the step that made it may lie


class _Patterns(TypedDict):
    out: List[str]
    has: List[str]
    also: List[str]


class _Fields(TypedDict):
    """Content of a record's file; see `Record`."""

    step: str
    kind: str
    options: Dict[str, Any]
    neutral: Dict[str, Any]
    sources: Dict[str, str]
    epochs: Optional[str]
    inputs: Dict[str, List[Any]]
    outputs: Dict[str, str]
    others: Dict[str, str]
    patterns: _Patterns
    stage: str
    scope: str


class Record:
    """Inputs, options and outputs of a step.

    Attributes:
        folder: Folder in which the record lies; all paths in it are relative to this folder,
            so that the folder of all experiments may be renamed.
        step: Name of the step.
        problem: Reason why the record cannot be relied on; None: it can. The others are then
            empty.
        kind: Treatment if it has to be made again (`Step`).
        options: Options that determine what is made.
        neutral: Options that do not.
        sources: Origins of data; need not be named again.
        epochs: Length of a training.
        inputs: `[kind, content]` of each input.
        outputs: Digest of each file that the step left and that the next steps need.
        others: Digests of further files; they may be removed.
        patterns: Patterns of names: `out`, `has` and `also`.
        stage: The stage of the recipe, and `scope`: options that run it and nothing else.
    """

    def __init__(self, folder: str, step: str, **fields: Any) -> None:
        self.folder, self.step = folder, step
        self.problem: Optional[str] = None
        self.kind = "again"
        self.options: Dict[str, Any] = {}
        self.neutral: Dict[str, Any] = {}
        self.sources: Dict[str, str] = {}
        self.epochs: Optional[str] = None
        self.inputs: Dict[str, List[Any]] = {}
        self.outputs: Dict[str, str] = {}
        self.others: Dict[str, str] = {}
        self.patterns: Dict[str, List[str]] = {"out": [], "has": [], "also": []}
        self.stage = self.scope = ""
        self.__dict__.update(fields)

    def path_of(self, name: str) -> str:
        """Path of an input or output, as the recipe writes it."""
        return name if name.startswith("--") else os.path.normpath(os.path.join(self.folder, name))

    def content(self, name: str) -> Content:
        """Recorded content of an input."""
        return self.inputs[name][1]

    def write(self, prefix: str) -> None:
        """Write it to the folder, whole or not at all."""
        fields = {k: v for k, v in self.__dict__.items() if k not in ("folder", "problem")}
        with atomic_open(os.path.join(self.folder, prefix + self.step)) as f:
            json.dump({"format": FORMAT, **fields}, f, indent=1, ensure_ascii=False)
            f.write("\n")

    def remove(self, prefix: str) -> None:
        """Remove it, if it is there."""
        path = os.path.join(self.folder, prefix + self.step)
        if os.path.lexists(path):
            os.unlink(path)


def read_record(folder: str, step: str, prefix: str = DONE) -> Optional[Record]:
    """Read a record; None: there is none.

    One that is damaged, or that an earlier version of the recipe left, has a `problem`.
    """
    path = os.path.join(folder, prefix + step)
    try:
        with open(path, "rb") as f:
            begins = f.read(1)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise UserError(
            f"{path}: a directory where the record of a step is expected; remove it"
        ) from None
    if begins != b"{":
        return Record(folder, step, problem="its record was left by an earlier version")
    try:
        fields = read_json(Path(path))
    except UserError:
        fields = {}
    if fields.pop("format", FORMAT) != FORMAT:
        return Record(folder, step, problem="its record was left by another version")
    try:
        check_shape(fields, _Fields, "")
        sound = fields["step"] == step and set(fields) == set(_Fields.__annotations__)
        sound = sound and all(len(content) == 2 for content in fields["inputs"].values())
    except UserError:
        sound = False
    if not sound:
        return Record(folder, step, problem="its record is damaged")
    return Record(folder, **fields)


def steps_in(folder: str, prefix: str = DONE) -> "list[str]":
    """Names of the steps that have left a record in a folder."""
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return []
    steps = [name[len(prefix) :] for name in names if name.startswith(prefix)]
    return [step for step in steps if not step.endswith(".tmp")]


def records_above(path: str, prefix: str = DONE) -> "list[Record]":
    """Records in the folders of a file that may be of the step that made it."""
    records = []
    folder = os.path.dirname(path)
    for _ in range(UP):
        for step in steps_in(folder, prefix):
            record = read_record(folder, step, prefix)
            if record is not None and record.problem is None:
                records.append(record)
        if not folder:
            break
        folder = os.path.dirname(folder)
    return records
