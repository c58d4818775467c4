"""Results that print as the tables of the command line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from html import escape

from rich.console import RenderableType

from sws_compress.terminal.printing import text_of


class Printed(ABC):
    """A result whose text is the table that the command line prints; rich consoles and notebooks show it, too."""

    @abstractmethod
    def __rich__(self) -> RenderableType: ...

    def __str__(self) -> str:
        return text_of(self.__rich__())

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return f"<pre>{escape(str(self))}</pre>"
