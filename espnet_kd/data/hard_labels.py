"""A training set whose transcripts are what a teacher makes of it (arXiv 2210.05793)."""

from dataclasses import dataclass
from typing import Dict, Mapping

from espnet_kd.data.kaldi_dir import Tables, select
from espnet_kd.data.tokens import UNK, Tokenizer
from espnet_kd.errors import UserError
from espnet_kd.scoring.align import align
from espnet_kd.scoring.counts import Counts
from espnet_kd.scoring.units import as_sclite, tokenize
from espnet_kd.spec.values import part_of

UNKNOWN = (UNK, "\u2047")  # <unk> in decoded text: of characters, of sentencepiece (a double ?)


@dataclass(frozen=True)
class HardLabels:
    """The new data directory and what it is like.

    Attributes:
        tables: Tables of the utterances that are kept; `text` holds the hypotheses.
        lengths: Labels of each.
        left_out: Reason -> utterances.
        counts: The labels against the transcripts, in words.
    """

    tables: Tables
    lengths: Dict[str, int]
    left_out: Dict[str, int]
    counts: Counts

    def refuse_beyond_share(self, max_share: float, where: str) -> None:
        """Stop if more than `max_share` of the utterances are left out.

        Raises:
            UserError: they are.
        """
        count = sum(self.left_out.values())
        total = len(self.lengths) + count
        if count > part_of(max_share, total):
            raise UserError(
                f"{where}: {count} of {total} utterances would be left out, more than "
                f"--max_dropped_share {max_share:g} allows ({self.reasons()}); is the teacher "
                "good enough to label its training set?"
            )

    def reasons(self) -> str:
        """Counts of the utterances that are left out, by reason."""
        return ", ".join(f"{n} {why}" for why, n in self.left_out.items() if n)

    def summary(self) -> str:
        """One line for the user."""
        total = len(self.lengths) + sum(self.left_out.values())
        words = self.counts.ref_words
        distance = "no transcripts"
        if words:
            distance = f"WER {self.counts.error_rate:.2f} % against their transcripts"
        return (
            f"{len(self.lengths)} of {total} utterances, {distance}; "
            f"left out: {self.reasons() or 'none'}"
        )


def hard_labels(
    tables: Tables,
    hyps: Mapping[str, str],
    frames: Mapping[str, int],
    tokens: Tokenizer,
    where: str,
) -> HardLabels:
    """Put hypotheses in the place of transcripts.

    An utterance is left out if it was not decoded, if its hypothesis is empty, if that holds
    `<unk>`, which text cannot say, or if it has more labels than frames: what a decoder that
    has lost its way leaves, and nothing that a CTC head could be trained on.

    Args:
        tables: The training set.
        hyps: Decoded text of each utterance.
        frames: Encoder frames of each utterance.
        tokens: Splits text into labels.
        where: Name of the hypotheses, for messages.

    Raises:
        UserError: hypotheses of another set, or none that can be kept.
    """
    stray = [utt for utt in hyps if utt not in tables["text"]]
    if stray:
        raise UserError(
            f"{where}: {len(stray)} of {len(hyps)} utterances are not in the training set, the "
            f"first is '{stray[0]}'; decode the set that is trained on"
        )
    lengths: Dict[str, int] = {}
    left_out = dict.fromkeys(("not decoded", "empty", f"with {UNK}", "with too many labels"), 0)
    texts: Dict[str, str] = {}
    for utt in tables["text"]:
        text = " ".join(hyps.get(utt, "").split())
        labels = len(tokens(text))
        if utt not in hyps:
            left_out["not decoded"] += 1
        elif not text:
            left_out["empty"] += 1
        elif any(mark in text for mark in UNKNOWN):
            left_out[f"with {UNK}"] += 1
        elif labels > frames[utt]:
            left_out["with too many labels"] += 1
        else:
            texts[utt], lengths[utt] = text, labels
    if not texts:
        reasons = ", ".join(f"{n} {why}" for why, n in left_out.items() if n)
        raise UserError(
            f"{where}: no hypothesis can be trained on ({reasons}); is the teacher trained?"
        )
    kept = select(tables, texts)
    refs, hypotheses = (
        [as_sclite(tokenize(table[utt], "wer")) for utt in texts]
        for table in (kept["text"], texts)
    )
    counts = Counts.total(map(Counts.of, align(refs, hypotheses)))
    return HardLabels({**kept, "text": texts}, lengths, left_out, counts)
