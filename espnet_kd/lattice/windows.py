"""Where a joint network's paths run, without a walk over the whole lattice.

A forward recursion looks at a window of a few rows in each block of frames, and moves the window
on as the mass of its paths moves on; a recursion backwards follows inside the windows. What they
give is exact for the paths that stay inside. Whether others count shows at the borders: where
paths crowd there, the utterance is done again in windows of twice the rows, which in the end are
the whole lattice.
"""

from typing import List, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F

from espnet_kd.lattice.banded import Band, rows_around
from espnet_kd.lattice.banded_recursion import banded_rnnt_loss
from espnet_kd.lattice.host_lengths import Lengths
from espnet_kd.lattice.joint import Joint
from espnet_kd.lattice.nodes import checked_labels
from espnet_kd.lattice.recursion import NEG_INF
from espnet_kd.lattice.stats import DEFAULT_BUDGET, node_stats, three_log_probs
from espnet_kd.lattice.visits import LEAST

ROWS = 10  # of a window
FRAMES = 2, 10  # of a window at least and at most; by itself as many as have three labels
BEHIND = 16.0  # nats below the likeliest row at which rows are left behind
CROWDED = 5e-4  # visits of an outermost row, in one frame, that are too many
UNLIKELY = 1e-4  # share of a frame's supposed visits that is not looked for


class Walked(NamedTuple):
    """The nodes that were looked at, and the paths among them; of others all is zero.

    Attributes:
        three: log p of {blank, next label, rest}. (B, T, U + 1, 3)
        visits: Probability that a path, of those that stay among these nodes, visits each.
            (B, T, U + 1)
        inside: Which they are. (B, T, U + 1)
    """

    three: torch.Tensor
    visits: torch.Tensor
    inside: torch.Tensor

    def arcs(self) -> torch.Tensor:
        """Return log p of {blank, next label}, next to none elsewhere. (B, T, U + 1, 2)"""
        return self.three[..., :2].masked_fill(~self.inside[..., None], LEAST)


@torch.no_grad()
def follow(
    joint: Joint,
    labels: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    budget: Optional[int] = None,
    rows: int = ROWS,
    frames: Optional[int] = None,
    lengths: Optional[Lengths] = None,
) -> Walked:
    """Look at a joint network where its own paths run.

    Args:
        joint: The projected joint network.
        labels: Padded with anything in [0, V). (B, U)
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        budget: Bytes that are worked on at once; None: what suits the device.
        rows: Rows of a window, at first.
        frames: Frames of a window; None: by how fast labels come.
        lengths: The same lengths, where the host has read them already. On a GPU it still waits
            twice, and once more for each time that windows are widened.

    Returns:
        Nothing of it hangs on padding; on the other utterances only what frames a window has,
        if that is not given, and so which nodes beside the paths are looked at.

    Raises:
        ValueError: parts, labels or lengths do not fit each other; see `nodes.checked_labels`.
    """
    joint.check_sizes()
    B, T, U1 = *joint.enc.shape[:2], joint.dec.size(1)
    joint, device = joint.in_one_dtype(), joint.enc.device
    lengths = lengths or Lengths(t_len, u_len, (B, T, U1), device)
    t_len, u_len = lengths.t_len, lengths.u_len
    budget = budget or DEFAULT_BUDGET.get(device.type, DEFAULT_BUDGET["cuda"])
    label = checked_labels(labels, lengths, joint.weight.size(0))  # (B, U + 1)
    if frames is None:
        least, most = FRAMES
        fastest = min(t / max(1, u) for t, u in zip(lengths.frames, lengths.labels))
        frames = max(least, min(most, int(3 * fastest)))
    dtype = torch.promote_types(joint.enc.dtype, torch.float32)
    # Of each node three log-probabilities, its visits, and whether it was looked at; a node more,
    # for what lies beyond an utterance's end.
    nodes = torch.zeros(B * T * U1 + 1, 5, dtype=dtype, device=device)
    # The longest first: those that are still there are the first ones.
    todo = sorted(range(B), key=lambda b: -lengths.frames[b])  # utterances to be done

    def windows(by_labels: bool = False) -> Tuple["_Windows", torch.Tensor]:
        left = torch.tensor(todo).to(device, non_blocking=True)  # (n,)
        part = joint._replace(enc=joint.enc[left], dec=joint.dec[left])
        return _Windows(
            part,
            label[left],
            [lengths.frames[b] for b in todo],
            t_len[left],
            u_len[left],
            min(rows, U1),
            frames,
            budget,
            by_labels,
        ), left

    if rows < U1:
        first, left = windows(by_labels=True)
        _, likely, crowded = first.walk()
        visits = torch.zeros(len(nodes), dtype=likely.dtype, device=device)
        visits[first.places(left, len(nodes) - 1)] = likely.nan_to_num().flatten()
        band = _around(visits[:-1].view(B, T, U1), t_len, u_len)
        grid = labels, t_len, u_len
        stats = node_stats(joint, *grid, budget=budget, band=band, lengths=lengths)  # (N, 3)
        visits, fits = _visits(stats, band)
        nodes[band.place] = torch.cat(
            [stats, visits[:, None], torch.ones_like(visits)[:, None]], 1
        )
        again = (crowded | ~fits[left]).tolist()  # the host waits
        todo = [b for b, is_left in zip(todo, again) if is_left]
        if todo:
            left = torch.tensor(todo).to(device, non_blocking=True)
            nodes[:-1].view(B, T * U1, 5).index_fill_(0, left, 0.0)
    while todo:
        wider, left = windows()
        three, visits, crowded = wider.walk()
        values = torch.cat([three, visits[..., None], torch.ones_like(visits)[..., None]], -1)
        nodes[wider.places(left, len(nodes) - 1)] = values.to(dtype).flatten(0, 2)
        if rows >= U1:
            break
        todo, rows = [b for b, is_left in zip(todo, crowded.tolist()) if is_left], 2 * rows
    nodes = nodes[:-1].view(B, T, U1, 5)
    return Walked(nodes[..., :3], nodes[..., 3], nodes[..., 4] > 0)


