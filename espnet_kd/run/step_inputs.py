"""Is an input what the step that made it has left, and is that step finished?"""

import fnmatch
import os
from typing import Optional

from espnet_kd.errors import UserError
from espnet_kd.run.step_record import DONE, STARTED, Record, read_record, records_above, steps_in


def check_inputs(new: Record) -> None:
    """Refuse an input that is not what the step that made it has left.

    Raises:
        UserError: it differs from that step's record, or is being made.
    """
    for name, (kind, content) in new.inputs.items():
        path = new.path_of(name)
        if content is None or kind in ("table", "text"):
            continue
        if kind in ("data", "tables"):
            _check_complete(new, path)
            continue
        if kind != "given":
            _check_records(new, os.path.dirname(path), path)
        lists = [r for r in records_above(path) if _digest_in(r, path) is not None]
        if lists and all(_digest_in(record, path) != content for record in lists):
            record = lists[0]
            force = " --force true" if record.kind == "train" else ""
            raise UserError(
                f"stage {new.stage} needs {path}, which is not what stage {record.stage} made "
                f"(changed, damaged or cut short); {record.scope}{force} makes it again"
            )
        if not lists:
            for record in records_above(path, STARTED):
                _check_not_half_made(new, record, path)


def _check_records(new: Record, folder: str, path: str) -> None:
    """Refuse what lies beside a record that cannot be relied on."""
    for step in steps_in(folder):
        record = read_record(folder, step)
        if record is not None and record.problem:
            raise UserError(
                f"stage {new.stage} needs {path}, but {record.problem} "
                f"({os.path.join(folder, DONE + step)}): run the stage that makes it first"
            )


def _check_complete(new: Record, folder: str) -> None:
    """Refuse a data directory that is being made."""
    _check_records(new, folder, folder)
    for step in steps_in(folder, STARTED):
        if step not in steps_in(folder):
            record = read_record(folder, step, STARTED)
            if record is not None and record.problem is None:
                _refuse_half_made(new, record, folder)


def _check_not_half_made(new: Record, record: Record, path: str) -> None:
    if os.path.exists(os.path.join(record.folder, DONE + record.step)):
        return
    if os.path.normpath(record.folder) == os.path.normpath(new.folder):
        return
    name = os.path.relpath(path, record.folder)
    if any(fnmatch.fnmatch(name, p) for p in record.patterns["out"] + record.patterns["also"]):
        _refuse_half_made(new, record, path)


def _refuse_half_made(new: Record, record: Record, path: str) -> None:
    raise UserError(
        f"stage {new.stage} needs {path}, but the stage that makes it ({record.stage}) has not "
        f"finished: {record.scope} goes on with it"
    )


def _digest_in(record: Record, path: str) -> Optional[str]:
    name = os.path.relpath(path, record.folder or ".")
    return record.outputs.get(name, record.others.get(name))
