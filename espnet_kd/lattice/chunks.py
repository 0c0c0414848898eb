"""Cut the lattices of a batch into pieces of a bounded size."""

from typing import Iterator, NamedTuple, Sequence


class Chunk(NamedTuple):
    """Frames t0..t1 of utterance b, rows 0..rows - 1: (t1 - t0) * rows nodes."""

    b: int
    t0: int
    t1: int
    rows: int


def chunks(
    t_len: Sequence[int], u_len: Sequence[int], node_bytes: int, budget: int
) -> Iterator[Chunk]:
    """Walk over all nodes of all utterances; nodes in the padding are not visited.

    Args:
        t_len: Frames of each utterance, B of them.
        u_len: Labels of each utterance, B of them.
        node_bytes: Bytes that one node takes while its chunk is worked on.
        budget: Bytes that a chunk may take; one frame of one utterance is the least.

    Yields:
        Chunks in the order of utterances and frames.
    """
    for b, (frames, labels) in enumerate(zip(t_len, u_len)):
        rows = labels + 1
        step = max(1, min(frames, budget // (node_bytes * rows)))
        # Equal pieces rather than a small last one.
        pieces = -(-frames // step)
        step = -(-frames // pieces)
        for t0 in range(0, frames, step):
            yield Chunk(b, t0, min(t0 + step, frames), rows)
