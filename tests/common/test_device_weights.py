"""The file of a model as a device holds it: what is read is what was written, and it is small."""

import subprocess
import sys

import numpy as np
import pytest

from espnet_kd.common.device_weights import (
    Rounded,
    device_sizes,
    pack,
    read_device,
    unpack,
    write_device,
)
from espnet_kd.errors import UserError


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_are_packed_to_their_bits(bits):
    most = 2 ** (bits - 1) - 1
    codes = np.random.default_rng(bits).integers(-most, most + 1, 101).astype(np.int8)
    packed = pack(codes, bits)
    assert len(packed) == -(-101 * bits // 8)
    assert np.array_equal(unpack(packed, bits, 101), codes)


def example():
    rng = np.random.default_rng(0)
    scales = np.array([[0.5, 0.25], [1.0, 2.0], [0.125, 4.0]], np.float32)
    by_row = np.array([[0.5], [0.25], [2.0], [8.0]], np.float32)
    return {
        "a": Rounded(rng.integers(-7, 8, (3, 40)).astype(np.int8), scales, 4, 32),
        "b": rng.standard_normal((2, 3)).astype(np.float32),
        "c": Rounded(rng.integers(-127, 128, (4, 3, 3, 1)).astype(np.int8), by_row, 8, 0),
        "d": np.float32(3.0).reshape(()),
    }


def test_what_is_read_is_what_was_written(tmp_path):
    weights, path = example(), tmp_path / "device.a.npz"
    write_device(weights, path)
    first = path.read_bytes()
    write_device(weights, path)
    assert path.read_bytes() == first
    read = read_device(path)
    assert list(read) == list(weights)
    for name, want in weights.items():
        if isinstance(want, Rounded):
            assert np.array_equal(read[name].codes, want.codes)
            assert np.array_equal(read[name].scales, want.scales)
            assert (read[name].bits, read[name].block) == (want.bits, want.block)
            assert np.array_equal(read[name].values(), want.values())
        else:
            assert np.array_equal(read[name], want) and read[name].shape == want.shape
    assert device_sizes(path) == {"a": 120, "b": 6, "c": 36, "d": 1}
    a = weights["a"]
    assert a.values()[1, 31] == a.codes[1, 31] and a.values()[1, 32] == 2 * a.codes[1, 32]
    assert len(first) < 60 + 12 + 36 + 8 + 28 + 1500


def test_a_damaged_file_is_told_in_one_line(tmp_path):
    path = tmp_path / "device.a.npz"
    with pytest.raises(UserError, match="no such file"):
        read_device(path)
    write_device(example(), path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole.replace(b"scales", b"scalet")):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not weights for a device"):
            read_device(path)


def test_it_is_read_without_torch():
    code = "import sys; import espnet_kd.common.device_weights; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
