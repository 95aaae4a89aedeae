"""Stopping work that nobody waits for any more."""

from __future__ import annotations

import time

from insignia_model.errors import SearchCancelled


class CancelToken:
    """Checked between the tasks of a search, that is every few milliseconds.

    ``deadline``: a `time.monotonic` time after which the work is to stop by itself.
    """

    __slots__ = ("_cancelled", "deadline")

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self._cancelled = False

    def cancel(self) -> None:
        """Stop at the next check; may be called from any thread."""
        self._cancelled = True

    def check(self) -> None:
        """Raise `SearchCancelled` if the work is to stop."""
        if self._cancelled or (self.deadline is not None and time.monotonic() > self.deadline):
            raise SearchCancelled
