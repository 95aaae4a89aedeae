"""What an import has done, on disk, so that one that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from insignia_index.format.files import fsync_directory
from insignia_model.errors import InvalidArgument

_FORMAT = "insignia import"
_VERSION = 1
_RECORD = "progress.json"


@dataclass(frozen=True, slots=True)
class Done:
    """Of one array: genes before ``next_gene`` are regrouped, in ``n_bytes`` of its file with ``digest``."""

    next_gene: int = 0
    n_bytes: int = 0
    digest: str = ""


class Journal:
    """The directory beside an atlas in which an import keeps its work, and the record of what is done.

    ``recipe``: digest of all that decides what the work is; that of another recipe is thrown away.
    ``resumed``: whether there is work of this recipe, ``discarded``: whether there was other work.
    """

    def __init__(self, path: Path, recipe: str) -> None:
        self.path = path
        self._recipe = recipe
        self._arrays: dict[str, Done] = {}
        found = _load(path)
        self.resumed = found is not None and found["recipe"] == recipe and bool(found["arrays"])
        self.discarded = found is not None and found["recipe"] != recipe
        if found is not None and not self.discarded:
            self._arrays = {name: Done(**done) for name, done in found["arrays"].items()}
        else:
            remove_journal(path)
            path.mkdir()
            self._write()

    def done(self, name: str) -> Done:
        """What is done of an array."""
        return self._arrays.get(name, Done())

    def record(self, name: str, done: Done) -> None:
        """Remember, durably, what is done of an array; its file has been flushed to disk before."""
        self._arrays[name] = done
        self._write()

    def _write(self) -> None:
        arrays = {name: asdict(done) for name, done in self._arrays.items()}
        record = {"format": _FORMAT, "version": _VERSION, "recipe": self._recipe, "arrays": arrays}
        temporary = self.path / f"{_RECORD}.new"
        with temporary.open("w") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / _RECORD)
        fsync_directory(self.path)


def remove_journal(path: Path) -> None:
    """Remove the directory of an import, if it is one."""
    if path.exists():
        _load(path)
        # the record goes last: without it nobody could tell whose directory this is
        for other in [file for file in path.iterdir() if file.name != _RECORD]:
            other.unlink()
        shutil.rmtree(path)


def _load(path: Path) -> dict[str, Any] | None:
    """The record; None: no directory, or one without what could be used."""
    if not path.exists():
        return None
    try:
        record = json.loads((path / _RECORD).read_text())
        if record["format"] != _FORMAT:
            raise ValueError(record["format"])
    except FileNotFoundError:
        if not path.is_dir() or any(file.name != f"{_RECORD}.new" for file in path.iterdir()):
            raise _in_the_way(path) from None
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _in_the_way(path) from error
    if record.get("version") != _VERSION:
        record = {"recipe": "", "arrays": {}}
    return dict(record)


def _in_the_way(path: Path) -> InvalidArgument:
    return InvalidArgument(
        "atlas", f"{path} is in the way: an import keeps its work there; move or remove it"
    )
