"""HTML whose text is escaped because it is text: what is `Html` already is taken as it is."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

_VOID = ("br", "img", "input", "line", "circle", "rect", "polyline", "path", "meta")


class Html(str):
    """Text that is HTML; any other text is escaped where it becomes a part of some."""

    __slots__ = ()


Child: TypeAlias = "str | int | None"
"""Text to be escaped, or Html; None for nothing."""
Attribute: TypeAlias = "str | float | bool | None"
"""True for one without a value; False and None leave it out."""


def tag(name: str, *children: Child, **attributes: Attribute) -> Html:
    """Returns an element.

    Args:
        name: of the element.
        *children: what it holds.
        **attributes: by name, with `_` for `-`; `class_` is the class.
    """
    words = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID and not children:
        return Html(f"<{name}{words}/>" if name not in _VOID[:3] else f"<{name}{words}>")
    return Html(f"<{name}{words}>{joined(children)}</{name}>")


def joined(parts: Iterable[Child]) -> Html:
    """Returns the parts one after the other, those that are no Html escaped."""
    return Html("".join(_escaped(each) for each in parts if each is not None))


def _escaped(value: str | int) -> str:
    return value if isinstance(value, Html) else html.escape(str(value))


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    shown = f"{value:g}" if isinstance(value, float) else value
    return f' {name}="{html.escape(str(shown))}"'
