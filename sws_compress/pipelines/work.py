"""Work in several passes as one progress, which never goes back: what is left of it tells the time that is left."""

from __future__ import annotations

from sws_compress.terminal.progress_bar import OnProgress


class Work:
    """Units of work, of which some are done.

    Parameters
    ----------
    on_progress : callable
        Called as ``on_progress(description, done, total)``.
    share : float
        Share of the whole progress that this work has; what comes after it has the rest.
    """

    def __init__(self, on_progress: OnProgress, share: float = 1.0) -> None:
        self._on_progress, self._share, self._done, self._units = on_progress, share, 0.0, 0.0

    def expect(self, units: float) -> None:
        """Expect work: the next pass at least, or several."""
        self._units = max(self._units, self._done + units)

    def doing(self, description: str) -> None:
        """Tell what is done now."""
        self._on_progress(description, round(self._done), round(self._units / self._share))

    def did(self, units: float) -> None:
        """Count work that was expected."""
        self._done = min(self._done + units, self._units)

    def finish(self) -> OnProgress:
        """Leave out what was expected and is not needed; what comes after it is told of its own progress."""
        self._done, whole = self._units, self._units / self._share

        def told(description: str, done: int, total: int) -> None:
            rest = (whole - self._units) * done / max(total, 1)
            self._on_progress(description, round(self._units + rest), round(whole))

        return told
