"""May finished work be used again? The only answer to that question.

A step of the recipe makes files in a folder. What it is made from (options, contents of all
inputs) is written to `.started.<step>` there before it begins, and with the digests of what
it left to `.done.<step>` when it ends. Asked again, the two records are compared both ways:

- nothing differs: the work is used again;
- an option differs: refused, for nothing is overwritten by accident;
- only an input differs, or an output is gone or damaged: cheap work is done again, a training
  is refused;
- only options differ that do not change what is learnt: said, and used again;
- a training shall be longer: it goes on. What hangs on it follows, as its content changes.

No decision looks at the time of a file.
"""

import contextlib
import os
from typing import Iterable, List, NamedTuple, Optional

from espnet_kd.errors import UserError
from espnet_kd.run.content import content_of, file_content
from espnet_kd.run.differences import input_differences, option_differences, source_differences
from espnet_kd.run.step_inputs import check_inputs
from espnet_kd.run.step_outputs import (
    clear,
    damaged_file,
    digests_of,
    files_of,
    holds_training,
    missing_file,
    trained_epochs,
)
from espnet_kd.run.step_record import DONE, STARTED, Record, read_record
from espnet_kd.run.training_options import ESPNET_EPOCHS, TrainingOptions

# What becomes of a step that has to be done again:
#   again   it is, over what is there
#   note    the same, whatever differs, and nothing is said of it
#   derive  again; if only neutral options or the epochs differ, they are brought up to date
#   fresh   what is there is removed first
#   resume  an interrupted one goes on; a finished one is removed first
#   train   an interrupted or too short one goes on; a finished one is not made again unasked
KINDS = ("again", "note", "derive", "fresh", "resume", "train")
# What names another folder for a step, where that is an option.
ELSEWHERE = {"decode": "keep both under another --inference_tag"}
NEEDED, FINISHED, REFRESH = "needed", "finished", "refresh"


class Decision(NamedTuple):
    """A decision on a step, and the lines that tell it.

    Attributes:
        verdict: `needed`, `finished` or `refresh` (neutral options are to be brought up to
            date in what the step has written).
        lines: Lines for the log.
    """

    verdict: str
    lines: List[str]


def make_record(folder: str, step: str, words: Iterable[str], **where: str) -> Record:
    """Describe a step as it is asked for now.

    Args:
        folder: Folder of the step.
        step: Name of the step.
        words: Words that say what it is made from, what it leaves, and its kind:
            `NAME=VALUE`: an option. `neutral:NAME=VALUE`: one that may change.
            `source:NAME=VALUE`: one that need not be named again.
            `config:PATH`, `args:OPTIONS`: those of a training, merged in this order;
            `keep:PREFIX`: the part of them that counts.
            `file:PATH`: an input. `given:PATH`: one that users have from elsewhere;
            `table:PATH`: one that they may edit. `data:PATH`: a data directory;
            `tables:PATH`: with all its tables. `text:NAME=VALUE`: an input that is no file.
            `out:PATTERN`: files in the folder that it leaves; `made:PATH`: one elsewhere;
            `has:PATTERN`: those whose content does not count; `also:PATTERN`: those that may
            be removed.
            `kind:KIND`: see `KINDS`.
        **where: `stage` and `scope`.

    Raises:
        UserError: a config that cannot be read.
    """
    record = Record(folder, step, **where)
    training = TrainingOptions()
    merged = False
    for word in words:
        key, colon, rest = word.partition(":")
        if not colon or "=" in key:
            name, _, value = word.partition("=")
            record.options[name] = value
        elif key in ("file", "given", "table", "data", "tables"):
            record.inputs[os.path.relpath(rest, folder)] = [key, content_of(key, rest)]
        elif key == "text":
            name, _, value = rest.partition("=")
            record.inputs[name] = [key, value]
        elif key == "config":
            training.add_config(rest)
            merged = True
        elif key == "args":
            training.add_words(rest)
            merged = True
        elif key == "keep":
            training.keep(rest)
        elif key in record.patterns:
            record.patterns[key].append(rest)
        elif key == "made":
            record.patterns["out"].append(os.path.relpath(rest, folder))
        elif key in ("neutral", "source"):
            name, _, value = rest.partition("=")
            (record.neutral if key == "neutral" else record.sources)[name] = value
        elif key == "kind" and rest in KINDS:
            record.kind = rest
        else:
            raise ValueError(f"unknown word '{word}'")
    record.options.update(training.options)
    record.neutral.update(training.neutral)
    record.epochs = training.epochs
    if merged and record.kind == "train":
        record.epochs = training.epochs or str(ESPNET_EPOCHS)
    return record


