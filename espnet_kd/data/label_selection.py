"""Labels of several teachers for one set: their median or vote, and which of them to trust."""

import math
from itertools import combinations
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from espnet_kd.errors import UserError
from espnet_kd.scoring.align import align
from espnet_kd.scoring.counts import Counts
from espnet_kd.spec.values import part_of

MOST_EMPTY = 0.3  # share of a set beyond which a teacher labels nothing


class Label(NamedTuple):
    """What teachers make of an utterance.

    Attributes:
        text: The hypothesis that is taken.
        teacher: Number of its teacher, from 0; of a vote that of the median.
        agreement: 1 less the mean character error rate of all pairs of hypotheses; 1 of one.
    """

    text: str
    teacher: int
    agreement: float


def median_labels(hyps: Sequence[Mapping[str, str]], names: Sequence[str]) -> Dict[str, Label]:
    """Choose for each utterance the hypothesis that is nearest to all others.

    Distances are in characters. Among equally near ones that of the first teacher is taken: the
    order of the teachers decides nothing else.

    Args:
        hyps: Hypotheses of each teacher.
        names: Names of the teachers, for messages.

    Raises:
        UserError: a teacher has not decoded all utterances, or labels hardly any.
    """
    utts = list(hyps[0])
    for name, table in zip(names, hyps):
        lacking = sorted(set(utts) ^ set(table))
        if lacking:
            raise UserError(f"{name}: '{lacking[0]}' is in one of the decoded sets only")
        empty = sum(not table[utt].strip() for utt in utts)
        if len(hyps) > 1 and empty > part_of(MOST_EMPTY, len(utts)):
            raise UserError(
                f"{name}: is blank on {empty} of {len(utts)} utterances; leave that teacher out "
                "of 'label_teachers'"
            )
    texts = [[" ".join(table[utt].split()) for table in hyps] for utt in utts]
    pairs = list(combinations(range(len(hyps)), 2))
    # sclite's alignment is not symmetric: the order of the teachers must not decide.
    both = [sorted((row[i], row[j])) for row in texts for i, j in pairs]
    ops = align([list(a) for a, _ in both], [list(b) for _, b in both]) if both else []
    labels = {}
    for n, (utt, row) in enumerate(zip(utts, texts)):
        distance, rate = [0] * len(row), 0.0
        for (i, j), op in zip(pairs, ops[n * len(pairs) :]):
            errors = Counts.of(op).errors
            distance[i], distance[j] = distance[i] + errors, distance[j] + errors
            rate += errors / max(len(row[i]), len(row[j]), 1) / len(pairs)
        best = distance.index(min(distance))
        labels[utt] = Label(row[best], best, 1.0 - rate)
    return labels


def voted_labels(
    hyps: Sequence[Mapping[str, str]], labels: Mapping[str, Label]
) -> Dict[str, Label]:
    """Let the teachers vote on each word, from the median hypothesis on.

    Every hypothesis is aligned with the median. In the place of each of its words most votes
    decide, of which none may be for a word; so they do on each word that others have between two
    of its words. Votes that are equally many go to the first teacher that gave one of them.

    Args:
        hyps: Hypotheses of each teacher, the best teacher first.
        labels: What `median_labels` has made of them.

    Source: J. G. Fiscus, "A post-processing system to yield reduced word error rates: recognizer
    output voting error reduction (ROVER)", ASRU 1997, whose network grows with each hypothesis;
    that all are aligned with the median is ours.
    """
    words = [table[utt].split() for utt in labels for table in hyps]
    ops = align([label.text.split() for label in labels.values() for _ in hyps], words)
    voted = {}
    for n, (utt, label) in enumerate(labels.items()):
        of_utt = slice(n * len(hyps), (n + 1) * len(hyps))
        ballots = [ballot(hyp, op) for hyp, op in zip(words[of_utt], ops[of_utt])]
        places = sorted({place for votes in ballots for place in votes})
        elected = [_elected([votes.get(place, "") for votes in ballots]) for place in places]
        voted[utt] = label._replace(text=" ".join(word for word in elected if word))
    return voted


def ballot(hyp: Sequence[str], ops: str) -> Dict[Tuple[int, int], str]:
    """Return the words of a hypothesis by their places in the median hypothesis.

    Args:
        hyp: Words.
        ops: The operations that make it of the median.

    Returns:
        Place -> word. (n, 0) is that of the median's word n, from 1; (n, k) that of the k-th word
        between it and the next one. The places of words that it lacks are not there.
    """
    votes: Dict[Tuple[int, int], str] = {}
    words, n, k = iter(hyp), 0, 0
    for op in ops:
        n, k = (n, k + 1) if op == "I" else (n + 1, 0)
        if op != "D":
            votes[n, k] = next(words)
    return votes


def _elected(votes: Sequence[str]) -> str:
    """Return what has most votes, of several the one that was given first."""
    return max(votes, key=votes.count)  # the first of equals


def confidences(
    labels: Mapping[str, Label],
    scores: Sequence[Mapping[str, str]],
    lengths: Mapping[str, int],
    names: Sequence[str],
) -> Dict[str, float]:
    """Return the geometric mean of the probabilities of an utterance's labels.

    The score of a search holds the blanks, too: it is the logarithm of the probability of all
    that was emitted, here shared by the labels alone.

    Args:
        labels: Labels that are taken.
        scores: Scores of each teacher's hypotheses, as decoding wrote them.
        lengths: Labels of each utterance, more than 0.
        names: Names of the teachers, for messages.

    Raises:
        UserError: a score is missing or no number.
    """
    confident = {}
    for utt, length in lengths.items():
        teacher = labels[utt].teacher
        text = scores[teacher].get(utt, "nothing")
        try:
            score = float(text.removeprefix("tensor(").removesuffix(")"))
        except ValueError:
            raise UserError(f"{names[teacher]}: the score of '{utt}' is {text}") from None
        confident[utt] = math.exp(min(score / length, 0.0))
    return confident


def best_share(scores: Mapping[str, float], keep: float) -> List[str]:
    """Return the utterances with the best scores, equal ones by name, in the order of `scores`."""
    ranked = sorted(scores, key=lambda utt: (-scores[utt], utt))
    chosen = set(ranked[: math.ceil(part_of(keep, len(ranked)))])
    return [utt for utt in scores if utt in chosen]


def source_count(kept: int, share: float) -> int:
    """Return how many labelled utterances are a share of all beside those that are kept."""
    return round(kept * share / (1.0 - share))


def first_difference(mine: Sequence[str], other: Sequence[str]) -> Optional[str]:
    """Say where two token lists differ; None: nowhere."""
    for number, (a, b) in enumerate(zip(mine, other)):
        if a != b:
            return f"token {number} is '{b}', not '{a}'"
    if len(mine) != len(other):
        return f"{len(other)} tokens, not {len(mine)}"
    return None
