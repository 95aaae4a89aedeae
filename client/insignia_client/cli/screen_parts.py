"""What a screen has done so far, in files, so that it can be interrupted at any moment."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from insignia_client.cli.output import problems_of
from insignia_model import Column, ScreenChunk, Table
from insignia_model.errors import InvalidArgument

if sys.platform != "win32":  # where two screens into one file are not noticed
    import fcntl

_QUESTION = "question"


@contextmanager
def opened_parts(out: Path, question: str) -> Iterator[Parts]:
    """Parts of the screen that is to be written to ``out``, for nobody else meanwhile."""
    with _only_one(out):
        yield Parts(out.with_name(out.name + ".parts"), question)


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Raise `InvalidArgument` if another process is here for ``out``; without locks both are let in."""
    if sys.platform == "win32":
        yield
        return
    # beside the directory, which is removed meanwhile
    path = out.with_name(f".{out.name}.lock")
    with _locked(path, out):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path, out: Path) -> IO[str]:
    while True:
        with problems_of("--out", path):
            lock = path.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise InvalidArgument("--out", f"another screen is writing {out}") from error
        except OSError:
            return lock
        if os.fstat(lock.fileno()).st_nlink:  # else removed by who held it, between the two steps
            return lock
        lock.close()


class Parts:
    """A directory with a file per chunk of a screen. ``question``: digest of all that decides the answer."""

    def __init__(self, path: Path, question: str) -> None:
        self.path = path
        self._files: list[Path] = []
        self.n_done = 0
        with problems_of("--out", path):
            path.mkdir(exist_ok=True)
            self._check(question)
            for unfinished in path.glob(".part-*.npz"):
                unfinished.unlink()
        while (part := self._find()) is not None:
            self._files.append(part)
            self.n_done = int(part.stem.rpartition("-")[2])

    def _check(self, question: str) -> None:
        about, unfinished = self.path / _QUESTION, self.path / f".{_QUESTION}"
        if about.exists():
            if about.read_text() == question:
                return
            if any(self.path.glob("part-*")):
                raise InvalidArgument(
                    "--out",
                    f"{self.path} holds an unfinished screen of another question, library or revision of the "
                    "atlas; remove it, or choose another --out",
                )  # else nothing was answered of it
        elif any(path != unfinished for path in self.path.iterdir()):
            raise InvalidArgument("--out", f"{self.path} is there and is not part of a screen")
        unfinished.write_text(question)
        unfinished.replace(about)

    def _find(self) -> Path | None:
        """File of the signatures behind those that are done: its name says from where to where."""
        found = self.path.glob(f"part-{self.n_done:09d}-*.npz")
        # one that lost its end when the machine went down is done again
        return next((path for path in found if zipfile.is_zipfile(path)), None)

    def add(self, chunk: ScreenChunk) -> None:
        """Keep a chunk. The file has its name once it is complete."""
        done = self.n_done + chunk.n_signatures
        part = self.path / f"part-{self.n_done:09d}-{done:09d}.npz"
        unfinished = part.with_name(f".{part.name}")
        with problems_of("--out", part):
            with unfinished.open("wb") as file:
                np.savez(file, **_arrays(chunk.table))
            unfinished.replace(part)
        self._files.append(part)
        self.n_done = done

    def tables(self) -> list[Table]:
        """All chunks, in their order."""
        return [_table(path) for path in self._files]

    def remove(self) -> None:
        """Take the directory away."""
        shutil.rmtree(self.path)


def _arrays(table: Table) -> dict[str, Any]:
    """Arrays of a table: for column number i its values, dictionary and mask; names and kinds as JSON."""
    arrays: dict[str, Any] = {}
    for i, column in enumerate(table.columns.values()):
        arrays[f"values{i}"] = column.values
        if column.kind == "category":
            # as JSON: an array of text would drop NUL at the end and takes four bytes a character
            arrays[f"dictionary{i}"] = np.frombuffer(json.dumps(column.dictionary).encode(), np.uint8)
        if column.missing is not None:
            arrays[f"missing{i}"] = column.missing
    about = json.dumps([[name, column.kind] for name, column in table.columns.items()])
    return arrays | {"columns": np.frombuffer(about.encode(), np.uint8)}


def _table(path: Path) -> Table:
    with np.load(path, allow_pickle=False) as arrays:
        columns = {}
        for i, (name, kind) in enumerate(json.loads(arrays["columns"].tobytes())):
            dictionary = arrays[f"dictionary{i}"].tobytes() if kind == "category" else b"[]"
            missing = arrays.get(f"missing{i}")
            columns[name] = Column(kind, arrays[f"values{i}"], tuple(json.loads(dictionary)), missing)
        return Table(columns)
