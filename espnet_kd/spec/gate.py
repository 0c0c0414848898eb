"""The `gate` of a plan or a stage: when a student may become the next one's teacher.

gate:
  margin: 1.0             # points of WER on the validation set above its teacher's
  otherwise: stop         # or longer, split, continue
  epochs: 2               # of `longer`
  at_most: 1              # times that `longer` is tried, then stop
"""

import dataclasses
from typing import Any, Optional

from espnet_kd.spec.option import Options, option
from espnet_kd.spec.reader import read

LONGER = "longer"
OF_LONGER = ("epochs", "at_most")  # options that another 'otherwise' has no use for


@dataclasses.dataclass(frozen=True)
class Gate(Options):
    """Conditions under which a student may be a teacher.

    Attributes:
        margin: Points of WER on the validation set that it may be above its teacher.
        otherwise: `stop`: the compression ends with the student before; `longer`: it is
            trained on; `split`: an intermediate student is inserted before it, once;
            `continue`: this is noted.
        epochs: Epochs that `longer` adds.
        at_most: Number of times that `longer` is tried before the compression stops.
    """

    margin: float = option(
        1.0,
        "points of WER on the validation set that a student may be above its teacher; one that "
        "recognises nothing passes no gate",
        least=-1000,
        most=1000,
    )
    otherwise: str = option(
        "stop",
        "beyond it the compression ends with the student before; or the student is trained on, "
        "an intermediate student is inserted, once, or this is noted",
        choices=("stop", LONGER, "split", "continue"),
    )
    epochs: int = option(2, "epochs that `longer` adds", least=1)
    at_most: int = option(1, "times that `longer` is tried before the compression stops", least=1)


def read_gate(where: str, entry: Any) -> Optional[Gate]:
    """Read a `gate`; `false` or nothing is no gate.

    Raises:
        UserError: an unknown key (naming the nearest right one) or a wrong value.
    """
    if entry is None or entry is False:
        return None
    return read(Gate, entry, where, "keys and values, or false")
