"""Work in several passes as one progress, which never goes back: what is left of it tells the time that is left."""

from __future__ import annotations

from sws_compress.pipelines.job import OnProgress


class Work:
    """Units of work, of which some are done.

    Parameters
    ----------
    on_progress : callable
        Called as ``on_progress(description, done, total)``.
    """

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress, self._done, self._units = on_progress, 0.0, 0.0

    def expect(self, units: float) -> None:
        """Expect work: the next pass at least, or several."""
        self._units = max(self._units, self._done + units)

    def doing(self, description: str) -> None:
        """Tell what is done now."""
        self._on_progress(description, round(self._done), round(self._units))

    def did(self, units: float) -> None:
        """Count work that was expected."""
        self._done = min(self._done + units, self._units)

    def finish(self, description: str) -> None:
        """Leave out what was expected and is not needed, and tell what comes last."""
        self._done = self._units
        self.doing(description)
