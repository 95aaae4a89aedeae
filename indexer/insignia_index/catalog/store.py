"""The LMDB environment of an atlas: one write transaction publishes, readers keep their snapshot.

Keys are UTF-8 text; docs/format.md lists them.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import lmdb

from insignia_model.errors import (
    AtlasCorrupt,
    AtlasError,
    AtlasNotFound,
    AtlasReplaced,
    StorageFull,
    TooManyReaders,
)

#: Address space, not disk: LMDB's file grows as it is filled. 64 GiB is metadata of a billion cells.
_MAP_SIZE = 64 << 30
_FILE = "meta.lmdb"
#: Processes that have an atlas open at once, each with one view or more.
_MOST_READERS = 1024

#: What the operating system says when no space is left.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
#: A write that fits only in part fails as an input/output error; then less than this is left.
_LITTLE_BYTES = 16 << 20
#: A pointer and the length of a key have 16 bits each.
_MARGIN_BYTES = 128 << 10


class _Environment:
    """An open LMDB file, shared by all who use it in this process and closed with the last of them.

    LMDB wants a file opened once a process: its locks are the process's, and closing one handle would
    drop the locks of another.
    """

    _opened: ClassVar[dict[tuple[int, int], _Environment]] = {}
    # reentrant: a garbage collection inside may release a transaction
    _lock = threading.RLock()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = _open(path)
        # readers that were killed keep their places, which are counted, and old pages from being used
        with suppress(lmdb.Error):
            self.handle.reader_check()
        if self._used_bytes() > path.stat().st_size:
            self.handle.close()
            raise AtlasCorrupt(path, "it is cut off")
        self.identity = _identity(path)
        self.n_users = 0

    def _used_bytes(self) -> int:
        with _translated(self.path, "read"):
            return int((self.handle.info()["last_pgno"] + 1) * self.handle.stat()["psize"])

    def extend(self) -> None:
        """Let the file end, in a hole, well behind its last page.

        LMDB does not check a page's pointers. A damaged one reaches less than the margin, so that it leads
        to zeros and an error, not past the end of the file, which would end the process.
        """
        size = self._used_bytes() + _MARGIN_BYTES
        with suppress(OSError):
            if self.path.stat().st_size < size:
                os.truncate(self.path, size)

    @classmethod
    def use(cls, path: Path) -> _Environment:
        """The environment at ``path``; `release` it when done."""
        with cls._lock:
            environment = cls._opened.get(_identity(path)) if path.exists() else None
            if environment is None:
                environment = cls(path)
                cls._opened[environment.identity] = environment
            return environment.keep()

    def keep(self) -> _Environment:
        """One user more."""
        with self._lock:
            self.n_users += 1
            return self

    def release(self) -> None:
        """One user less."""
        with self._lock:
            self.n_users -= 1
            if self.n_users == 0:
                del self._opened[self.identity]
                self.handle.close()


class ReadTransaction:
    """A consistent view of the catalog. Values are memory views that die with it."""

    def __init__(self, environment: _Environment, **how: Any) -> None:
        self._path = environment.path
        with _translated(self._path, "read"):
            self._transaction = environment.handle.begin(buffers=True, **how)
        self._environment: _Environment | None = environment.keep()
        # LMDB lets threads share a transaction if only one uses it at a time
        self._using = threading.Lock()

    def get(self, key: str) -> memoryview | None:
        """Value of a key, zero-copy."""
        try:
            with self._using:
                value: memoryview | None = self._transaction.get(key.encode())
                return value
        except lmdb.Error as error:
            raise _translation(self._path, "read", error) from error

    def items(self, prefix: str) -> list[tuple[str, memoryview]]:
        """Keys that start with ``prefix`` (which is cut off), in byte order, and their values."""
        start = prefix.encode()
        found = []
        with self._using, _translated(self._path, "read"), self._transaction.cursor() as cursor:
            if cursor.set_range(start):
                for key, value in cursor:
                    if not bytes(key).startswith(start):
                        break
                    found.append((bytes(key)[len(start) :].decode(), value))
        return found

    def close(self) -> None:
        """End the view; its memory views must not be used any more."""
        environment, self._environment = self._environment, None
        if environment is not None:
            self._transaction.abort()
            environment.release()


class WriteTransaction(ReadTransaction):
    """Changes that become visible together or not at all."""

    def put(self, key: str, value: bytes) -> None:
        """Set a key."""
        self._transaction.put(key.encode(), value)

    def delete(self, key: str) -> None:
        """Delete a key, if it is there."""
        self._transaction.delete(key.encode())

    def commit(self) -> None:
        """Make the changes visible and durable."""
        self._transaction.commit()


class Store:
    """The catalog's file. Readers also work where the directory cannot be written."""

    def __init__(self, atlas: Path, *, readonly: bool = True) -> None:
        self.atlas = atlas
        self.path = atlas / _FILE
        if readonly and not self.path.is_file():
            raise AtlasNotFound(atlas)
        if readonly and self.path.stat().st_size == 0:  # LMDB would fill it
            raise AtlasCorrupt(self.path, "it is empty")
        self._environment = _Environment.use(self.path)
        if not readonly:
            self._environment.handle.reader_check()  # those since it was opened

    def read(self) -> ReadTransaction:
        """A new view of the latest revision."""
        return ReadTransaction(self._environment)

    @contextmanager
    def write(self) -> Iterator[WriteTransaction]:
        """A write transaction: commits at the end of the block, aborts on an exception."""
        with _translated(self.path, "write"):
            transaction = WriteTransaction(self._environment, write=True)
            try:
                yield transaction
                transaction.commit()
            finally:
                transaction.close()
        self._environment.extend()

    def check_place(self) -> None:
        """Raise `AtlasReplaced` unless the open file is the one that lies at the path."""
        with suppress(OSError):
            if _identity(self.path) == self._environment.identity:
                return
        raise AtlasReplaced(self.path.parent)

    def close(self) -> None:
        """Let go of the file; it is closed when the last transaction has ended."""
        self._environment.release()