def decide(new: Record, force: bool = False) -> Decision:
    """Decide whether a step has to be done, and note its beginning if so.

    Raises:
        UserError: it was done, or begun, otherwise; or an input is not what was made.
    """
    done = read_record(new.folder, new.step)
    started = read_record(new.folder, new.step, STARTED)
    if force and new.kind != "note":
        return _begin(new, [], afresh=new.kind in ("fresh", "resume"))
    if done is None:
        return _not_finished(new, started)
    if done.problem:
        if holds_training(new):
            raise UserError(
                f"{new.folder} cannot be used: {done.problem} ({DONE}{done.step}); "
                f"{_redo(new)} trains it again; so does another directory, which --teacher_exp "
                "spares a trained teacher"
            )
        if new.patterns["has"]:  # users may have edited what is there
            raise UserError(
                f"{new.folder} cannot be used: {done.problem} ({DONE}{done.step}); {_redo(new)} "
                "makes it again, of the corpus that is named then"
            )
        return _again(new, f"{new.folder} is made again, {done.problem}")
    missing = missing_file(new, done)
    if new.kind == "train" and missing:
        raise UserError(_no_checkpoint(new, missing))
    different = option_differences(done.options, new.options)
    different += source_differences(done.sources, new.sources)
    if different and new.kind != "note":
        raise UserError(
            f"stage {new.stage} was done in {new.folder} with other options ({different[0]}); "
            f"{_redo(new)} redoes it, or {ELSEWHERE.get(new.step, 'choose another directory')}"
        )
    if missing:
        unnamed = [n for n in done.sources if n not in new.sources]
        if unnamed:
            source = f"{unnamed[0]}={done.sources[unnamed[0]]}"
            raise UserError(
                f"{os.path.dirname(missing)} is missing, and {new.folder}/ was made of {source}: "
                "name it again"
            )
        return _again(new)
    different = input_differences(done, new)
    if different:
        check_inputs(new)
        if holds_training(new):
            raise UserError(
                f"{new.folder} was trained before its input was made anew ({different[0]}); "
                f"{_redo(new)} trains it again, or choose another directory"
            )
        return _again(new, f"{new.folder} is made again, its input has changed ({different[0]})")
    damaged = damaged_file(new, done)
    if damaged:
        if new.kind == "train":
            raise UserError(
                f"{damaged} is not the file that the training left (changed, damaged or cut "
                f"short): put it back, or {_redo(new)} trains it again"
            )
        return _again(new, f"{new.folder} is made again, {damaged} is not what was made then")
    return _finished(new, done)


def _finished(new: Record, done: Record) -> Decision:
    """Decide on finished work from which nothing differs, unless it is to be longer."""
    neutral = option_differences(done.neutral, new.neutral)
    if new.kind == "train" and _as_number(new.epochs) != _as_number(done.epochs):
        if _as_number(new.epochs) < _as_number(done.epochs):
            raise UserError(
                f"{new.folder} was trained with max_epoch {done.epochs}, now {new.epochs}: a "
                f"training does not become shorter; {_redo(new)} trains it again, or choose "
                "another directory"
            )
        if not os.path.exists(os.path.join(new.folder, "checkpoint.pth")):
            raise UserError(
                f"{new.folder} was trained with max_epoch {done.epochs}, now {new.epochs}, and "
                f"cannot go on: it has no checkpoint.pth; {_redo(new)} trains it again"
            )
        return _begin(
            new,
            [f"{new.folder} goes on to epoch {new.epochs} (trained to {done.epochs})"]
            + _neutral_lines(new, neutral),
        )
    if new.kind == "derive" and (neutral or new.epochs != done.epochs):
        new.write(STARTED)
        return Decision(REFRESH, _neutral_lines(new, neutral))
    if new.kind == "note":
        return Decision(FINISHED, [])
    return Decision(
        FINISHED, _neutral_lines(new, neutral) + [f"already done, skipped ({new.folder})"]
    )


