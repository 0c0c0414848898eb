"""Whose labels a stage is trained on: `label_set`, `label_teachers`, `combine`, `select`.

- name: adapt1
  method: retrain           # or any other: a student may shrink in the same step
  labels: teacher
  label_set: target_train   # a set without transcripts, one of --unlabelled_sets
  label_teachers: [previous, exp/asr_b, exp/asr_c]
  combine: vote             # word by word; median: the hypothesis nearest to the others
  select: {by: agreement, keep: 0.7}
  keep_source: 0.5          # this share of the utterances is of the training set
"""

import dataclasses
from typing import Any, List, Optional, Sequence

from espnet_kd.errors import UserError, check_choice, shown
from espnet_kd.spec.option import Options, option
from espnet_kd.spec.reader import read

MEDIAN, VOTE = "median", "vote"
FEWEST_VOTERS = 3
AGREEMENT, CONFIDENCE, NONE = "agreement", "confidence", "none"
MOST_TEACHERS = 20


@dataclasses.dataclass(frozen=True)
class Select(Options):
    """Which labels are trained on.

    Attributes:
        by: Score of an utterance: how far its teachers agree, or the probability of its labels.
        keep: Share of the utterances with the best scores.
    """

    by: str = option(
        AGREEMENT,
        "how far the teachers agree, or how probable the labels are",
        choices=(AGREEMENT, CONFIDENCE, NONE),
    )
    keep: float = option(0.7, "share of the utterances that is kept", least=0.01, most=1)


def read_select(where: str, entry: Any) -> Optional[Select]:
    """Read `select`.

    Raises:
        UserError: an unknown key (naming the nearest right one), a wrong value, or a share of all
            that are kept.
    """
    if entry is None:
        return None
    select = read(Select, entry, where, "{by: agreement, keep: 0.7}")
    if select.by == NONE and select.written.get("keep", 1) != 1:
        raise UserError(
            f"{where}.keep: 'by: {NONE}' keeps all labels, found {select.keep:g}; leave 'keep' "
            f"out, or choose by '{AGREEMENT}' or '{CONFIDENCE}'"
        )
    return select


def read_set(where: str, name: Any) -> str:
    """Return the name of a set.

    Raises:
        UserError: it is no word.
    """
    if not isinstance(name, str) or not name or name.split() != [name] or "/" in name:
        raise UserError(f"{where}: expected the name of a set of data/, found {shown(name)}")
    return name


def read_teachers(where: str, names: Any) -> Optional[List[str]]:
    """Return the names of teachers; whether there are such models is another question.

    Raises:
        UserError: no list of different words.
    """
    if names is None:
        return None
    words = isinstance(names, list) and all(isinstance(n, str) and n.strip() for n in names)
    if not words or not 1 <= len(names) <= MOST_TEACHERS:
        raise UserError(
            f"{where}: expected a list of teachers (previous, first, an earlier stage, or an "
            f"ESPnet experiment like exp/asr_b), found {shown(names)}"
        )
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where}: '{name}' is named twice")
    return list(names)


def check_labels(stages: Sequence[Any]) -> None:
    """Refuse words on labels that nobody hears.

    Raises:
        UserError: teachers or a selection without labels of teachers, agreement of one teacher, a
            vote of two, or of what has no probability, a teacher that comes later or is named
            twice, or labelled utterances beside all labelled utterances.
    """
    for i, stage in enumerate(stages):
        if stage.labels != "teacher":
            for key, usual in (("label_teachers", None), ("select", None), ("combine", MEDIAN)):
                if getattr(stage, key) != usual:
                    raise UserError(
                        f"{stage.at(key)}: needs 'labels: teacher'; it is 'transcript'"
                    )
        if stage.keep_source and not stage.label_set:
            raise UserError(
                f"{stage.at('keep_source')}: adds utterances of the training set to those of a "
                "'label_set', and there is none"
            )
        teachers = stage.label_teachers or ["previous"]
        for name in teachers:
            if "/" not in name:
                known = ["previous", "first", *(before.name for before in stages[:i])]
                check_choice(stage.at("label_teachers"), name, known)
        above = stage.method_conf.made_of or (stages[i - 1].name if i else "first")
        if "previous" in teachers and above in teachers:
            raise UserError(
                f"{stage.at('label_teachers')}: 'previous' and '{above}' are one model in this "
                "stage, whose labels would count twice; leave one of them out"
            )
        if stage.combine == VOTE and len(teachers) < FEWEST_VOTERS:
            raise UserError(
                f"{stage.at('combine')}: '{VOTE}' needs three teachers or more in "
                "'label_teachers'; of two the better one's labels would be taken throughout"
            )
        if stage.combine == VOTE and stage.select is not None and stage.select.by == CONFIDENCE:
            raise UserError(
                f"{stage.at('select.by')}: '{CONFIDENCE}' is the probability of a hypothesis, and "
                f"what 'combine: {VOTE}' makes of several has none; take '{AGREEMENT}'"
            )
        if stage.select is not None and stage.select.by == AGREEMENT and len(teachers) < 2:
            raise UserError(
                f"{stage.at('select.by')}: '{AGREEMENT}' needs two teachers or more in "
                f"'label_teachers'; of one take '{CONFIDENCE}'"
            )
