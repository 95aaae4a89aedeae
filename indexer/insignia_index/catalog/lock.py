"""The writer's lock: a file that one process at a time holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from insignia_index.catalog.catalog import SHARDS
from insignia_index.catalog.store import FULL
from insignia_model.errors import AtlasLocked, InvalidArgument

LOCK = "writer.lock"


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the atlas directory, which is made if need be, against other writers; raises `AtlasLocked`."""
    file = _locked(path)
    try:
        yield
    finally:
        file.close()


def _locked(path: Path) -> IO[str]:
    while True:
        try:
            (path / SHARDS).mkdir(parents=True, exist_ok=True)
            file = (path / LOCK).open("a+")
        except FileNotFoundError:
            continue  # removed as below, between the two steps
        except OSError as error:
            if error.errno in FULL:
                raise
            raise InvalidArgument("atlas", f"{path} cannot be written ({error.strerror})") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown process"
            file.close()
            raise AtlasLocked(path, holder) from error
        # a first build that fails removes the directory, with the lock that it holds
        if os.fstat(file.fileno()).st_nlink:
            with suppress(OSError):  # a full disk: only the name is missing
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), f"process {os.getpid()}".encode())
            return file
        file.close()
