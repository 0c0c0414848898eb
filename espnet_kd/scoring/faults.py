"""Scores of models that do not recognise speech: they measure nothing."""

from typing import Optional

from espnet_kd.scoring.counts import Counts

HARDLY = 0.05  # words in the hypotheses, as a share of those in the references


def fault(total: Counts) -> Optional[str]:
    """Say what is wrong with a model that does not recognise speech; None if it does."""
    words = total.correct + total.substitutions + total.insertions
    if not words:
        return "outputs nothing"
    if words < HARDLY * total.ref_words:
        return f"outputs hardly anything, {words:,} of {total.ref_words:,} words"
    if total.error_rate >= 100:
        return f"makes at least as many errors as there are words, WER {total.error_rate:.1f} %"
    return None
