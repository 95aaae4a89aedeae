"""What the catalog remembers of a shard's files, and small disk manners."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from insignia_model.errors import AtlasCorrupt

_CHUNK = 16 << 20


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """Where the head is in postings.bin, and size and xxh3-64 digest of each file."""

    head_offset: int
    head_bytes: int
    head_digest: str
    sizes: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


def unreadable(path: Path, error: OSError, advice: str = "") -> AtlasCorrupt:
    """Error of a file of an atlas that the operating system does not give."""
    problem = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
    return AtlasCorrupt(path, f"it {problem}" + (f"; {advice}" if advice else ""))


def bytes_digest(*parts: bytes | memoryview) -> str:
    """xxh3-64 of the parts' bytes, one after the other, hexadecimal."""
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """xxh3-64 of a file's bytes, hexadecimal."""
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def tree_digest(path: Path) -> str:
    """Digest of a file, or of a directory's files with their relative names."""
    if path.is_file():
        return file_digest(path)
    digest = xxhash.xxh3_64()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path)}\0{file_digest(file)}\0".encode())
    return digest.hexdigest()


def fsync_directory(path: Path) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
