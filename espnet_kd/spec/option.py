"""A field of what a user may write, and all that is known of it, in one place."""

import dataclasses
import functools
import typing
from typing import Any, Callable, Dict, List, Optional, Tuple, Type, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class FromCache:
    """A condition on a field where a teacher cache takes the teacher's place.

    Attributes:
        values: Values that a cache can serve.
        because: Condition and reason, for the message.
    """

    values: Tuple[Any, ...]
    because: str


@dataclasses.dataclass(frozen=True)
class Option:
    """All that is known of a field.

    Attributes:
        doc: Meaning, for tables of options and `--help`.
        key: Name in the YAML, if it is not that of the field.
        choices: Words of which it is one; the check needs nothing else.
        least: Smallest right number.
        most: Largest right number.
        read: Reader of (name of the place, value) that takes the place of the check by type.
        values: Right values in words, for tables; empty: follows from the fields above.
        file: Whether it names a file of this machine: no stage of a plan holds it.
        in_stage: Whether it may stand in a stage of a plan.
        neutral: Whether a finished student is still the same after a change of it.
        published: Whether a model card may tell it. What is not marked stays private.
        cache: Condition where a teacher cache is used; None: none.
    """

    doc: str
    key: str = ""
    choices: Tuple[Any, ...] = ()
    least: Optional[float] = None
    most: Optional[float] = None
    read: Optional[Callable[[str, Any], Any]] = None
    values: str = ""
    file: bool = False
    in_stage: bool = True
    neutral: bool = False
    published: bool = False
    cache: Optional[FromCache] = None


def option(default: Any, doc: str, **known: Any) -> Any:
    """Declare a field of a class of options.

    Args:
        default: Value where nothing is written.
        doc: Meaning.
        known: Further attributes of `Option`.
    """
    return dataclasses.field(default=default, metadata={"option": Option(doc, **known)})


def once_a_class(function: Function) -> Function:
    """Keep what a function of a class returns.

    `lru_cache` alone hides the function's types, and mypy takes no dataclass for hashable.
    """
    return cast(Function, functools.lru_cache(maxsize=None)(function))


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of all classes of options.

    Attributes:
        written: Values as they were written, by the name in the YAML.
    """

    written: Dict[str, Any] = dataclasses.field(
        default_factory=dict, kw_only=True, repr=False, compare=False
    )

    @property
    def values(self) -> Dict[str, Any]:
        """Return all values by name."""
        fields = (field for field, _ in known_options(type(self)).values())
        return {field.name: getattr(self, field.name) for field in fields}

    def changed(self, **values: Any) -> Any:
        """Return a copy with other values, as if they had been written."""
        return dataclasses.replace(self, written={**self.written, **values}, **values)

    def without(self, key: str) -> Any:
        """Return a copy in which an option is not written."""
        written = {name: value for name, value in self.written.items() if name != key}
        field = known_options(type(self))[key][0]
        return dataclasses.replace(self, written=written, **{field.name: field.default})

    def over(self, below: Any) -> Any:
        """Return what is written here and, where nothing is, what holds below."""
        names = [known_options(type(self))[key][0].name for key in self.written]
        values = {name: getattr(self, name) for name in names}
        return dataclasses.replace(below, written={**below.written, **self.written}, **values)


@once_a_class
def known_options(cls: Type[Options]) -> Dict[str, Tuple[dataclasses.Field, Option]]:
    """Return the options of a class by their names in the YAML, in their order."""
    known = {}
    for field in dataclasses.fields(cls):
        facts = field.metadata.get("option")
        if facts is not None:
            known[facts.key or field.name] = (field, facts)
    return known


def published(cls: Type[Options]) -> List[str]:
    """List the options of a class that a model card may tell."""
    return [key for key, (_, facts) in known_options(cls).items() if facts.published]


@once_a_class
def kinds(cls: Type[Options]) -> Dict[str, Any]:
    """Return the type of each field, without `Optional`."""
    hints = typing.get_type_hints(cls)
    return {
        name: next((t for t in typing.get_args(hint) if t is not type(None)), hint)
        if typing.get_origin(hint) is typing.Union
        else hint
        for name, hint in hints.items()
    }
