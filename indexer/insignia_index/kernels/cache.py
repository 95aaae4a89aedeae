"""Kernels are compiled when they are first used, and kept: where, for how long, and that somebody waits.

A container's user often may write neither beside the sources nor to a cache directory. numba then refuses
every function that is to be kept.

numba keeps what it compiled as long as the function's own file stays the same, whatever becomes of functions
of other files that are compiled into it. So what was kept for other sources is forgotten.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import sys
import tempfile
from pathlib import Path

import numba
from numba.core.event import Event, Listener, register

log = logging.getLogger(__name__)

#: Of a folder with compiled kernels: the digest of the sources that they were compiled from.
_RECORD = "insignia-kernels.sha256"


def find_place() -> None:
    """Give numba a place if it has none. Before any function that is to be kept is defined."""
    try:
        _forget_others(_place())
    except (RuntimeError, OSError):
        # the variable too: numba reads it again when another of its variables has changed
        os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = str(_own_folder())
        _forget_others(_place())


def _place() -> Path:
    """Where numba keeps the kernels of this package; raises RuntimeError if it finds no place."""
    return Path(numba.njit(cache=True)(_probe).stats.cache_path)  # compiles nothing yet


def _forget_others(place: Path) -> None:
    """Remove the indexes of kernels that were compiled from other sources than the ones here."""
    sources, digest = sorted(Path(__file__).parent.glob("*.py")), hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    place.mkdir(parents=True, exist_ok=True)
    record = place / _RECORD
    if record.exists() and record.read_text() == digest.hexdigest():
        return
    for index in place.glob("*.nbi"):
        index.unlink(missing_ok=True)
    written = record.with_suffix(f".{os.getpid()}")
    written.write_text(digest.hexdigest())
    written.replace(record)  # at once: another process may read it


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
