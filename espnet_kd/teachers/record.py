"""One utterance of a teacher cache: a row of 16-bit numbers, which ESPnet pads as it is.

    header (8)           format, T, U, rows R, a hash of the labels (two digits), a checksum of
                         all other numbers (two digits)
    frame 0 (1 + 2R)     first row held, R log-odds of blank, R log-odds of label
    ...
    frame T - 1

Header and first rows are whole numbers, log-odds the bits of float16. A node's two numbers
are log-odds rather than log-probabilities: of blank against all else, and of the next label
against the rest, given that it is not blank. All three log-probabilities follow with a small
relative error, as no difference of two numbers close to 1 is formed: the rest as
1 - p(blank) - p(label) would be lost to rounding where it is below 5e-4. Rows outside
[first row, first row + R) are not held; without a band, R = U + 1.
"""

import functools
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from espnet_kd.errors import UserError

FORMAT = 2  # of this layout
HEADER = 8
CHECKSUM = 6  # where its two digits are
DIGIT = 2**15  # whole numbers are below
LARGEST = 60000.0  # of a log-odds: near the end of float16
PRIME = 1073741789  # the largest below DIGIT ** 2
ARK_HEADER = 24  # what Kaldi puts before the numbers


class Header(NamedTuple):
    """Header of a record."""

    format: int
    frames: int
    labels: int
    rows: int
    label_hash: int
    checksum: int


class DamagedEntry(UserError):
    """A record whose numbers are not those that were written.

    Attributes:
        utt: Name of the utterance.
    """

    def __init__(self, utt: str, message: str) -> None:
        super().__init__(message)
        self.utt = utt


def record_bytes(frames: int, labels: int, band: int = 0) -> int:
    """Bytes of a record on disk, without its key.

    Args:
        frames: T
        labels: U
        band: Rows kept of each frame; 0: all.
    """
    rows = min(band or labels + 1, labels + 1)
    return 2 * (HEADER + frames * (1 + 2 * rows)) + ARK_HEADER


def pack(
    three: torch.Tensor, labels: torch.Tensor, start: Optional[torch.Tensor], rows: int
) -> np.ndarray:
    """Pack one utterance.

    Args:
        three: log p of {blank, next label, rest}, from `node_stats`. (T, U + 1, 3)
        labels: (U,)
        start: First row kept of each frame; None: 0. (T,)
        rows: Rows kept of each frame, R <= U + 1.

    Returns:
        An int16 array. (8 + T * (1 + 2R),)

    Raises:
        ValueError: the teacher's output is not a number, or the utterance is too long.
    """
    T, U1, _ = three.shape
    if max(T, U1) >= DIGIT:
        raise ValueError(f"{T} frames and {U1 - 1} labels are more than a record can hold")
    blank, label, rest = three.double().unbind(-1)  # (T, U + 1) each
    odds = torch.stack([blank - torch.logaddexp(label, rest), label - rest], -1)
    # -inf - -inf where blank has it all: any odds of the label will do.
    odds[..., 1] = odds[..., 1].masked_fill(blank == 0, 0.0)
    if bool(odds.isnan().any()):
        raise ValueError("the teacher's output is not a number")
    if start is None:
        start = torch.zeros(T, dtype=torch.long, device=three.device)
    kept = start[:, None] + torch.arange(rows, device=three.device)  # (T, R)
    odds = odds.gather(1, kept[:, :, None].expand(-1, -1, 2))  # (T, R, 2)
    bits = odds.clamp(-LARGEST, LARGEST).half().view(torch.int16)  # (T, R, 2)
    frames = torch.cat([start[:, None].to(bits), bits[..., 0], bits[..., 1]], 1)  # (T, 1 + 2R)
    label_hash = int(label_hashes(labels[None], [U1 - 1])[0])
    header = [FORMAT, T, U1 - 1, rows, *divmod(label_hash, DIGIT), 0, 0]
    record = torch.cat([torch.tensor(header, dtype=torch.int16), frames.flatten().cpu()])
    checksum = int(checksums(record[None], [len(record)])[0])
    record[CHECKSUM:HEADER] = torch.tensor(divmod(checksum, DIGIT))
    return record.numpy()


def read_header(numbers: Sequence[int]) -> Header:
    """Read the header of a record. (>= 8,)"""
    version, T, U, rows, high, low, sum_high, sum_low = numbers[:HEADER]
    return Header(version, T, U, rows, high * DIGIT + low, sum_high * DIGIT + sum_low)


