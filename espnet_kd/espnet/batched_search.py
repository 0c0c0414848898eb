"""ESPnet's default beam search for a batch of utterances at once.

Every utterance is searched as by `BoundedBeamSearch`, expansion by expansion, with the same
limit; only the networks run for all of them together. A round lets each utterance go on until
it needs log-probabilities that are not known, then computes those of all utterances in one
batch. What saves the most time beside that:

- label sequences are nodes of a tree, and the same sequence is computed once per frame even
  where several hypotheses of ESPnet's search share it;
- a node's log-probabilities are computed for a few frames ahead;
- of the children of an expanded hypothesis only the best that is left waits in a heap.
"""

import heapq
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from espnet2.asr_transducer.beam_search_transducer import Hypothesis

from espnet_kd.device.search import A_FRAME, SPARE
from espnet_kd.espnet.bounded_search import NO_NUMBERS, BoundedBeamSearch
from espnet_kd.espnet.predictor import Predictor, is_batchable

AHEAD = 4  # frames for which log-probabilities are computed at once
NOTHING = float("-inf")

Outcome = Tuple[float, List[float], List[int]]  # of blank; of the best labels; these


class _Prefix:
    """A label sequence.

    Attributes:
        label: Last label, 0 at the beginning.
        parent: The sequence before.
        children: Sequences with one label more.
        row: Place of its predictor's output in the bank; -1: not computed yet.
        frame: First frame of `outcomes`, which are known for the frames from there on.
    """

    __slots__ = ("label", "parent", "children", "row", "frame", "outcomes")

    def __init__(self, label: int, parent: Optional["_Prefix"], row: int = -1) -> None:
        self.label, self.parent, self.row = label, parent, row
        self.children: Dict[int, _Prefix] = {}
        self.frame = 0
        self.outcomes: List[Outcome] = []

    def child(self, label: int) -> "_Prefix":
        child = self.children.get(label)
        if child is None:
            child = self.children[label] = _Prefix(label, self)
        return child

    def labels(self) -> List[int]:
        """Return the sequence, from the blank at its beginning on."""
        labels, node = [], self
        while node.parent is not None:
            labels.append(node.label)
            node = node.parent
        return [0, *reversed(labels)]


class _Utterance:
    """The search of one utterance."""

    def __init__(self, number: int, length: int, beam: int) -> None:
        self.number, self.length, self.beam = number, length, beam
        self.frame = self.expansions = self.order = 0
        self.hit_limit = self.failed = False
        self.begin([(0.0, _Prefix(0, None, row=0))])

    def begin(self, hyps: List[Tuple[float, _Prefix]]) -> None:
        """Begin a frame with the hypotheses that the frame before has kept."""
        self.kept: List[Tuple[float, _Prefix]] = []
        # -score, order of arrival; score and tree node; rank among its parent's children and
        # the parent's score, for a child whose node is made when its turn comes.
        self.open: List[Tuple[float, int, _Prefix, int, float]] = []
        for score, prefix in hyps:
            self.push(score, prefix, -1, 0.0)

    def push(self, score: float, prefix: _Prefix, rank: int, base: float) -> None:
        self.order += 1
        heapq.heappush(self.open, (-score, self.order, prefix, rank, base))

    def advance(self) -> Optional[_Prefix]:
        """Go on until something must be computed; None: the utterance is finished, or failed."""
        frame = self.frame
        while frame < self.length:
            minus, _, prefix, rank, base = self.open[0]
            if rank >= 0:  # the next best child of `prefix`
                _, scores, labels = prefix.outcomes[frame - prefix.frame]
                node = prefix.child(labels[rank])
            else:
                node, labels = prefix, []
            limited = self.expansions >= (SPARE + A_FRAME * (frame + 1)) * self.beam
            if not limited and not 0 <= frame - node.frame < len(node.outcomes):
                return node
            if 0 <= rank < len(labels) - 1:  # its next sibling takes its place
                self.order += 1
                sibling = (-base - scores[rank + 1], self.order, prefix, rank + 1, base)
                heapq.heapreplace(self.open, sibling)
            else:
                heapq.heappop(self.open)
            self.expansions += 1
            score = -minus
            if limited:
                self.hit_limit = True
                self.kept.append((score, node))
            else:
                blank, best, _ = node.outcomes[frame - node.frame]
                if blank != blank:  # NaN, with which no hypothesis is better than another
                    self.failed = True
                    return None
                self.kept.append((score + blank, node))
                self.push(score + best[0], node, 0, score)
            if len(self.kept) < self.beam and self.open:
                continue
            highest = -self.open[0][0] if self.open else NOTHING
            kept = [hyp for hyp in self.kept if hyp[0] > highest]
            if len(kept) >= self.beam or not self.open:
                kept.sort(key=lambda hyp: hyp[0])
                self.frame = frame = frame + 1
                if frame == self.length:
                    self.kept = kept
                else:
                    self.begin(kept)
        return None