def check_pages(atlas: Path) -> None:
    """Raise `AtlasCorrupt` unless the catalog's pages make a sound tree; does not hand the file to LMDB."""
    from lmdb import verify

    path = atlas / _FILE
    while path.is_file():
        changed = path.stat().st_mtime_ns
        try:
            problems = verify.verify(str(path), subdir=False)
        except verify.VerifyError as error:
            problems = [str(error)]
        if not problems:
            return
        if path.stat().st_mtime_ns == changed:  # else a writer came between
            raise AtlasCorrupt(path, f"its pages are damaged ({problems[0]})")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _open(path: Path) -> Any:
    """Writable where that is allowed, so that a process can write to an atlas that it has open."""
    ways: tuple[dict[str, bool], ...] = ({}, {"readonly": True}, {"readonly": True, "lock": False})
    for way in ways:
        with suppress(PermissionError), _translated(path, "open"):
            return lmdb.open(
                str(path),
                subdir=False,
                map_size=_MAP_SIZE,
                max_readers=_MOST_READERS,
                readahead=False,  # random access to columns
                **way,
            )
    raise AtlasCorrupt(path, "LMDB cannot open it (permission denied)")


@contextmanager
def _translated(path: Path, verb: str) -> Iterator[None]:
    """LMDB's errors as ours."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise AtlasCorrupt(path, "a key is not text") from error
    except lmdb.Error as error:
        raise _translation(path, verb, error) from error


def _translation(path: Path, verb: str, error: lmdb.Error) -> AtlasError | PermissionError:
    """`PermissionError` where the file system forbids."""
    if isinstance(error, lmdb.ReadersFullError):
        return TooManyReaders(path, _MOST_READERS)
    code = error.code
    if code in _FORBIDDEN:
        return PermissionError(code, str(error), str(path))
    little = code == errno.EIO and shutil.disk_usage(path.parent).free < _LITTLE_BYTES
    if isinstance(error, lmdb.DiskError | lmdb.MapFullError) or code in FULL or little:
        return StorageFull(path)
    return AtlasCorrupt(path, f"LMDB cannot {verb} it ({error})")
