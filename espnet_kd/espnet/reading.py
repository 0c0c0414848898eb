"""Data that cannot be read is named in one line, whichever process reads it."""

import contextlib
from typing import Any, Callable, Dict, Iterable, Iterator, List, Protocol, Tuple, Union

import numpy as np
from espnet2.tasks import abs_task
from espnet2.train.dataset import ESPnetDataset
from espnet2.train.iterable_dataset import DATA_TYPES, IterableESPnetDataset

from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table


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
            _try(loader.__getitem__, uid, uid, self.debug_info[name][0])


class NamingStream(IterableESPnetDataset):
    """`IterableESPnetDataset`, of statistics and decoding, that names what cannot be read."""

    key_file: Any  # of ESPnet's class: a file, or names

    def __iter__(self) -> Iterator[Tuple[Union[str, int], Dict[str, np.ndarray]]]:
        """Yield names and data of utterances; see ESPnet's class.

        Raises:
            UserError: one of their files is missing or damaged.
        """
        keys, names = self.key_file, None
        if isinstance(keys, str):
            keys = list(read_table(keys))
        elif keys is None and self.path_name_type_list:
            keys = list(read_table(self.path_name_type_list[0][0]))
        if keys is not None:
            names = self.key_file = _Noted(keys)
        try:
            yield from super().__iter__()
        except UserError:
            raise
        except Exception:
            if names is not None:
                self._name(names.current)
            raise  # nothing that was read is to blame

    def _name(self, uid: str) -> None:
        for path, _, kind in self.path_name_type_list:
            table = read_table(path)
            if not table.get(uid):
                raise UserError(f"{path}: no entry of '{uid}'; run again from stage 3 on")
            _try(DATA_TYPES[kind], table[uid], uid, path)


class _Noted(List[str]):
    """Names that know which of them was asked for last."""

    current = ""

    def __iter__(self) -> Iterator[str]:
        for self.current in super().__iter__():
            yield self.current


def _try(read: Callable[[Any], Any], value: Any, uid: Union[str, int], table: str) -> None:
    """Read an entry of a table.

    Raises:
        UserError: it cannot be read; names it.
    """
    try:
        read(value)
    except Exception as e:  # readers of audio and archives raise almost anything
        reason = (str(e).splitlines() or [""])[0]
        raise UserError(
            f"{table}: '{uid}' cannot be read ({type(e).__name__}: {reason}); make its file "
            "again, or take it out"
        ) from None


class DataBatches(Protocol):
    """An epoch's batches, as ESPnet hands them out."""

    def __len__(self) -> int:
        """Return their number."""

    def __iter__(self) -> Iterator[Any]:
        """Yield names and data of utterances."""


def in_one_line(batches: Iterable) -> Iterator[Any]:
    """Yield from `batches`; the error of a process that reads for us loses its traceback.

    Raises:
        UserError: one that a process of PyTorch's `DataLoader` has raised.
    """
    with without_traceback():
        yield from batches


@contextlib.contextmanager
def without_traceback() -> Iterator[None]:
    """Take what stands before the message of an error that a process which reads has raised.

    Raises:
        UserError: it, in one line.
    """
    try:
        yield
    except UserError as e:
        if not str(e).startswith("Caught "):  # as PyTorch begins
            raise
        raise UserError(str(e).rpartition("UserError: ")[2].strip()) from None


# ESPnet builds its data sets by these names, and offers no other way in.
abs_task.ESPnetDataset = NamingDataset
abs_task.IterableESPnetDataset = NamingStream
