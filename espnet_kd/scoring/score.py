"""Score decoded text as stage 13 of ESPnet's asr.sh does."""

import sys
from pathlib import Path
from typing import Dict, List

from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike, atomic_open
from espnet_kd.scoring.align import align
from espnet_kd.scoring.counts import Counts, write_counts
from espnet_kd.scoring.sclite import ScliteError, find_sclite, run_sclite, sum_row
from espnet_kd.scoring.summary import alignment, speaker_of, summary
from espnet_kd.scoring.units import as_sclite, tokenize


def warn(message: str) -> None:
    """Print one line on stderr."""
    print(f"score: warning: {message}", file=sys.stderr)


def pair_up(
    refs: Dict[str, str], hyps: Dict[str, str], ref_name: PathLike, hyp_name: PathLike
) -> Dict[str, str]:
    """Return a hypothesis for each reference, in the order of the references.

    An utterance that was not decoded becomes an empty hypothesis: all of it is deleted. A
    decoder that fails must cost errors, not vanish from the average.

    Raises:
        UserError: no reference words, none decoded, or a hypothesis without a reference.
    """
    if not any(text.split() for text in refs.values()):
        raise UserError(f"{ref_name}: no reference text in it")
    stray = [utt for utt in hyps if utt not in refs]
    if stray:
        raise UserError(
            f"{hyp_name}: {len(stray)} of {len(hyps)} utterances are not in {ref_name}, the "
            f"first is '{stray[0]}'; decode and score the same set"
        )
    if not hyps:
        raise UserError(f"{hyp_name}: no hypotheses in it; decode first")
    missing = len(refs) - len(hyps)
    if missing:
        warn(
            f"{hyp_name}: {missing} of {len(refs)} utterances were not decoded; "
            "all their words count as deleted"
        )
    return {utt: hyps.get(utt, "") for utt in refs}


def score(
    refs: Dict[str, str],
    hyps: Dict[str, str],
    speakers: Dict[str, str],
    out: PathLike,
    score_type: str,
) -> str:
    """Write `ref.trn`, `hyp.trn`, `result.txt` and `counts.tsv` into `out`.

    Args:
        refs: Reference text of each utterance.
        hyps: Decoded text of the same utterances (see `pair_up`).
        speakers: Speaker of each utterance.
        out: Directory, e.g. `exp/<model>/<inference_tag>/<set>/score_wer`.
        score_type: `wer` or `cer`.

    Returns:
        The text of `result.txt`: from sclite if there is one, else from our own scorer.
        `counts.tsv` is always ours; a difference between the two is told.
    """
    out = Path(out)
    ids = {utt: f"{speakers[utt]}-{utt}" for utt in refs}
    ref_tokens = {utt: tokenize(text, score_type) for utt, text in refs.items()}
    hyp_tokens = {utt: tokenize(hyps[utt], score_type) for utt in refs}
    _write_trn(out / "ref.trn", ids, ref_tokens)
    _write_trn(out / "hyp.trn", ids, hyp_tokens)

    ref_keys = [as_sclite(tokens) for tokens in ref_tokens.values()]
    hyp_keys = [as_sclite(tokens) for tokens in hyp_tokens.values()]
    ops = align(ref_keys, hyp_keys)
    counts = {utt: Counts.of(o) for utt, o in zip(refs, ops)}
    write_counts(out / "counts.tsv", counts)

    result = _sclite_result(out, Counts.total(counts.values()))
    if result is None:
        by_speaker: Dict[str, List[Counts]] = {}
        for utt, c in counts.items():
            by_speaker.setdefault(speaker_of(ids[utt]), []).append(c)
        totals = {name: Counts.total(cs) for name, cs in by_speaker.items()}
        pairs = zip(ids.values(), ref_keys, hyp_keys, ops)
        result = (
            "\nScored by espnet_kd: counts as sclite's, which is not used here\n\n"
            + summary(str(out / "hyp.trn"), totals)
            + "".join(alignment(*pair) for pair in pairs)
        )
    with atomic_open(out / "result.txt") as f:
        f.write(result)
    return result


def _write_trn(path: Path, ids: Dict[str, str], tokens: Dict[str, List[str]]) -> None:
    """Write sclite's transcript format: `tokens<TAB>(speaker-utt)`."""
    with atomic_open(path) as f:
        for utt, trn_id in ids.items():
            f.write(f"{' '.join(tokens[utt])}\t({trn_id})\n")


def _sclite_result(out: Path, counts: Counts):
    """Return sclite's report on the trn files in `out`, or None: not there, or it failed."""
    program = find_sclite()
    if program is None:
        return None
    try:
        result = run_sclite(program, out / "ref.trn", out / "hyp.trn")
    except ScliteError as e:
        warn(f"{out}: sclite failed ({e}); scored with our own scorer")
        return None
    theirs = sum_row(result, "Sum")
    ours = [counts.sentences, counts.ref_words, counts.correct]
    ours += [
        counts.substitutions,
        counts.deletions,
        counts.insertions,
        counts.errors,
        counts.wrong_sentences,
    ]
    if theirs != ours:
        warn(
            f"{out}: result.txt and counts.tsv differ (sclite {theirs}, counted here {ours}); "
            "look for {, /, } or a line that begins with ;; or **: sclite reads them as markup"
        )
    return result
