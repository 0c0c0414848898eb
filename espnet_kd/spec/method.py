"""Compression methods by name, and the options that each adds to a stage.

A stage names its `method`; `method_conf` holds that method's own options, a class of `Options`
which the method registers when `espnet_kd.methods` is imported. That package must not import
torch for it: plans are read without.
"""

import dataclasses
import importlib
import importlib.util
from typing import Any, Dict, List, Type

from espnet_kd.errors import check_choice
from espnet_kd.spec.option import Options
from espnet_kd.spec.reader import read

DEFAULT = "cut"
PACKAGE = "espnet_kd.methods"


@dataclasses.dataclass(frozen=True)
class NoOptions(Options):
    """The options of a method that has none."""


_METHODS: Dict[str, Type[Options]] = {DEFAULT: NoOptions}


def register_method(name: str, conf: Type[Options] = NoOptions) -> None:
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


def read_method_conf(name: str, conf: Any, where: str) -> Options:
    """Read the `method_conf` of a stage.

    Args:
        name: Its method.
        conf: What the YAML holds; None: nothing.
        where: Name of the place, for messages.

    Raises:
        UserError: see `read`.
    """
    return read(_METHODS[name], {} if conf is None else conf, where, f"options of '{name}'")
