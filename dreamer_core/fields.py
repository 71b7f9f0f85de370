"""Fields of the config dataclasses: where a default comes from, checks, and the way to JSON."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, field
from typing import Any, Literal, TypeVar, cast

from dreamer_core.errors import BadInput

T = TypeVar("T")

TOO_LARGE = 2**31  # for counts and sizes: products of two of them still fit into 64 bits


def setting(default: T, source: str) -> T:
    """A field with its default and where that comes from; see presets.sources."""
    return field(default=default, metadata={"source": source})


def require_types(config: Any) -> None:
    """Raises BadInput for the first field whose value is not of its declared type.

    A `float` takes whole numbers too, but neither NaN nor infinity; a `Literal` its choices; a
    `tuple[T, ...]` any number of values of T.
    """
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        require_finite(name, value)
        if not _fits(value, hint):
            wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
            raise BadInput(f"{name}={value!r} must be {wanted}, but is {type(value).__name__}")


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        item: Any = typing.get_args(hint)[0]
        is_tuple = isinstance(value, tuple)
        return is_tuple and all(_fits(x, item) for x in cast("tuple[Any, ...]", value))
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # the latter with a Literal
        return any(_fits(value, choice) for choice in hint.__args__)
    if hint is float:
        return _fits(value, int) or isinstance(value, float)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def require(condition: bool, message: str) -> None:
    """Raises BadInput(message) unless the condition holds."""
    if not condition:
        raise BadInput(message)


def require_finite(name: str, value: Any) -> None:
    """Raises BadInput where a value is NaN or infinite, which every comparison would let pass."""
    is_finite = not isinstance(value, float) or math.isfinite(value)
    require(is_finite, f"{name}={value} must be finite, neither NaN nor infinite")


def require_positive(config: Any, *names: str) -> None:
    """Raises BadInput for the first named field that is not above zero, or too large a number."""
    for name in names:
        value = getattr(config, name)
        require(value > 0, f"{name}={value} must be above 0")
        is_sane = isinstance(value, float) or value < TOO_LARGE
        require(is_sane, f"{name}={value} must be below {TOO_LARGE}")


def require_names(config: Any, *names: str) -> None:
    """Raises BadInput for the first named tuple of names that holds an empty or repeated one."""
    for name in names:
        value = getattr(config, name)
        is_sane = all(value) and len(set(value)) == len(value)
        require(is_sane, f"{name}={value} must hold different names, none of them empty")


def require_share(config: Any, *names: str) -> None:
    """Raises BadInput for the first named field that lies outside [0, 1]."""
    for name in names:
        value = getattr(config, name)
        require(0 <= value <= 1, f"{name}={value} must lie between 0 and 1")


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a config as nested plain dictionaries, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], values: Any, where: str = "config") -> T:
    """Rebuilds a config dataclass from `to_dict`'s output.

    A setting that the version which wrote it did not have takes its default, which is always how
    that version behaved.

    Raises:
        BadInput: a field is unknown, lacks a value or is of another type, named with its place.
    """
    if not isinstance(values, Mapping) or not values:
        raise BadInput(f"{where} must hold fields by name, but is {values!r}")
    hints = typing.get_type_hints(cls)
    settings = dataclasses.fields(cast(Any, cls))
    required = {s.name for s in settings if s.default is s.default_factory is MISSING}
    unknown, missing = sorted(set(values) - set(hints)), sorted(required - set(values))
    if unknown or missing:
        raise BadInput(
            f"{where} holds unknown fields {unknown} and lacks {missing}; known are {sorted(hints)}"
        )
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            arguments[name] = from_dict(hint, value, f"{where}.{name}")
        elif typing.get_origin(hint) is tuple and isinstance(value, list):
            arguments[name] = tuple(cast("list[Any]", value))  # as JSON holds it
        else:
            arguments[name] = value
    try:
        return cls(**arguments)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error


def known_part(cls: type[Any], values: Any, prefix: str = "") -> tuple[Any, list[str]]:
    """Returns what `from_dict` can take of the values, and the dotted paths of unknown fields."""
    if not isinstance(values, Mapping):
        return values, []
    hints = typing.get_type_hints(cls)
    known: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in cast("Mapping[str, Any]", values).items():
        hint = hints.get(name)
        if hint is None:
            unknown.append(f"{prefix}{name}")
        elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
            known[name], below = known_part(hint, value, f"{prefix}{name}.")
            unknown += below
        else:
            known[name] = value
    return known, unknown
