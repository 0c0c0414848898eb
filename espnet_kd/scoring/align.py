"""Minimum-cost alignment of token sequences, equal to sclite's."""

from typing import Dict, Iterator, List, Sequence

import numpy as np

GAP = 3  # an insertion or a deletion
SUBSTITUTION = 4
_MAX_CELLS = 4_000_000  # of one batch: 16 MB


def align(refs: Sequence[Sequence[str]], hyps: Sequence[Sequence[str]]) -> List[str]:
    """Align each hypothesis with its reference.

    Args:
        refs: Token sequences, one an utterance.
        hyps: Sequences of the hypotheses, as many.

    Returns:
        A string of operations an utterance, in order: `C`orrect, `S`ubstitution,
        `D`eletion, `I`nsertion.

    Source: sclite (SCTK, `net_dp.c` and `word.c`): costs 4 / 3 / 3; among equal costs the
    diagonal wins, and an insertion wins over a deletion. The rule decides how the errors of
    an utterance split into S, D and I.
    """
    vocabulary: Dict[str, int] = {}

    def index(tokens: Sequence[str]) -> List[int]:
        return [vocabulary.setdefault(token, len(vocabulary)) for token in tokens]

    ref_ids, hyp_ids = [index(r) for r in refs], [index(h) for h in hyps]
    result = [""] * len(ref_ids)
    for batch in _batches(ref_ids, hyp_ids):
        cost = _costs([ref_ids[i] for i in batch], [hyp_ids[i] for i in batch])
        for b, i in enumerate(batch):
            result[i] = _trace_back(cost[b], ref_ids[i], hyp_ids[i])
    return result


def _batches(refs: List[List[int]], hyps: List[List[int]]) -> Iterator[List[int]]:
    """Yield lists of indices of pairs of like size: NumPy then walks many tables at once."""
    batch: List[int] = []
    rows = columns = 0
    for i in sorted(range(len(refs)), key=lambda i: (len(refs[i]), len(hyps[i]))):
        rows, columns = max(rows, len(refs[i]) + 1), max(columns, len(hyps[i]) + 1)
        if batch and (len(batch) + 1) * rows * columns > _MAX_CELLS:
            yield batch
            batch, rows, columns = [], len(refs[i]) + 1, len(hyps[i]) + 1
        batch.append(i)
    if batch:
        yield batch


def _pad(sequences: List[List[int]], value: int) -> np.ndarray:
    """Stack sequences to (B, longest); what follows an end never reaches back before it."""
    out = np.full((len(sequences), max(map(len, sequences))), value, dtype=np.int64)
    for row, sequence in zip(out, sequences):
        row[: len(sequence)] = sequence
    return out


def _costs(refs: List[List[int]], hyps: List[List[int]]) -> np.ndarray:
    """Return (B, R + 1, H + 1): the least cost to align the first r and h tokens."""
    ref, hyp = _pad(refs, -1), _pad(hyps, -2)
    ramp = GAP * np.arange(hyp.shape[1] + 1, dtype=np.int32)
    cost = np.empty((len(refs), ref.shape[1] + 1, hyp.shape[1] + 1), dtype=np.int32)
    cost[:, 0] = ramp
    for r in range(1, cost.shape[1]):
        row = cost[:, r - 1] + GAP
        wrong = hyp != ref[:, r - 1, None]
        np.minimum(row[:, 1:], cost[:, r - 1, :-1] + SUBSTITUTION * wrong, out=row[:, 1:])
        # Insertions walk along the row: min over k <= h of row[k] + GAP * (h - k).
        cost[:, r] = np.minimum.accumulate(row - ramp, axis=1) + ramp
    return cost


def _trace_back(cost: np.ndarray, ref: List[int], hyp: List[int]) -> str:
    """Walk from the end to the start of one table, ties as in `align`."""
    r, h = len(ref), len(hyp)
    ops: List[str] = []
    while r and h:
        same = ref[r - 1] == hyp[h - 1]
        if cost[r, h] == cost[r - 1, h - 1] + (0 if same else SUBSTITUTION):
            ops.append("C" if same else "S")
            r, h = r - 1, h - 1
        elif cost[r - 1, h] < cost[r, h - 1]:
            ops.append("D")
            r -= 1
        else:
            ops.append("I")
            h -= 1
    return "D" * r + "I" * h + "".join(reversed(ops))