def checksums(records: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Sum up each record's numbers, each times a number of its place, below 2 ** 30.

    A single number that differs always changes the sum, any other damage all but always.

    Args:
        records: (B, L)
        lengths: Numbers of each that count. B of them.
    """
    place = torch.arange(records.size(1), device=records.device)  # (L,)
    weight = (place * 1103515245 + 12345) % PRIME
    weight = (weight * weight % PRIME).masked_fill((place >= CHECKSUM) & (place < HEADER), 0)
    ends = torch.as_tensor(lengths, device=records.device)[:, None]  # (B, 1)
    # Sums that overflow do so alike wherever they are made.
    total = (records.long() * weight).masked_fill_(place >= ends, 0).sum(-1)  # (B,)
    return total % PRIME


def unpack(
    records: torch.Tensor,
    labels: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    size: Tuple[int, int],
    utt_id: Optional[Sequence[str]] = None,
) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
    """Unpack a batch of records, after a check that they belong to this lattice.

    Args:
        records: Records as ESPnet reads and pads them: floating-point numbers that are (nearly)
            whole, padded at the end with anything. (B, L, 1)
        labels: The labels of the student's lattice. (B, U)
        t_len: Frames of the utterances. (B,)
        u_len: Labels of the utterances. (B,)
        size: T and U + 1 of the result.
        utt_id: Names, for messages. (B,)

    Returns:
        log p of {blank, next label, rest}; zero where nothing is held, -inf for the label
        of the row u = U. (B, T, U + 1, 3)
        One where a node is held, else zero; None if every utterance is held as a whole.
        (B, T, U + 1)

    Raises:
        UserError: a record is damaged, of another format, length or transcript; names the
            utterance.
    """
    records = records.flatten(1).round().to(torch.int16)  # (B, L)
    utt_id = utt_id or [f"utterance {b} of the batch" for b in range(len(records))]
    rows = _check(records, labels, t_len, u_len, utt_id).to(records.device)  # (B,)
    T, U1 = size
    t = torch.arange(T, device=records.device)[None, :, None]  # (1, T, 1)
    u = torch.arange(U1, device=records.device)[None, None, :]  # (1, 1, U + 1)
    last = records.size(1) - 1
    width = rows[:, None, None]  # (B, 1, 1)
    frame = HEADER + t * (1 + 2 * width)  # (B, T, 1): where a frame begins
    start = _take(records, frame.clamp_max(last))  # (B, T, 1)
    u_end = u_len.to(records.device)[:, None, None]  # (B, 1, 1)
    held = (t < t_len.to(records.device)[:, None, None]) & (u <= u_end)  # (B, T, U + 1)
    whole = bool((rows == u_len.to(rows) + 1).all())
    held = held & (u >= start) & (u < start + width)  # (B, T, U + 1)
    at = (frame + 1 + u - start).masked_fill(~held, 0)  # (B, T, U + 1)
    blank = _take(records, at).view(torch.float16).float()
    label = _take(records, (at + width).clamp_max(last)).view(torch.float16).float()
    other = logsigmoid(-blank)  # log p(not blank)
    # The last row has no label: what is not blank is the rest.
    label = label.masked_fill(u == u_end, -LARGEST)
    three = torch.stack(
        [logsigmoid(blank), other + logsigmoid(label), other + logsigmoid(-label)], -1
    )  # (B, T, U + 1, 3)
    three[..., 1].masked_fill_(u == u_end, float("-inf"))
    three.masked_fill_(~held[..., None], 0.0)
    return three, None if whole else held.to(three.dtype)


def label_hashes(labels: torch.Tensor, u_len: Sequence[int]) -> torch.Tensor:
    """Hash each transcript to a number below 2 ** 30 (a polynomial modulo a prime).

    Args:
        labels: (B, U)
        u_len: Labels that count. B of them.
    """
    powers = torch.tensor(_powers(labels.size(1)), dtype=torch.long)  # (U,)
    counts = torch.arange(labels.size(1)) < torch.as_tensor(u_len)[:, None]  # (B, U)
    return ((labels.cpu().long() + 1) * powers % PRIME * counts).sum(-1) % PRIME  # (B,)


@functools.lru_cache(maxsize=64)
def _powers(n: int) -> Tuple[int, ...]:
    powers = [31337]
    while len(powers) < n:
        powers.append(powers[-1] * 31337 % PRIME)
    return tuple(powers[:n])


def _take(records: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """records[b, index[b, ...]]; (B, L), (B, ...) -> (B, ...)"""
    return records.gather(1, index.flatten(1)).view(index.shape)


def _check(
    records: torch.Tensor,
    labels: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    utt_id: Sequence[str],
) -> torch.Tensor:
    """Compare the headers with the student's lattice; return each record's rows. (B,)"""
    if records.size(1) < HEADER:
        raise UserError(f"{utt_id[0]}: not an entry of a teacher cache")
    headers = [read_header(numbers) for numbers in records[:, :HEADER].tolist()]
    frames, transcript = t_len.tolist(), u_len.tolist()
    hashes = label_hashes(labels, transcript).tolist()
    again = "make the cache again from this data directory"
    for utt, header in zip(utt_id, headers):
        if header.format != FORMAT:
            text = f"{utt}: its cache entry has format {header.format}, expected {FORMAT}; {again}"
            raise DamagedEntry(utt, text)
    lengths = [HEADER + header.frames * (1 + 2 * header.rows) for header in headers]
    sums = checksums(records, lengths).tolist()
    for b, header in enumerate(headers):
        utt = utt_id[b]
        if sums[b] != header.checksum or not HEADER <= lengths[b] <= records.size(1):
            raise DamagedEntry(utt, f"{utt}: its entry in the teacher cache is damaged")
        if header.frames != frames[b]:
            raise UserError(
                f"{utt}: the cache has {header.frames} encoder frames, the student "
                f"{frames[b]}: other audio or another front end; {again}"
            )
        if header.labels != transcript[b]:
            raise UserError(
                f"{utt}: the cache has {header.labels} labels, the student {transcript[b]}: "
                f"another transcript or other tokens; {again}"
            )
        if header.label_hash != hashes[b]:
            raise UserError(
                f"{utt}: the cache was made for another transcript or with other tokens; {again}"
            )
    return torch.tensor([header.rows for header in headers])
