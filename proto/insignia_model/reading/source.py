"""Where signatures are read from: a file, plain or compressed, an open file, or standard input."""

from __future__ import annotations

import gzip
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from insignia_model.errors import InvalidSignature

SignatureFile: TypeAlias = str | Path | IO[str] | IO[bytes]

STDIN = "-"
_GZIP = b"\x1f\x8b"
_WORKBOOKS = (".xlsx", ".xls", ".ods")


@dataclass(frozen=True, slots=True)
class Source:
    """The text, and what it is called: ``name`` in errors, ``stem`` where a signature has no name of its own.

    ``suffix``: the last one, in lower case, without .gz; empty if unknown.
    """

    name: str
    stem: str
    suffix: str
    text: str

    def error(self, problem: str, line: int | None = None) -> InvalidSignature:
        """What is wrong with the file, and in which line (from 1)."""
        return InvalidSignature(self.name, problem if line is None else f"line {line:,}: {problem}")


def open_source(file: SignatureFile) -> Source:
    """Text of a path, of an open file (text or bytes), or of standard input (``-``)."""
    if isinstance(file, str | Path) and str(file) != STDIN:
        return _source(Path(file), str(file), _bytes_of(Path(file)))
    if isinstance(file, str | Path):
        return _source(None, "standard input", sys.stdin.buffer.read())
    called = getattr(file, "name", None)
    path = Path(called) if isinstance(called, str) else None
    return _source(path, str(path or "the open file"), file.read())


def _bytes_of(path: Path) -> bytes:
    if path.suffix.lower() in _WORKBOOKS:
        raise InvalidSignature(str(path), "is a workbook; save the sheet as CSV")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSignature(str(path), f"cannot be read: {error.strerror or error}") from error


def _source(path: Path | None, name: str, content: str | bytes) -> Source:
    if path is not None and path.suffix.lower() == ".gz":
        compressed, path = True, path.with_suffix("")
    else:
        compressed = isinstance(content, bytes) and content.startswith(_GZIP)
    stem, suffix = ("signature", "") if path is None else (path.stem, path.suffix.lower())
    if isinstance(content, bytes):
        try:
            content = (gzip.decompress(content) if compressed else content).decode("utf-8-sig")
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidSignature(name, f"cannot be read as gzip: {error}") from error
        except UnicodeDecodeError as error:
            raise InvalidSignature(name, f"cannot be read as UTF-8 text: {error}") from error
    return Source(name, stem, suffix, content.removeprefix("\ufeff"))
