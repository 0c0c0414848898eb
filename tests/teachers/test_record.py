"""Records: what goes in comes out, to half precision, whatever the batch."""

import numpy as np
import pytest
import torch

from espnet_kd.errors import UserError
from espnet_kd.lattice import node_mask, node_stats
from espnet_kd.lattice.visits import occupancy
from espnet_kd.losses import collapsed_kl, reduce_nodes
from espnet_kd.teachers import FORMAT, band_starts, pack, record_bytes, unpack
from espnet_kd.teachers.record import DIGIT, HEADER, LARGEST, label_hashes, read_header
from tests.lattice.materialised import random_joint, random_labels

B, T, U, V = 4, 47, 31, 123
T_LEN = torch.tensor([47, 20, 1, 9])
U_LEN = torch.tensor([31, 7, 3, 0])  # U > T and an empty transcript among them
LABELS = random_labels(B, U, V)
LATTICE = (LABELS, T_LEN, U_LEN)
SIZE = (T, U + 1)


def posteriors(seed=0, scale=3.0):
    """Collapsed posteriors of a teacher that is rather sure of itself. (B, T, U + 1, 3)"""
    joint = random_joint(B=B, T=T, U=U, V=V, dtype=torch.float64, seed=seed).detach()
    return node_stats(joint._replace(weight=scale * joint.weight), *LATTICE)


def records(three, band=0):
    """Pack a batch as the cache does, pad it as ESPnet does. (B, L)"""
    visits = occupancy(three[..., :2], T_LEN, U_LEN)
    packed = []
    for b, (t, u) in enumerate(zip(T_LEN.tolist(), U_LEN.tolist())):
        rows = min(band or u + 1, u + 1)
        start = band_starts(visits[b, :t, : u + 1], rows) if band else None
        packed.append(pack(three[b, :t, : u + 1], LABELS[b, :u], start, rows))
        assert packed[-1].dtype == np.int16
        assert record_bytes(t, u, band) == pytest.approx(2 * len(packed[-1]), abs=30)
    return padded(packed)


def padded(packed):
    """As ESPnet's data set and collate function hand them over."""
    tensors = [torch.from_numpy(x.astype(np.float32))[:, None] + 0.003 for x in packed]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)


def test_round_trip_is_exact_to_half_precision():
    three = posteriors()
    found, weight = unpack(records(three), *LATTICE, SIZE)
    assert weight is None  # every node is held
    mask = node_mask(T_LEN, U_LEN, torch.Size((B, *SIZE)))
    no_label = (torch.arange(U + 1) == U_LEN[:, None, None]) & mask
    assert (found[..., 1][no_label] == float("-inf")).all()
    assert (found[~mask] == 0).all()
    torch.testing.assert_close(found.exp().sum(-1)[mask], torch.ones(int(mask.sum())))
    there = mask[..., None] & torch.isfinite(three)
    # A probability is off by p(1 - p) times what its log-odds are off by.
    error = (found.double() - three)[there].abs() / (1 + three[there].abs())
    assert error.max() < 2**-10


def test_small_rests_survive():
    """Where 1 - p(blank) - p(label) of half-precision numbers would be noise or negative."""
    p = torch.tensor([[0.5, 0.49999, 1e-5], [0.999, 0.00099, 1e-5], [1e-5, 0.99998, 1e-5]])
    three = p.double().log()[None, :, :].repeat(2, 1, 1)  # (T, U + 1, 3)
    record = padded([pack(three, torch.tensor([3, 4]), None, 3)])
    lattice = (torch.tensor([[3, 4]]), torch.tensor([2]), torch.tensor([2]))
    found, _ = unpack(record, *lattice, (2, 3))
    error = (found.double()[0, :, :2] - three[:, :2]).abs() / (1 + three[:, :2].abs())
    assert error.max() < 2**-10
    halves = three.half().float()
    rest = 1 - halves[..., 0].exp() - halves[..., 1].exp()
    assert ((rest.clamp_min(1e-30).log() - three[..., 2]).abs() > 1).any()


@pytest.mark.parametrize(
    "p", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5]]
)
def test_probabilities_of_zero_and_one(p):
    three = torch.tensor(p).log().expand(2, 2, 3)
    record = padded([pack(three, torch.tensor([1]), None, 2)])
    lattice = (torch.tensor([[1]]), torch.tensor([2]), torch.tensor([1]))
    found, _ = unpack(record, *lattice, (2, 2))
    torch.testing.assert_close(found[0, :, 0].exp(), torch.tensor(p).expand(2, 3))
    assert torch.isfinite(found[0, :, 0]).all() and found.min() >= float("-inf")
    assert not found.isnan().any()