def _around(visits: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor) -> Band:
    """Make a band around supposed visits with a row more on both sides. (B, T, U + 1)"""
    some = visits, torch.zeros_like(visits), t_len, u_len
    more = F.pad(rows_around(*some, kept=1 - UNLIKELY), (1, 1))  # (B, T, U + 3)
    inside = more[..., 1:-1] | more[..., 2:] | more[..., :-2]
    inside[:, 0, 0] = True
    utterance = torch.arange(len(t_len), device=t_len.device)
    last = (utterance * inside.size(1) + t_len - 1) * inside.size(2) + u_len  # (B,)
    # A number that is assigned to what tensors point at would be waited for.
    inside.view(-1).index_fill_(0, last, True)
    return Band.of(inside, t_len, u_len)


def _visits(stats: torch.Tensor, band: Band) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return how probable visits are inside (N,), and whose paths do not crowd its border (B,)."""
    # In inference mode, too, in which nothing is recorded that a gradient could follow.
    with torch.inference_mode(False), torch.enable_grad():
        arcs = stats[:, :2].clamp_min(LEAST).requires_grad_()  # (N, 2)
        loss = banded_rnnt_loss(arcs, band)  # (B,)
        (grad,) = torch.autograd.grad(loss.sum(), arcs)
    visits = -grad.sum(1)  # (N,)
    inside = torch.zeros(band.size, dtype=torch.bool, device=visits.device)
    inside.view(-1).index_fill_(0, band.place, True)
    beside = F.pad(inside, (1, 1), value=True)  # (B, T, U + 3): there is nothing beyond row 0
    u = torch.arange(band.size[2], device=visits.device)
    above = beside[..., 2:] | (u >= band.u_len[:, None, None])  # (B, T, U + 1)
    border = inside & ~(beside[..., :-2] & above)
    dense = torch.zeros(band.size, dtype=visits.dtype, device=visits.device)
    dense.view(-1)[band.place] = visits
    most = torch.where(border, dense, 0.0).amax((1, 2))  # (B,)
    return visits, loss.isfinite() & (most <= CROWDED)


class _Windows:
    """Windows of R rows over the lattices of a batch, the longest first.

    Args:
        joint: The projected joint network.
        label: Next label of each row. (B, U + 1)
        lengths: Frames of each utterance, in descending order.
        t_len: The same where the lattice is. (B,)
        u_len: Labels of each utterance. (B,)
        rows: R, at most U + 1.
        frames: Frames of a window.
        budget: Bytes that are worked on at once.
        by_labels: Whether probabilities are of blank and the labels of a window alone, without
            the rest of the vocabulary.
    """

    def __init__(
        self,
        joint: Joint,
        label: torch.Tensor,
        lengths: List[int],
        t_len: torch.Tensor,
        u_len: torch.Tensor,
        rows: int,
        frames: int,
        budget: int,
        by_labels: bool = False,
    ) -> None:
        self.by_labels = by_labels
        self.joint, self.label, self.t_len, self.u_len = joint, label, t_len, u_len
        self.rows, self.frames = rows, frames
        # Utterances that have frame t.
        self.present = [sum(n > t for n in lengths) for t in range(lengths[0])]
        width = joint.weight.size(0) + 2 * joint.enc.size(2)
        self.step = max(1, budget // (4 * width * rows * frames))  # utterances at once
        B, T = len(t_len), lengths[0]
        self.row = torch.arange(rows, device=t_len.device)  # (R,)
        self.low = t_len.new_zeros(B, T)  # first row in each frame
        size, device = (T, B, rows), joint.enc.device
        dtype = torch.promote_types(joint.enc.dtype, torch.float32)
        self.three = torch.zeros(*size, 3, dtype=dtype, device=device)
        # float64: see `recursion`. Frames come first: a frame of all utterances lies together.
        self.alpha = torch.full(size, NEG_INF, dtype=torch.float64, device=device)
        self.arcs = torch.full((2, *size), LEAST, dtype=torch.float64, device=device)
        self.before = torch.zeros(size, dtype=torch.float64, device=device)

    def walk(self) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Go forwards and back.

        Returns:
            log p of {blank, next label, rest} (B, T, R, 3); how probable a visit is (B, T, R);
            which utterances' windows are too narrow (B,).
        """
        self._forwards()
        visits = self._backwards()
        top = self.low + self.rows - 1 < self.u_len[:, None]  # (B, T): there are rows above
        at_border = visits[..., 0] * (self.low > 0) + visits[..., -1] * top  # (B, T)
        # Without any path inside the visits are no numbers.
        fits = visits.sum((1, 2)).isfinite() & (at_border.amax(1) <= CROWDED)
        return self.three.transpose(0, 1), visits, ~fits

    def places(self, utterances: torch.Tensor, beyond: int) -> torch.Tensor:
        """Where the windows' nodes lie among those of a whole batch.

        Args:
            utterances: Place of each in the batch. (B,)
            beyond: Place of what belongs to no utterance.

        Returns:
            (B * T * R,)
        """
        T, U1 = self.joint.enc.size(1), self.joint.dec.size(1)
        t = torch.arange(self.low.size(1), device=self.low.device)  # (T,)
        row = self.low[..., None] + self.row  # (B, T, R)
        place = (utterances[:, None, None] * T + t[:, None]) * U1 + row
        inside = (t < self.t_len[:, None])[..., None] & (row <= self.u_len[:, None, None])
        return torch.where(inside, place, beyond).flatten()

    def _forwards(self) -> None:
        """Fill the arcs and alpha, block by block."""
        B, T = self.low.shape
        low = self.u_len.new_zeros(B)  # (B,)
        # log p of all ways to a frame's rows by blank; the first frame has one.
        stay = torch.where(self.row == 0, 0.0, NEG_INF).double().expand(B, -1)  # (B, R)
        for t0 in range(0, T, self.frames):
            n = self.present[t0]
            t1 = min(t0 + self.frames, T)
            low, stay = low[:n], stay[:n]
            self.low[:n, t0:t1] = low[:, None]
            row = low[:, None] + self.row  # (n, R)
            three = self._look(t0, t1, row)  # (t, n, R, 3)
            self.three[t0:t1, :n] = three
            arcs = three[..., :2].double().clamp_min_(LEAST)  # can be added up
            arcs.masked_fill_((row > self.u_len[:n, None])[..., None], LEAST)
            blank, label = arcs.unbind(-1)  # (t, n, R)
            self.arcs[0, t0:t1, :n], self.arcs[1, t0:t1, :n] = blank, label
            # Emitting the labels between two rows of a frame costs the difference of these.
            before = label.cumsum(-1) - label  # (t, n, R)
            self.before[t0:t1, :n] = before
            alpha = self.alpha[t0:t1, :n]
            for emitted, stays, into in zip(before.unbind(), blank.unbind(), alpha.unbind()):
                torch.add((stay - emitted).logcumsumexp(-1), emitted, out=into)
                stay = into + stays  # (n, R)
            # The window follows: its likeliest row stays in the lower third, and of the rows
            # below it those that count stay with one more, by which to watch the border.
            most, likeliest = stay.max(-1, keepdim=True)  # (n, 1) each
            near = (stay >= most - BEHIND).int().argmax(-1)  # (n,)
            new = low + torch.maximum(near - 1, likeliest[:, 0] - self.rows // 3)
            new = torch.minimum(new, (self.u_len[:n] + 1 - self.rows).clamp_min(0))
            new = torch.maximum(new, low)
            source = self.row + (new - low)[:, None]  # (n, R)
            stay = stay.gather(1, source.clamp_max(self.rows - 1))
            stay = stay.masked_fill_(source >= self.rows, NEG_INF)
            low = new

    def _look(self, t0: int, t1: int, row: torch.Tensor) -> torch.Tensor:
        """Compute log p of {blank, next label, rest} in a window. row: (n, R) -> (t, n, R, 3)"""
        joint, size = self.joint, (t1 - t0, -1, self.rows, 3)
        row = row.clamp_max(joint.dec.size(1) - 1)
        if self.by_labels:
            return self._look_at_labels(t0, t1, row)
        parts = []
        for i, rows in enumerate(row.split(self.step)):
            at = slice(i * self.step, i * self.step + len(rows))
            index = rows[:, :, None].expand(-1, -1, joint.dec.size(2))  # (n, R, D)
            dec = joint.dec[at].gather(1, index)  # (n, R, D)
            enc = joint.enc[at, t0:t1].transpose(0, 1)  # (t, n, D)
            z = (enc[:, :, None] + dec).flatten(0, 2)  # (t * n * R, D)
            label = self.label[at].gather(1, rows).expand(t1 - t0, -1, -1).flatten()
            logits = joint.logits(joint.activated(z))
            parts.append(three_log_probs(logits, label)[0].view(size))
        return torch.cat(parts, 1)

    def _look_at_labels(self, t0: int, t1: int, row: torch.Tensor) -> torch.Tensor:
        """Do as `_look` would, as if nothing but blank and a window's labels could be said."""
        joint, n, R = self.joint, len(row), self.rows
        index = row[:, :, None].expand(-1, -1, joint.dec.size(2))  # (n, R, D)
        z = joint.enc[:n, t0:t1, None] + joint.dec[:n].gather(1, index)[:, None]  # (n, t, R, D)
        z = joint.activated(z)
        label = self.label[:n].gather(1, row)  # (n, R)
        tokens = torch.cat([torch.zeros_like(label[:, :1]), label], 1)  # (n, R + 1)
        weight, bias = joint.weight[tokens], joint.bias[tokens]  # (n, R + 1, D), (n, R + 1)
        logits = torch.baddbmm(bias[:, None], z.flatten(1, 2), weight.transpose(1, 2))
        logits = logits.view(n, t1 - t0, R, R + 1).transpose(0, 1)  # (t, n, R, R + 1)
        log_p = logits.to(self.three.dtype).log_softmax(-1)
        next_one = log_p[..., 1:].diagonal(dim1=-2, dim2=-1)  # (t, n, R)
        two = torch.stack([log_p[..., 0], next_one.masked_fill(label == 0, NEG_INF)], -1)
        return F.pad(two, (0, 1))  # (t, n, R, 3)

    def _backwards(self) -> torch.Tensor:
        """Return how probable a visit of each node is. (B, T, R)"""
        # Row R - 1 first: sums run from the last row down.
        blank, _ = self.arcs.flip(-1)
        before = self.before.flip(-1)  # (T, B, R)
        low = self.low.t()  # (T, B)
        T, B, R = blank.shape
        ends = low[self.t_len - 1, torch.arange(B, device=low.device)]  # (B,)
        at_end = (ends[:, None] + self.row == self.u_len[:, None]).flip(-1)  # (B, R)
        # log p of all ways on from a frame's rows, after its blank.
        on = torch.where(at_end, 0.0, NEG_INF).double()  # (B, R)
        beta = torch.full_like(blank, NEG_INF)  # (T, B, R)
        arcs = list(zip(blank.unbind(), before.unbind(), beta.unbind()))  # (B, R) each
        for t in range(T - 1, -1, -1):
            n = self.present[t]
            if (t + 1) % self.frames == 0 and t + 1 < T:
                # Rows of the window after this one, seen from this one.
                m = self.present[t + 1]
                shift = (low[t + 1, :m] - low[t, :m])[:, None]  # (m, 1)
                source = self.row + shift  # (m, R)
                moved = on[:m].gather(1, source.clamp_max(R - 1))
                on = torch.cat([moved.masked_fill_(source >= R, NEG_INF), on[m:]])
            stays, emitted, out = arcs[t]
            if n == B:
                on = torch.sub((on + stays).add_(emitted).logcumsumexp(-1), emitted, out=out)
            else:
                stays, emitted = stays[:n], emitted[:n]
                out[:n] = (on[:n] + stays).add_(emitted).logcumsumexp(-1) - emitted
                on = torch.cat([out[:n], on[n:]])
        log_p = beta[0, :, -1].clone()  # (B,)
        visits = (self.alpha + beta.flip(-1)).sub_(log_p[:, None]).exp_()  # (T, B, R)
        # An utterance that was not there yet.
        gone = torch.arange(T, device=low.device)[:, None] >= self.t_len  # (T, B)
        visits = visits.masked_fill_(gone[..., None], 0.0)
        return visits.transpose(0, 1)
