"""Data that cannot be read is named in one line, whichever process reads it."""

from typing import Any, Dict, Iterable, Iterator, Tuple, Union

import numpy as np
from espnet2.tasks import abs_task
from espnet2.train.dataset import ESPnetDataset

from espnet_kd.errors import UserError


class NamingDataset(ESPnetDataset):
    """`ESPnetDataset` that says which entry of which table cannot be read."""

    def __getitem__(self, uid: Union[str, int]) -> Tuple[str, Dict[str, np.ndarray]]:
        """Return the name and the data of an utterance; see ESPnet's class.

        Raises:
            UserError: one of its files is missing or damaged.
        """
        try:
            return super().__getitem__(uid)
        except Exception:
            self._name(uid)
            raise  # nothing that was read is to blame

    def _name(self, uid: Union[str, int]) -> None:
        for name, loader in self.loader_dict.items():
            try:
                loader[uid]
            except Exception as e:  # readers of audio and archives raise almost anything
                reason = (str(e).splitlines() or [""])[0]
                raise UserError(
                    f"{self.debug_info[name][0]}: '{uid}' cannot be read "
                    f"({type(e).__name__}: {reason}); make its file again, or take it out"
                ) from None


def in_one_line(batches: Iterable) -> Iterator[Any]:
    """Yield from `batches`; the error of a process that reads for us loses its traceback.

    Raises:
        UserError: one that a process of PyTorch's `DataLoader` has raised.
    """
    try:
        yield from batches
    except UserError as e:
        # It stands behind the traceback.
        last = str(e).strip().splitlines()[-1]
        raise UserError(last.rpartition("UserError: ")[2]) from None


# ESPnet builds its data sets by this name, and offers no other way in.
abs_task.ESPnetDataset = NamingDataset