@pytest.mark.parametrize("band", [0, 5])
def test_padding_and_batch_order_do_not_matter(band):
    three = posteriors()
    packed = records(three, band)
    found, weight = unpack(packed, *LATTICE, SIZE)
    if band:
        assert weight.sum((1, 2)).tolist() == [47 * 5, 20 * 5, 1 * 4, 9 * 1]
    order = torch.tensor([2, 0, 3, 1])
    dirty = torch.nn.functional.pad(packed, (0, 0, 0, 17), value=31000.0)
    for b in range(B):
        frames, rows = T_LEN.tolist()[b], U_LEN.tolist()[b] + 1
        width = min(band or rows, rows)
        dirty[b, HEADER + frames * (1 + 2 * width) :] = 31000.0
    again, held = unpack(dirty[order], *(x[order] for x in LATTICE), (T + 3, U + 2))
    assert torch.equal(again[:, :T, : U + 1], found[order])
    assert (again[:, T:] == 0).all() and (again[:, :, U + 1 :] == 0).all()
    if band:
        assert torch.equal(held[:, :T, : U + 1], weight[order])
    for b in range(B):
        t, u = int(T_LEN[b]), int(U_LEN[b])
        alone, _ = unpack(packed[b : b + 1], *(x[b : b + 1] for x in LATTICE), (t, u + 1))
        assert torch.equal(alone[0], found[b, :t, : u + 1])


def test_the_header_reads_back():
    three = posteriors()
    for band in (0, 5):
        header = read_header(records(three, band)[0].round().int().flatten().tolist())
        assert header[:4] == (FORMAT, 47, 31, band or 32)
    long = torch.zeros(5000, 1, 3).fill_(1 / 3).log()
    header = read_header(pack(long, LABELS[0, :0], None, 1).tolist())
    assert (header.frames, header.labels, header.rows) == (5000, 0, 1)


def test_hashes_of_transcripts():
    hashes = label_hashes(LABELS, U_LEN.tolist())
    assert len(set(hashes.tolist())) == B and int(hashes.max()) < DIGIT**2
    assert hashes[3] == 0  # empty
    other = LABELS.clone()
    other[1, 7:] = 5  # padding
    assert torch.equal(label_hashes(other, U_LEN.tolist()), hashes)
    other[0, :2] = other[0, :2].flip(0)
    assert label_hashes(other, U_LEN.tolist())[0] != hashes[0]


@pytest.mark.parametrize(
    "t_len, u_len, label, header, message",
    [
        ([47, 19, 1, 9], None, None, None, "b: the cache has 20 encoder frames, the student 19"),
        (None, [31, 7, 2, 0], None, None, "c: the cache has 3 labels, the student 2"),
        (None, None, (0, 30), None, "a: the cache was made for another transcript"),
        (None, None, None, 7.0, "d: its cache entry has format 7, expected 2"),
    ],
)
def test_another_lattice_is_refused(t_len, u_len, label, header, message):
    packed, labels = records(posteriors()), LABELS.clone()
    if label:
        labels[label] = (labels[label] + 1) % V
    if header:
        packed[3, 0, 0] = header
    t_len = T_LEN if t_len is None else torch.tensor(t_len)
    u_len = U_LEN if u_len is None else torch.tensor(u_len)
    with pytest.raises(UserError, match=message) as e:
        unpack(packed, labels, t_len, u_len, SIZE, ["a", "b", "c", "d"])
    assert "\n" not in str(e.value) and "make the cache again" in str(e.value)


def test_what_cannot_be_packed():
    with pytest.raises(ValueError, match="is not a number"):
        pack(torch.full((2, 2, 3), float("nan")), LABELS[0, :1], None, 2)
    with pytest.raises(ValueError, match="more than a record can hold"):
        pack(torch.zeros(DIGIT, 1, 3), LABELS[0, :0], None, 1)
    assert LARGEST < np.finfo(np.float16).max


