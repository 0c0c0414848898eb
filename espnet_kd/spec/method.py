"""Compression methods by name, and the options that each adds to a stage.

A stage names its `method`; `method_conf` holds that method's own options, a class of `Options`
which the method registers when `espnet_kd.methods` is imported. That package must not import
torch for it: plans are read without.
"""

import dataclasses
import importlib
import importlib.util
from typing import Any, ClassVar, Dict, List, NamedTuple, Optional, Type

from espnet_kd.errors import UserError, check_choice
from espnet_kd.spec.option import Options
from espnet_kd.spec.reader import read

DEFAULT = "cut"
PACKAGE = "espnet_kd.methods"


class PlannedSibling(NamedTuple):
    """Another model that a training will leave.

    Attributes:
        ahead: Encoder frames by which its chunks are longer than those of the run.
        streams: Whether ESPnet's own streaming decodes it.
    """

    ahead: int
    streams: bool = True


@dataclasses.dataclass(frozen=True)
class MethodOptions(Options):
    """Base of the options of all methods; itself those of a `cut` that names none.

    Attributes:
        keeps_sizes: Whether its students have their teacher's sizes.
    """

    keeps_sizes: ClassVar[bool] = False

    @property
    def siblings(self) -> Dict[str, "PlannedSibling"]:
        """Return the other models of the training by their names."""
        return {}

    @property
    def decodes_averages(self) -> bool:
        """Whether an average alone is given the form that is decoded, in the end of a training."""
        return False

    @property
    def made_of(self) -> Optional[str]:
        """Name of the stage whose student it is derived from; None: the one before it."""
        return None

    def check_stage(self, stage: Any) -> None:
        """Check what the stage says apart from these options.

        Args:
            stage: The stage (`spec.stage.Stage`).

        Raises:
            UserError: by default, it names no size, or two.
        """
        if (stage.target is None) == (stage.sizes is None):
            what = "neither" if stage.target is None else "both"
            raise UserError(f"{stage.where}: needs either 'target' or 'student', found {what}")

    def check_after(self, stage: Any, before: Any) -> None:
        """Check what the stage says against one before it.

        Args:
            stage: The stage.
            before: A stage before it.

        Raises:
            UserError: they do not go together.
        """


@dataclasses.dataclass(frozen=True)
class KeepsSizes(MethodOptions):
    """Base of the options of methods whose students have their teacher's sizes."""

    keeps_sizes: ClassVar[bool] = True

    def check_stage(self, stage: Any) -> None:
        """Refuse a size, and intermediate students of a size between.

        Raises:
            UserError: the stage has one of them.
        """
        for key, value in (("target", stage.target), ("student", stage.sizes)):
            if value is not None:
                raise UserError(
                    f"{stage.at(key)}: a student of method '{stage.method}' has its teacher's "
                    "sizes; leave it out"
                )
        if stage.gate is not None and stage.gate.otherwise == "split":
            raise UserError(
                f"{stage.at('gate.otherwise')}: 'split' inserts a student of a size between, "
                f"which method '{stage.method}' of '{stage.name}' does not have; say another in "
                "its 'gate'"
            )


_METHODS: Dict[str, Type[MethodOptions]] = {DEFAULT: MethodOptions}


def register_method(name: str, conf: Type[MethodOptions]) -> None:
    """Make a method known to plans.

    Args:
        name: Value of `method`.
        conf: Class of its `method_conf`.
    """
    _METHODS[name] = conf


def method_names() -> List[str]:
    """List the methods, the default first."""
    if importlib.util.find_spec(PACKAGE):
        importlib.import_module(PACKAGE)
    return list(_METHODS)


def conf_class(name: str) -> Type[Options]:
    """Return the class of a method's `method_conf`."""
    return _METHODS[name]


def read_method(where: str, value: Any) -> str:
    """Return the name of a method.

    Raises:
        UserError: there is none of that name.
    """
    check_choice(where, value, method_names())
    return value


def read_method_conf(name: str, conf: Any, where: str) -> MethodOptions:
    """Read the `method_conf` of a stage.

    Args:
        name: Name of the method.
        conf: Content of the YAML; None: nothing.
        where: Name of the place, for messages.

    Raises:
        UserError: see `read`.
    """
    if name == DEFAULT and not conf:  # as before it had options: its students stay what they are
        return MethodOptions()
    method_names()  # which imports them
    return read(_METHODS[name], {} if conf is None else conf, where, f"options of '{name}'")
