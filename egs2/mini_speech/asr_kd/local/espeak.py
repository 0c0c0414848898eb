"""espeak-ng through ctypes: text and a voice in, samples out.

The library and its data come with the wheel `espeakng-loader` (GPL-3, as espeak-ng is).
"""

import contextlib
import ctypes
import os
import tempfile
from typing import Iterator, List

import numpy as np

from espnet_kd.errors import UserError

# Values of speak_lib.h.
SYNCHRONOUS = 2  # espeak_Synth returns when all is said; samples go to the callback
DONT_EXIT = 0x8000  # else a failing initialisation ends the process
RATE, PITCH, RANGE = 1, 3, 4
CHARS_UTF8 = 1

# espeak-ng has 160 bytes for the path of its data and voices and looks elsewhere if that is
# too short; an environment deep in a home directory is longer.
LONGEST_PATH = 100

_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def _wheel():
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(
            "the synthetic corpus is spoken by espeak-ng, which is not installed; "
            "pip install espnet_kd[demo] (or: pip install espeakng-loader)"
        ) from None
    return espeakng_loader


@contextlib.contextmanager
def data_folder() -> Iterator[str]:
    """Yield a path of espeak-ng's data that is short enough for it, good within the block.

    Raises:
        UserError: the wheel is not installed.
    """
    path = os.path.realpath(_wheel().get_data_path())
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="espeak") as tmp:
        link = os.path.join(tmp, "espeak-ng-data")
        os.symlink(path, link)
        yield link


class Espeak:
    """The espeak-ng of this process; not more than one.

    espeak-ng keeps state that no call resets (phases of its oscillators, its echo), so what
    it says depends on what it said before. The same samples come from a new process (see
    `processes.py`) and the same calls in the same order.

    Args:
        data: The path that `data_folder` yields.
    """

    def __init__(self, data: str) -> None:
        self._data = data
        self._lib = lib = ctypes.CDLL(_wheel().get_library_path())
        integer, unsigned, pointer = ctypes.c_int, ctypes.c_uint, ctypes.c_void_p
        lib.espeak_Initialize.argtypes = [integer, integer, ctypes.c_char_p, integer]
        lib.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        lib.espeak_SetParameter.argtypes = [integer, integer, integer]
        lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        lib.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, unsigned, integer, unsigned, unsigned,
            pointer, pointer,
        ]  # fmt: skip

        self.rate_hz = lib.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data), DONT_EXIT)
        if self.rate_hz <= 0:
            raise UserError(
                f"espeak-ng found no usable data in {data}; "
                "pip install --force-reinstall espeakng-loader"
            )
        self._chunks: List[bytes] = []
        self._callback = _CALLBACK(self._receive)  # an attribute: ctypes does not keep it
        lib.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count: int, events) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def set_voice(self, name: str) -> None:
        """Choose `accent` or `accent+variant`, e.g. `en-us+f2`.

        Raises:
            UserError: espeak-ng does not have it.
        """
        # It reports an unknown accent (and goes on with the voice before), but of an
        # unknown variant it says nothing and speaks the plain accent.
        accent, _, variant = name.partition("+")
        known = not variant or os.path.isfile(os.path.join(self._data, "voices", "!v", variant))
        if not known or not accent or self._lib.espeak_SetVoiceByName(name.encode()) != 0:
            raise UserError(
                f"espeak-ng has no voice '{name}' in {self._data}; "
                "pip install 'espeakng-loader==0.2.4' has those of this corpus"
            )

    def say(self, text: str, seed: int, rate: int, pitch: int, pitch_range: int) -> np.ndarray:
        """Speak `text` with the voice chosen.

        Args:
            text: Words in lower case (capitals may be spelled).
            seed: Of espeak-ng's own noise and flutter.
            rate: Words per minute, 80 to 450.
            pitch: 0 to 100; 50 is the voice's own.
            pitch_range: 0 (monotone) to 100.

        Returns:
            Samples at `rate_hz`, float64 in -1 ... 1.
        """
        lib = self._lib
        lib.espeak_ng_SetRandSeed(seed)
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
            if lib.espeak_SetParameter(parameter, value, 0) != 0:
                raise UserError(f"espeak-ng refuses the value {value} of parameter {parameter}")
        self._chunks.clear()
        data = text.encode()
        if lib.espeak_Synth(data, len(data) + 1, 0, 1, 0, CHARS_UTF8, None, None) != 0:
            raise UserError(f"espeak-ng failed to say '{text}'")
        samples = np.frombuffer(b"".join(self._chunks), dtype=np.int16)
        if not samples.any():
            raise UserError(f"espeak-ng said nothing for '{text}'")
        return samples / 32768.0
