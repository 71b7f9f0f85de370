"""A command line made into a command: wrong words are tyro's to tell, refused values are ours."""

from __future__ import annotations

import typing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

from dreamer_core.errors import BadInput
from dreamer_core.fields import require_finite

_MOST_DIGITS = 30  # of a whole number that has an exponent

Root = tyro.conf.arg(name="")
"""Marks a config whose fields are options without a prefix."""


@dataclass(frozen=True, slots=True)
class _Unbuilt:
    """Stands for a dataclass that raised while it was built, until all of the words are read."""

    error: ValueError
    place: tuple[str, ...] = ()
    """Names of the options that lead to it."""


def parse(command: Any, arguments: list[str], prog: str, default: Any = None) -> Any:
    """Builds a command from its arguments; exits, with tyro's own words, where they are none of it.

    tyro takes each ValueError of a dataclass for a wrong word of the user, a bug of ours too; so it
    is kept from it until it is done.

    Args:
        command: a dataclass, or a union of them.
        arguments: without the command's name.
        prog: the command's name.
        default: values of the options that are not given; without it, the dataclass's own.

    Raises:
        BadInput: a dataclass refused a value; with the options that hold it.
        ValueError: a bug of ours in a dataclass, as it was raised.
    """
    parsed = tyro.cli(
        command,
        args=arguments,
        prog=prog,
        config=(tyro.conf.AvoidSubcommands,),
        registry=_registry(),
        **({} if default is None else {"default": default}),
    )
    if not isinstance(parsed, _Unbuilt):
        return parsed
    if parsed.place and isinstance(parsed.error, BadInput):
        option = f"--{'.'.join(parsed.place)}".replace("_", "-")
        raise BadInput(f"{option}: {parsed.error}") from parsed.error
    raise parsed.error


def take_option(name: str, arguments: list[str]) -> tuple[str | None, list[str]]:
    """Takes `NAME VALUE` or `NAME=VALUE` out of the arguments; None where it is not among them.

    Raises:
        BadInput: it is the last, without a value.
    """
    for index, argument in enumerate(arguments):
        if argument.startswith(f"{name}="):
            return argument.split("=", 1)[1], arguments[:index] + arguments[index + 1 :]
        if argument == name:
            if index + 1 == len(arguments):
                raise BadInput(f"{name}: wanted a value after it, but there is none")
            return arguments[index + 1], arguments[:index] + arguments[index + 2 :]
    return None, arguments


def require_video_suffix(option: str, path: Path | None) -> None:
    """Raises BadInput where the option names a file that is none of a video."""
    if path is None:
        return
    from dreamer_core.report.video import VIDEO_SUFFIXES  # noqa: PLC0415 (imports OpenCV)

    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise BadInput(f"{option} {path}: wanted a name that ends in {' or '.join(VIDEO_SUFFIXES)}")


def _registry() -> ConstructorRegistry:
    """How tyro makes values that it would make otherwise by itself."""
    registry = ConstructorRegistry()
    asked: list[Any] = []

    @registry.primitive_rule
    def _(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        """Options of several names take them with commas or spaces between them."""
        if info.type != tuple[str, ...]:
            return None
        return PrimitiveConstructorSpec(
            nargs="*",
            metavar="NAME,NAME",
            instance_from_str=lambda words: tuple(x for x in ",".join(words).split(",") if x),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=list,
        )

    @registry.primitive_rule
    def _(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        """Whole numbers may be written as 1e6; a path has a name, which "$UNSET" has not."""
        kind: Any = info.type
        if kind not in (int, Path):
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT" if kind is int else "PATH",
            instance_from_str=lambda words: (_whole if kind is int else _path)(*words),
            is_instance=lambda value: isinstance(value, kind),
            str_from_instance=lambda value: [str(value)],
        )

    @registry.struct_rule
    def _(info: StructTypeInfo) -> StructConstructorSpec | None:
        """A dataclass is made as tyro would, but what it raises is returned."""
        if info.type in asked:  # by the next lines: the rule of tyro itself is wanted
            return None
        asked.append(info.type)
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            asked.pop()
        if not isinstance(spec, StructConstructorSpec) or not _is_ours(info.type):
            return spec  # pyright: ignore[reportReturnType] (tyro hands errors on)
        return replace(spec, instantiate=_keeping_errors(info.type))

    return registry


def _whole(word: str) -> int:
    with suppress(ValueError):
        return int(word)
    with suppress(ArithmeticError, ValueError):
        number = Decimal(word)
        if abs(number.adjusted()) < _MOST_DIGITS and number == int(number):
            return int(number)
    raise ValueError(f"wanted a whole number, such as 1000000 or 1e6, got {word!r}")


def _path(word: str) -> Path:
    if not word:
        raise ValueError("wanted a path, got none; the directory where you are is `.`")
    return Path(word)


def _is_ours(kind: Any) -> bool:
    return isinstance(kind, type) and kind.__module__.partition(".")[0] != "tyro"


def _keeping_errors(kind: type[Any]) -> Callable[..., Any]:
    """Returns what builds a dataclass, or an _Unbuilt where it or one of its fields raised."""
    hints = typing.get_type_hints(kind, include_extras=True)

    def build(**values: Any) -> Any:
        for name, value in values.items():
            if isinstance(value, _Unbuilt):
                is_root = Root in getattr(hints[name], "__metadata__", ())
                return value if is_root else replace(value, place=(name, *value.place))
        try:
            for name, value in values.items():
                require_finite(name, value)
            return kind(**values)
        except ValueError as error:
            return _Unbuilt(error)

    return build
