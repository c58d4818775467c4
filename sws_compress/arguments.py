"""Arguments of callers: numbers become Python's own, and what is no number, function or kind of setting is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

from sws_compress.errors import ArgumentError
from sws_compress.messages import shown


def number(name: str, value: object) -> int | float:
    """A number as one of Python's own: a saved state can hold no other.

    Parameters
    ----------
    name : str
        What the argument is called, for the message.
    value : object
        An int, a float, or a scalar of NumPy.

    Raises
    ------
    ArgumentError
        If it is anything else, such as text, None or a flag.

    Examples
    --------
    >>> number("ratio", "20")
    Traceback (most recent call last):
    ...
    sws_compress.errors.ArgumentError: ratio must be a number, got '20': write it without quotes
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentError(f"{name} must be a number, got {shown(value)}: {_cure(value)}")
    return int(value) if isinstance(value, Integral) else float(value)


def whole_number(name: str, value: object) -> int:
    """The same of a number that counts something: 20.0 is 20, and 20.5 is refused."""
    found = number(name, value)
    if not float(found).is_integer():
        raise ArgumentError(f"{name} must be a whole number, got {found}: round it")
    return int(found)


def _cure(value: object) -> str:
    """What to write instead of what is no number."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return "give a number"
        return "write it without quotes"
    return "leave it out for its default" if value is None else "give an int, a float or a scalar of NumPy"


def _pair(name: str, value: object) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ArgumentError(f"{name} must be a pair of numbers, got {shown(value)}: for example (0.01, 0.1)")
    return number(name, value[0]), number(name, value[1])


CHECKS: dict[str, Callable[[str, object], Any]] = {
    "int": whole_number,
    "float": number,
    "tuple[float, float]": _pair,
}
"""How the fields of a dataclass are checked, by their annotations."""


def own_numbers(settings: Any, prefix: str = "") -> None:
    """Put Python's own numbers in place of those that a frozen dataclass is being made with.

    Parameters
    ----------
    settings : dataclass
        Fields are numbers if they are annotated as int, float or a pair of floats. None stays where it is allowed.
    prefix : str
        What comes before the names of fields in messages.

    Raises
    ------
    ArgumentError
        If a field holds something else.
    """
    for field in fields(settings):
        kind = str(field.type)
        value, check = getattr(settings, field.name), CHECKS.get(kind.removesuffix(" | None"))
        if check is None or (value is None and kind.endswith(" | None")):
            continue
        object.__setattr__(settings, field.name, check(prefix + field.name, value))


def check_function(name: str, value: object, example: str) -> None:
    """Raise ArgumentError unless ``value`` is None or can be called; a class is none.

    Parameters
    ----------
    name : str
        What the argument is called.
    value : object
        What was given.
    example : str
        How it is called, such as ``evaluate(model)``.
    """
    if isinstance(value, type):
        raise ArgumentError(
            f"{name} must be called as {example}, got the class {value.__name__}: make an instance, {value.__name__}()"
        )
    if value is not None and not callable(value):
        raise ArgumentError(f"{name} must be called as {example}, got {shown(value)}: pass the function itself")


def check_kind(name: str, value: object, kind: type, example: str) -> None:
    """Raise ArgumentError unless ``value`` is of a class.

    Parameters
    ----------
    name : str
        What the argument is called.
    value : object
        What was given.
    kind : type
        The class.
    example : str
        One of it, as a caller writes it.
    """
    if not isinstance(value, kind):
        found = shown(value) if value is None or isinstance(value, str | int | float) else type(value).__name__
        raise ArgumentError(f"{name} must be a {kind.__name__}, got {found}: for example {example}")