def test_the_band_is_where_the_paths_are():
    visits = torch.zeros(5, 9)
    visits[0, 0], visits[1, 0], visits[2, 3], visits[3, 6], visits[4, 8] = 1, 1, 1, 1, 1
    assert band_starts(visits, 3).tolist() == [0, 0, 2, 5, 6]  # in the middle, inside the lattice
    assert band_starts(visits, 9).tolist() == [0] * 5
    assert band_starts(torch.zeros(2, 4), 2).tolist() == [0, 0]  # no path at all
    two = torch.tensor([[0.6, 0.0, 0.0, 0.0, 0.2, 0.2, 0.0]])
    assert band_starts(two, 2).tolist() == [0]


def test_a_band_holds_most_and_nodes_outside_weigh_nothing():
    three = posteriors(scale=6.0)
    packed = records(three, band=5)
    found, weight = unpack(packed, *LATTICE, SIZE)
    visits = occupancy(three[..., :2], T_LEN, U_LEN)
    random_band = visits[0, :, 13:18].sum() / visits[0].sum()
    assert (visits * weight)[0].sum() / visits[0].sum() > max(0.5, 2 * random_band)

    student = posteriors(seed=5).float().requires_grad_()
    kl = collapsed_kl(student, found)
    reduce_nodes(kl, T_LEN, U_LEN, "path", weight).sum().backward()
    assert (student.grad[weight == 0] == 0).all()
    assert (student.grad[weight > 0].abs().sum(-1) > 0).all()
    # The same as the whole lattice under that weight.
    whole, _ = unpack(records(three), *LATTICE, SIZE)
    expected = reduce_nodes(collapsed_kl(student, whole), T_LEN, U_LEN, "path", weight)
    got = reduce_nodes(collapsed_kl(student, found), T_LEN, U_LEN, "path", weight)
    torch.testing.assert_close(got, expected)
    inside = weight[..., None] > 0
    assert torch.equal(found.masked_fill(~inside, 0), whole.masked_fill(~inside, 0))


def test_the_divergence_from_a_cache_is_that_of_the_teacher():
    three = posteriors()
    found, _ = unpack(records(three), *LATTICE, SIZE)
    for seed in (1, 2):
        student = posteriors(seed=seed)
        exact = student.clone().requires_grad_()
        cached = student.float().requires_grad_()
        a = reduce_nodes(collapsed_kl(exact, three), T_LEN, U_LEN)
        b = reduce_nodes(collapsed_kl(cached, found), T_LEN, U_LEN)
        torch.testing.assert_close(b.double(), a, rtol=1e-3, atol=1e-4)
        a.sum().backward()
        b.sum().backward()
        assert (cached.grad.double() - exact.grad).norm() < 1e-3 * exact.grad.norm()


@pytest.mark.parametrize("band", [0, 5])
def test_any_number_that_differs_is_noticed(band):
    three = posteriors()
    packed = [pack(three[0], LABELS[0], None, band or U + 1)]
    lattice = (LABELS[:1], T_LEN[:1], U_LEN[:1])
    if band:
        start = band_starts(occupancy(three[..., :2], T_LEN, U_LEN)[0], band)
        packed = [pack(three[0], LABELS[0], start, band)]
    unpack(padded(packed), *lattice, SIZE)
    rng = np.random.default_rng(0)
    length = len(packed[0])
    places = np.concatenate([np.arange(HEADER), rng.integers(HEADER, length, 60)])
    for place in places:
        record = packed[0].copy()
        record[place] ^= np.int16(1 << rng.integers(0, 15))  # one bit
        with pytest.raises(UserError, match="the utt: its "):
            unpack(padded([record]), *lattice, SIZE, ["the utt"])


@pytest.mark.parametrize("seed", range(4))
def test_other_damage_is_noticed(seed):
    three, rng = posteriors(), np.random.default_rng(seed)
    record = pack(three[0], LABELS[0], None, U + 1)
    lattice = (LABELS[:1], T_LEN[:1], U_LEN[:1])
    noise = record.copy()
    noise[HEADER:] = rng.integers(-(2**15), 2**15, len(record) - HEADER)
    places = rng.integers(HEADER, len(record), 2)
    swapped = record.copy()
    swapped[places] = record[places[::-1]] + [0, 1]
    rolled = record.copy()
    rolled[HEADER:] = np.roll(record[HEADER:], 1 + seed)
    zeros = record.copy()
    zeros[-100:] = 0
    for damaged in (noise, swapped, rolled, zeros, record[:-1], record[: len(record) // 2]):
        with pytest.raises(UserError, match="b: its entry in the teacher cache is damaged"):
            unpack(padded([damaged]), *lattice, SIZE, ["b"])
