"""Kernels are compiled when they are first used, and kept: where, and that somebody waits for it.

A container's user often may write neither beside the sources nor to a cache directory. numba then refuses
every function that is to be kept.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
from pathlib import Path

import numba
from numba.core.event import Event, Listener, register

log = logging.getLogger(__name__)


def find_place() -> None:
    """Give numba a place if it has none. Before any function that is to be kept is defined."""
    try:
        numba.njit(cache=True)(_probe)  # compiles nothing yet, but looks for the place
    except RuntimeError:
        # the variable too: numba reads it again when another of its variables has changed
        os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = str(_own_folder())


def tell_of_compiling() -> None:
    """Say once, if somebody looks at a terminal, what the first search after an installation waits for."""
    register("numba:compile", _Telling())


class _Telling(Listener):  # type: ignore[misc]  # numba is not typed
    """Hears of what is compiled, not of what was kept."""

    is_told = False

    def on_start(self, event: Event) -> None:
        if self.is_told or not event.data["dispatcher"].py_func.__module__.startswith("insignia_index."):
            return
        self.is_told = True
        log.info("compiling kernels")
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write("compiling for this processor, once: half a minute or so\n")

    def on_end(self, event: Event) -> None:
        pass


def _probe() -> None:
    pass


def _own_folder() -> Path:
    """A folder for temporary files that nobody else can write to: what lies in it is executed."""
    folder = Path(tempfile.gettempdir(), f"insignia-kernels-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        pass
    else:
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return folder
    return Path(tempfile.mkdtemp(prefix="insignia-kernels-"))  # where every process compiles anew