class BatchedBeamSearch:
    """The search of a batch.

    Args:
        search: ESPnet's search of one utterance, with its settings.
        model: A transducer in eval mode.
    """

    def __init__(self, search: BoundedBeamSearch, model: Any) -> None:
        self.search, self.model = search, model
        self.beam = search.beam_size
        self.wanted = min(self.beam, search.vocab_size - 1)

    @staticmethod
    def knows(search: BoundedBeamSearch) -> bool:
        """Tell whether it can stand in for a search: of type `default`, without an LM."""
        is_default = search.search_algorithm == search.default_beam_search
        return is_default and not search.use_lm and is_batchable(search.decoder)

    @torch.no_grad()
    def __call__(
        self, enc: torch.Tensor, t_len: torch.Tensor
    ) -> List[Union[Tuple[List[Hypothesis], bool], FloatingPointError]]:
        """Search all utterances.

        Args:
            enc: Encoder output. (B, T, D)
            t_len: (B,)

        Returns:
            For each utterance the best hypotheses, and whether it has come to the limit; or that
            the joint network's output holds no numbers.
        """
        self.enc = self.model.joint_network.lin_enc(enc)  # (B, T, J)
        self.predictor = Predictor(self.model, enc.device)
        # A row a label sequence; the first is the empty one, of all utterances.
        self.dec, self.state = self.predictor.start(1)  # (1, J), (1, state_size)
        self.rows = 1
        utterances = [_Utterance(b, n, self.beam) for b, n in enumerate(t_len.tolist())]
        running = utterances
        while running:
            wanted = [(u, u.advance()) for u in running]
            needed = [(u, node) for u, node in wanted if node is not None]
            if needed:
                self._predict([node for _, node in needed if node.row < 0])
                self._join(needed)
            running = [u for u, _ in needed]
        return [
            FloatingPointError(NO_NUMBERS) if u.failed else (self._best(u), u.hit_limit)
            for u in utterances
        ]

    def _best(self, utterance: _Utterance) -> List[Hypothesis]:
        hyps = [Hypothesis(score=s, yseq=prefix.labels()) for s, prefix in utterance.kept]
        return self.search.sort_nbest(hyps)

    def _predict(self, nodes: List[_Prefix]) -> None:
        """Compute the predictor's output for label sequences whose parents are known."""
        if not nodes:
            return
        device = self.enc.device
        rows = [node.parent.row for node in nodes if node.parent is not None]
        parents = torch.tensor(rows, device=device)  # (n,)
        labels = torch.tensor([node.label for node in nodes], device=device)  # (n,)
        dec, state = self.predictor.step(labels, self.state[parents])  # (n, J), (n, state_size)
        end = self.rows + len(nodes)
        if end > len(self.dec):
            more = max(end, 2 * len(self.dec))
            self.dec, self.state = (_grown(x, more) for x in (self.dec, self.state))
        self.dec[self.rows : end], self.state[self.rows : end] = dec, state
        for k, node in enumerate(nodes):
            node.row = self.rows + k
        self.rows = end

    def _join(self, needed: List[Tuple[_Utterance, _Prefix]]) -> None:
        """Compute the log-probabilities of tree nodes at their frames and the next few."""
        device = self.enc.device
        index = torch.tensor(
            [(u.number, u.frame, node.row) for u, node in needed], device=device
        )  # (n, 3)
        ahead = torch.arange(min(AHEAD, self.enc.size(1)), device=device)  # (A,)
        frames = (index[:, 1, None] + ahead).clamp(max=self.enc.size(1) - 1)  # (n, A)
        enc, dec = self.enc[index[:, 0, None], frames], self.dec[index[:, 2], None]
        logits = self.model.joint_network(enc, dec, no_projection=True)  # (n, A, V)
        logp = torch.log_softmax(logits, dim=-1)  # (n, A, V)
        values, labels = logp[..., 1:].topk(self.wanted, dim=-1)  # (n, A, beam)
        rows = logp[..., 0].tolist(), values.tolist(), (labels + 1).tolist()
        for (u, node), *columns in zip(needed, *rows):
            node.frame, node.outcomes = u.frame, list(zip(*columns))


def _grown(x: torch.Tensor, rows: int) -> torch.Tensor:
    """Return a tensor of so many rows, the first of which are those of `x`."""
    grown = x.new_empty(rows, *x.shape[1:])
    grown[: len(x)] = x
    return grown
