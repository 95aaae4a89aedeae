"""Where compiled kernels are kept by who may write neither beside the sources nor to a cache directory.

A container's user often may not. numba then refuses every function that is to be kept.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import numba


def find_place() -> None:
    """Give numba a place if it has none. Before any function that is to be kept is defined."""
    try:
        numba.njit(cache=True)(_probe)  # compiles nothing yet, but looks for the place
    except RuntimeError:
        # the variable too: numba reads it again when another of its variables has changed
        os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = str(_own_folder())


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
