"""Conditions under which models are heard again, `conf/robustness.yaml`, read and checked.

utterances: 120                          # of each test set, by their names; all by default
only: snr20                              # those with this label in utt2condition; all by default
conditions:
  - {name: white_10dB, noise: white, snr: 10}
  - {name: babble_5dB, noise: babble, snr: 5}
  - {name: cafe_5dB, noise: downloads/cafe, snr: 5}
  - {name: room_0.6s, reverb: {rt60: 0.6}}
  - {name: rooms, reverb: {folder: downloads/rirs}}
  - {name: phone, band: [300, 3400]}
  - {name: loud_clip, gain: 15, clip: true}
  - {name: slow, tempo: 0.8}
  - {name: lost_5pc, lost: {share: 0.05, ms: 20}}
"""

import dataclasses
import re
from typing import Any, Dict, List, NamedTuple, Optional

from espnet_kd.common.yaml_file import lines_in_messages, read_document
from espnet_kd.errors import UserError, shown
from espnet_kd.spec.option import Options, option
from espnet_kd.spec.reader import check_keys, read
from espnet_kd.spec.values import number, text, whole_number

BABBLE, WHITE = "babble", "white"
NOISE, REVERB = "noise", "reverb"  # keys of a condition that may name a folder of sounds


@dataclasses.dataclass(frozen=True)
class Reverb(Options):
    """A room: one that is drawn, or recorded ones.

    Attributes:
        rt60: Seconds in which its echo falls by 60 dB.
        folder: Folder of recorded impulse responses, one of which each utterance has.
    """

    rt60: float = option(0.0, "seconds in which the echo falls by 60 dB", least=0.05, most=5)
    folder: str = option("", "a folder of recorded impulse responses, in place of `rt60`")


@dataclasses.dataclass(frozen=True)
class Lost(Options):
    """Packets that do not arrive.

    Attributes:
        share: Share of the packets.
        ms: Milliseconds of a packet.
    """

    share: float = option(0.0, "share of the packets that are lost", least=0.001, most=0.9)
    ms: float = option(20.0, "milliseconds of a packet", least=1, most=1000)


def _reverb(where: str, value: Any) -> Reverb:
    room = read(Reverb, value, where)
    if bool(room.rt60) == bool(room.folder):
        both = "both" if room.rt60 else "neither"
        raise UserError(
            f"{where}: needs either 'rt60', the seconds in which the echo falls by 60 dB, or "
            f"'folder', of recorded impulse responses, found {both}"
        )
    return room


def _lost(where: str, value: Any) -> Lost:
    lost = read(Lost, value, where)
    if not lost.share:
        raise UserError(f"{where}: no 'share', the share of the packets that are lost")
    return lost


def _band(where: str, value: Any) -> List[float]:
    if not isinstance(value, list) or len(value) != 2:
        raise UserError(f"{where}: expected two frequencies in Hz, found {shown(value)}")
    low, high = (number(where, x, 10, 24000) for x in value)
    if low >= high:
        raise UserError(f"{where}: {low:g} Hz is not below {high:g} Hz")
    return [low, high]


def _name(where: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}", value):
        raise UserError(
            f"{where}: expected a name of letters, digits, '_', '.', '+', '-', at most 40, found "
            f"{shown(value)}"
        )
    return value


@dataclasses.dataclass(frozen=True)
class Condition(Options):
    """What is done to each utterance, in the order of the fields.

    Attributes:
        name: End of the utterances' names.
        tempo: Factor by which speech is faster, at the same pitch.
        reverb: Room in which it is spoken.
        noise: `white`, `babble` of other speakers of the set, or a folder of sounds.
        snr: Speech to noise, in dB over the utterance.
        band: Frequencies in Hz that a telephone lets through, in 8 bits of mu-law.
        gain: Decibels by which it is louder.
        clip: Whether what is beyond full scale is cut off; else the whole is made softer.
        lost: Packets that do not arrive.
    """

    name: str = option("", "end of the utterances' names", read=_name)
    tempo: float = option(1.0, "how many times faster", least=0.5, most=2)
    reverb: Optional[Reverb] = option(
        None, "a room", read=_reverb, values="`{rt60: 0.6}` or `{folder: rirs}`"
    )
    noise: str = option("", "`white`, `babble`, or a folder of sounds")
    snr: Optional[float] = option(None, "speech to noise in dB", least=-30, most=60)
    band: Optional[List[float]] = option(None, "lowest and highest frequency in Hz", read=_band)
    gain: float = option(0.0, "decibels", least=-80, most=60)
    clip: bool = option(False, "cut off what is beyond full scale")
    lost: Optional[Lost] = option(None, "lost packets", read=_lost, values="`{share: 0.05}`")

    @property
    def folders(self) -> Dict[str, str]:
        """Folders of sounds that it is made of, by the key that names them."""
        named = {NOISE: self.noise, REVERB: self.reverb.folder if self.reverb else ""}
        return {key: folder for key, folder in named.items() if folder not in ("", BABBLE, WHITE)}

    def check(self, where: str) -> None:
        """Refuse what does not go together, or changes nothing.

        Raises:
            UserError: it does.
        """
        if not self.name:
            raise UserError(f"{where}: no 'name'")
        if bool(self.noise) != (self.snr is not None):
            lacking, given = ("snr", "noise") if self.noise else ("noise", "snr")
            raise UserError(f"{where}: '{given}' without '{lacking}'")
        if dataclasses.replace(self, name="", clip=False) == Condition():
            raise UserError(
                f"{where}: '{self.name}' changes nothing; the sets as they are, are compared with "
                "in any case"
            )


def _conditions(where: str, value: Any) -> List[Condition]:
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: expected a list of conditions, found {shown(value)}")
    conditions: List[Condition] = []
    for i, entry in enumerate(value):
        condition = read(Condition, entry, f"{where}[{i}]")
        condition.check(f"{where}[{i}]")
        if condition.name in (c.name for c in conditions):
            raise UserError(f"{where}[{i}].name: '{condition.name}' is used twice")
        conditions.append(condition)
    return conditions


class Robustness(NamedTuple):
    """All conditions, and the utterances that are heard under them.

    Attributes:
        conditions: The conditions.
        utterances: Utterances of each test set, chosen by their names; None: all.
        only: Label in `utt2condition` of the utterances that are taken; empty: all are.
    """

    conditions: List[Condition]
    utterances: Optional[int] = None
    only: str = ""


def load_robustness(path: str) -> Robustness:
    """Read the file.

    Raises:
        UserError: no such file, an unknown key, a wrong value, no conditions.
    """
    document = read_document(path, "the conditions of --robustness are expected in it")
    data = document.data
    with lines_in_messages(path, document.lines):
        check_keys(data, path, Robustness._fields, "conditions and which utterances hear them")
        utterances = data.get("utterances")
        if utterances is not None:
            utterances = whole_number(f"{path}: utterances", utterances, 1)
        only = text(f"{path}: only", data.get("only", ""))
        return Robustness(
            _conditions(f"{path}: conditions", data.get("conditions")), utterances, only
        )