def _not_finished(new: Record, started: Optional[Record]) -> Decision:
    if started is None or new.kind not in ("resume", "train"):
        return _begin(new, [], afresh=new.kind == "fresh")
    if started.problem:
        raise UserError(
            f"{new.folder} holds an interrupted run that cannot go on: {started.problem} "
            f"({STARTED}{started.step}); {_redo(new)} starts it afresh, or choose another "
            "directory"
        )
    different = option_differences(started.options, new.options)
    different += input_differences(started, new)
    if different:
        raise UserError(
            f"{new.folder} holds an interrupted run with other options or input "
            f"({different[0]}); {_redo(new)} starts it afresh, or choose another directory"
        )
    trained, damage = trained_epochs(new.folder)
    if new.kind == "train" and _as_number(new.epochs) < trained:
        raise UserError(
            f"{new.folder} has been trained for {trained} epochs, more than max_epoch "
            f"{new.epochs}; {_redo(new)} starts it afresh, or choose another directory"
        )
    lines = _neutral_lines(new, option_differences(started.neutral, new.neutral))
    return _begin(new, [*damage, *lines, f"going on with the interrupted run in {new.folder}"])


def _neutral_lines(new: Record, different: List[str]) -> List[str]:
    if not different:
        return []
    return [f"{new.folder}: {'; '.join(different)}: does not change what is learnt"]


def _again(new: Record, line: str = "") -> Decision:
    lines = [line] if line and new.kind != "note" else []
    return _begin(new, lines, afresh=new.kind in ("fresh", "resume"))


def _begin(new: Record, lines: List[str], afresh: bool = False) -> Decision:
    """Note the beginning: from now on there is no finished work."""
    check_inputs(new)
    if afresh:
        clear(new.folder)
    new.write(STARTED)
    new.remove(DONE)
    return Decision(NEEDED, lines)


def finish(folder: str, step: str, words: Iterable[str] = (), **where: str) -> None:
    """Note the end of a step that `decide` called needed.

    Args:
        folder: Folder of the step.
        step: Name of the step.
        words: See `make_record`; for a step of which `decide` was not asked.
        **where: See `make_record`.

    Raises:
        UserError: it has not left a file that it should have.
    """
    words = list(words)
    if words:
        record: Optional[Record] = make_record(folder, step, words, **where)
    else:
        record = read_record(folder, step, STARTED)
    if record is None or record.problem:
        raise UserError(f"{folder}/{STARTED}{step}: no record of the beginning of this step")
    for kind in ("out", "has"):
        for pattern in record.patterns[kind]:
            if not files_of(folder, pattern):
                raise UserError(f"{record.path_of(pattern)}: not made (step {step})")
    record.outputs = dict(digests_of(folder, record.patterns["out"]))
    record.others = dict(digests_of(folder, record.patterns["also"]))
    record.write(DONE)
    record.remove(STARTED)


def problem_of(folder: str, step: str) -> Optional[str]:
    """Say why finished work is not what its record says, or not of its inputs as they are.

    Inputs that are gone are not looked at: they may have been removed to save space.

    Returns:
        A phrase, or None if all is as it was.
    """
    record = read_record(folder, step)
    if record is None:
        return f"{folder} has no finished step '{step}'"
    if record.problem:
        return f"{folder} cannot be relied on: {record.problem} ({DONE}{step})"
    for name, (kind, content) in record.inputs.items():
        path = record.path_of(name)
        if kind == "text" or content is None or not os.path.exists(path):
            continue
        now = content
        with contextlib.suppress(UserError):  # a part of it is gone
            now = content_of(kind, path)
        if now != content:
            return f"{folder} was made ({step}) before its input changed ({path})"
    for name, digest in record.outputs.items():
        if file_content(record.path_of(name)) != digest:
            return f"{record.path_of(name)} is not what was made then ({step})"
    return None


def _as_number(epochs: Optional[str]) -> int:
    try:
        return int(epochs or ESPNET_EPOCHS)
    except ValueError:
        return ESPNET_EPOCHS  # the trainer refuses it


def _no_checkpoint(new: Record, missing: str) -> str:
    there = [name for name in files_of(new.folder, "*.pth") if name != "checkpoint.pth"]
    missing = os.path.relpath(missing, new.folder)
    is_checkpoint = missing.endswith(".pth") and "/" not in missing
    name = "--inference_asr_model" if is_checkpoint else ""
    remedy = f"name one of its checkpoints with {name} ({' '.join(there)}), or " if name else ""
    return f"{new.folder} is trained, but has no {missing}; {remedy}{_redo(new)} trains it again"


def _redo(new: Record) -> str:
    return f"{new.scope} --force true"
