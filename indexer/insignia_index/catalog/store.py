"""The LMDB environment of an atlas: one write transaction publishes, readers keep their snapshot.

Keys are UTF-8 text: ``format``, ``atlas``, ``vocabulary``, ``study/<study>``,
``cells/<shard>``, ``genes/<shard>`` (bitmap of measured genes), ``column/<shard>/<field>``,
``dictionary/<shard>/<field>``.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from insignia_model.errors import AtlasCorrupt, AtlasNotFound, StorageFull

#: Address space, not disk: LMDB's file grows as it is filled. 64 GiB is metadata of a billion cells.
_MAP_SIZE = 64 << 30
_FILE = "meta.lmdb"


class ReadTransaction:
    """A consistent view of the catalog. Values are memory views that die with it."""

    def __init__(self, transaction: Any) -> None:
        self._transaction = transaction

    def get(self, key: str) -> memoryview | None:
        """Value of a key, zero-copy."""
        value: memoryview | None = self._transaction.get(key.encode())
        return value

    def items(self, prefix: str) -> Iterator[tuple[str, memoryview]]:
        """Keys that start with ``prefix`` (which is cut off), in byte order, and their values."""
        start = prefix.encode()
        with self._transaction.cursor() as cursor:
            if not cursor.set_range(start):
                return
            for key, value in cursor:
                if not bytes(key).startswith(start):
                    return
                yield bytes(key)[len(start) :].decode(), value

    def close(self) -> None:
        """End the view; its memory views must not be used any more."""
        self._transaction.abort()


class WriteTransaction(ReadTransaction):
    """Changes that become visible together or not at all."""

    def put(self, key: str, value: bytes) -> None:
        """Set a key."""
        self._transaction.put(key.encode(), value)

    def delete(self, key: str) -> None:
        """Delete a key, if it is there."""
        self._transaction.delete(key.encode())


class Store:
    """The open environment. ``readonly`` also works where the directory cannot be written."""

    def __init__(self, atlas: Path, *, readonly: bool = True) -> None:
        self.path = atlas / _FILE
        if readonly and not self.path.is_file():
            raise AtlasNotFound(atlas)
        try:
            self._environment = self._open(readonly, lock=True)
        except (lmdb.ReadonlyError, PermissionError):
            # a read-only file system has no lock file: nobody can write there either
            self._environment = self._open(readonly, lock=False)
        except lmdb.Error as error:
            raise AtlasCorrupt(self.path, f"LMDB cannot open it ({error})") from error

    def _open(self, readonly: bool, *, lock: bool) -> Any:
        return lmdb.open(
            str(self.path),
            subdir=False,
            readonly=readonly,
            lock=lock,
            map_size=_MAP_SIZE,
            max_readers=1024,
            readahead=False,  # random access to columns
        )

    def read(self) -> ReadTransaction:
        """A new view of the latest revision."""
        try:
            return ReadTransaction(self._environment.begin(buffers=True))
        except lmdb.Error as error:
            raise AtlasCorrupt(self.path, f"LMDB cannot read it ({error})") from error

    def revision(self) -> int:
        """Number of the latest revision."""
        with self._environment.begin(buffers=True) as transaction:
            raw = transaction.get(b"atlas")
            return -1 if raw is None else int(json.loads(bytes(raw))["revision"])

    @contextmanager
    def write(self) -> Iterator[WriteTransaction]:
        """A write transaction: commits at the end of the block, aborts on an exception."""
        try:
            with self._environment.begin(write=True, buffers=True) as transaction:
                yield WriteTransaction(transaction)
        except (lmdb.DiskError, lmdb.MapFullError) as error:
            raise StorageFull(self.path) from error
        except lmdb.Error as error:
            if "space" in str(error) or getattr(error, "errno", None) == errno.ENOSPC:
                raise StorageFull(self.path) from error
            raise AtlasCorrupt(self.path, f"LMDB cannot write it ({error})") from error

    def close(self) -> None:
        """Close the environment; every transaction must have ended."""
        self._environment.close()
