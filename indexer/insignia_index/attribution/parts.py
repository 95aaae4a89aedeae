"""Attributions that are made so far, on disk, so that a run that stops can go on.

A directory with three files of raw numbers that only grow, and ``progress.json``, which is replaced as a
whole after they were made durable. What lies behind the lengths that it tells was not finished, and is cut
off.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from insignia_index.format.files import fsync_directory
from insignia_model.errors import InvalidArgument

_PROGRESS = "progress.json"
_FILES = {"lengths": np.int64, "indices": np.int32, "data": np.float32}


class Parts:
    """Rows done of one output; ``digest`` names input and recipe. Others' rows are thrown away."""

    def __init__(self, directory: Path, digest: str) -> None:
        self._directory = directory
        self._digest = digest
        self.n_cells = 0
        self.n_entries = 0
        self.state: dict[str, Any] = {}
        directory.mkdir(parents=True, exist_ok=True)
        ours = {_PROGRESS, f"{_PROGRESS}.new", "lock", *(f"{name}.bin" for name in _FILES)}
        if strange := sorted({path.name for path in directory.iterdir()} - ours):
            raise InvalidArgument(
                "out", f"{directory} is a folder of something else (it has {strange[0]}); move it"
            )
        self._lock = (directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise InvalidArgument("out", f"another process is at work in {directory}") from None
        self._resume()
        self._files: dict[str, IO[bytes]] = {name: self._path(name).open("ab") for name in _FILES}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for file in self._files.values():
            file.close()
        if kind is not None and self.n_cells == 0:  # there is nothing to go on from
            self.remove()
        self._lock.close()

    def append(self, rows: csr_matrix, state: dict[str, Any]) -> None:
        """Add rows, durably, with what else is to be known when the run goes on."""
        parts = {"lengths": np.diff(rows.indptr), "indices": rows.indices, "data": rows.data}
        for name, dtype in _FILES.items():
            self._files[name].write(np.ascontiguousarray(parts[name], dtype).data)
            self._files[name].flush()
            os.fsync(self._files[name].fileno())
        self.n_cells += rows.shape[0]
        self.n_entries += len(rows.data)
        self.state = state
        self._record()

    def lengths(self) -> npt.NDArray[np.int64]:
        """Entries of every row (n_cells,)."""
        return np.fromfile(self._path("lengths"), np.int64, self.n_cells)

    def entries(self, name: str, first: int, last: int) -> npt.NDArray[Any]:
        """Entries [first, last) of ``indices`` or ``data``."""
        dtype = np.dtype(_FILES[name])
        return np.fromfile(self._path(name), dtype, last - first, offset=first * dtype.itemsize)

    def remove(self) -> None:
        """Forget everything."""
        shutil.rmtree(self._directory)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.bin"

    def _resume(self) -> None:
        try:
            found = json.loads((self._directory / _PROGRESS).read_text())
            fits = found["digest"] == self._digest
            n_cells, n_entries = int(found["n_cells"]), int(found["n_entries"])
            state = dict(found["state"])
        except (OSError, ValueError, KeyError, TypeError):
            fits, n_cells, n_entries, state = False, 0, 0, {}
        counts = {"lengths": n_cells, "indices": n_entries, "data": n_entries}
        sizes = {name: counts[name] * np.dtype(dtype).itemsize for name, dtype in _FILES.items()}
        if fits and all(_size(self._path(name)) >= size for name, size in sizes.items()):
            self.n_cells, self.n_entries, self.state = n_cells, n_entries, state
        else:
            sizes = dict.fromkeys(sizes, 0)
        for name, size in sizes.items():
            with self._path(name).open("ab") as file:
                file.truncate(size)
        self._record()

    def _record(self) -> None:
        said = {
            "digest": self._digest,
            "n_cells": self.n_cells,
            "n_entries": self.n_entries,
            "state": self.state,
        }
        new = self._directory / f"{_PROGRESS}.new"
        with new.open("w") as file:
            json.dump(said, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._directory / _PROGRESS)
        fsync_directory(self._directory)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1
