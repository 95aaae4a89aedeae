"""How far a build is."""

from __future__ import annotations

from typing import Any, Protocol


class Progress(Protocol):
    """Told what a build does."""

    def start(self, name: str, n_cells: int) -> None:
        """A file with so many cells to do begins."""

    def advance(self, n_cells: int) -> None:
        """So many cells more are done."""

    def finish(self) -> None:
        """The file is done."""


class SilentProgress:
    """Says nothing."""

    def start(self, name: str, n_cells: int) -> None:
        """Nothing."""

    def advance(self, n_cells: int) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


class BarProgress:
    """A bar with cells/s and time left on standard error; silent where that is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        console = Console(stderr=True)
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: Any = None

    def start(self, name: str, n_cells: int) -> None:
        """Show a new line."""
        if not self._bar.disable:  # which rich before 14.3 answers with an empty line
            self._bar.start()
        self._task = self._bar.add_task(name, total=n_cells, rate="")

    def advance(self, n_cells: int) -> None:
        """Move the bar."""
        speed = self._bar.tasks[self._task].speed
        self._bar.update(self._task, advance=n_cells, rate=f"{speed:,.0f} cells/s" if speed else "")

    def finish(self) -> None:
        """Leave the line as it is."""
        if not self._bar.disable:
            self._bar.stop()
