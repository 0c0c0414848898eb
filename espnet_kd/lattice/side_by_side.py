"""Shares of a walk side by side on a CPU, one thread each.

torch divides each operator among its threads, and lets them wait for one another after it: of a
walk, thousands of times, each as long as a busy machine keeps the slowest waiting. Here a thread
has chunks of its own, and they wait for one another once. What is small stays with one (`alone`).
"""

import functools
import threading
from typing import Any, Callable, List, Optional, Sequence, TypeVar, cast

import torch

from espnet_kd.lattice.chunks import Chunk, Nodes

Share = TypeVar("Share")
Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])


def alone(function: Function) -> Function:
    """Make a function of many small operators compute in the calling thread alone."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        threads = torch.get_num_threads()
        if threads == 1:
            return function(*args, **kwargs)
        torch.set_num_threads(1)
        try:
            return function(*args, **kwargs)
        finally:
            torch.set_num_threads(threads)

    return cast(Function, wrapped)


def shares(pieces: Sequence[Nodes], most: int) -> List[List[Nodes]]:
    """Cut a list of pieces into at most so many lists that follow one another, of equal work."""
    sizes = [_nodes(piece) for piece in pieces]
    total, done = sum(sizes), 0
    cut: List[List[Nodes]] = [[] for _ in range(max(1, most))]
    for piece, size in zip(pieces, sizes):
        # By its middle: no list gets a piece that mostly belongs to the next.
        cut[min(len(cut) - 1, (2 * done + size) * len(cut) // (2 * total))].append(piece)
        done += size
    return [share for share in cut if share]


def _nodes(piece: Any) -> int:
    """Count the nodes of a piece."""
    return (piece.t1 - piece.t0) * piece.rows if isinstance(piece, Chunk) else len(piece.frame)


def side_by_side(work: Callable[[Share], Result], parts: Sequence[Share]) -> List[Result]:
    """Do some work for each part, each in a thread that computes alone.

    The threads end with it: whoever forks the process later, as data loaders do, has none of
    them. What the caller has switched on (inference mode, autocast off) holds in all of them.

    Args:
        work: Computes without gradients, and writes where no other part does.
        parts: Shares of the work; the first is the calling thread's.

    Returns:
        Results in the order of the parts. An error in one of them is raised.
    """
    if len(parts) == 1:
        return [work(parts[0])]
    results: List[Any] = [None] * len(parts)
    errors: List[Optional[BaseException]] = [None] * len(parts)
    inference = torch.is_inference_mode_enabled()

    def run(i: int) -> None:
        try:
            with torch.inference_mode(inference), torch.no_grad():
                results[i] = work(parts[i])
        except BaseException as e:
            errors[i] = e

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that begin now have it, too
    others: List[threading.Thread] = []
    try:
        for i in range(1, len(parts)):
            other = threading.Thread(target=run, args=(i,))
            other.start()
            others.append(other)
        run(0)
    finally:  # if the system gives no more threads, those that there are still end here
        for other in others:
            other.join()
        torch.set_num_threads(threads)
    for error in errors:
        if error is not None:
            raise error
    return results
