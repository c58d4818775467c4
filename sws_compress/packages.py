"""Packages that only some uses need: each belongs to an extra of this package, and its absence is one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sws_compress.errors import PackageError

EXTRAS = {"torch": "torch", "onnxscript": "torch", "sklearn": "vectors"}
"""The extra that installs a package, by the name that it is imported by."""


@contextmanager
def packages_for(thing: str) -> Iterator[None]:
    """Do something that may need a package which is not installed.

    Parameters
    ----------
    thing : str
        What needs it, for the message.

    Raises
    ------
    PackageError
        If a package of `EXTRAS` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise PackageError(
            f"{package} must be installed for {thing}, got no such package: "
            f"pip install 'sws-compress[{EXTRAS[package]}]'"
        ) from error
