"""Opening a shard: one mapping, checked before anything points into it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.format.files import ShardFiles, bytes_digest, file_digest, unreadable
from insignia_index.format.layout import (
    ALIGN,
    BLOCK,
    BLOCK_CELLS,
    FORMAT_VERSION,
    HEAD,
    MAGIC,
    aligned,
    directory_bytes,
    n_words,
)
from insignia_index.kernels.directory import (
    CHECKS,
    ENTRIES,
    FIRST_ROW,
    N_CELLS,
    N_ENTRIES,
    N_WORDS,
    PAYLOAD,
    PAYLOAD_BYTES,
    RANKS,
    TABLE_COLUMNS,
    WORDS,
)
from insignia_model.errors import AtlasCorrupt, UnsupportedFormat


class Shard:
    """One study's postings, memory-mapped read-only. Stays valid after its files are removed."""

    def __init__(self, directory: Path, files: ShardFiles) -> None:
        self.directory = directory
        self.path = directory / "postings.bin"
        self._map = map_file(self.path, files.sizes["postings.bin"])
        # numpy keeps the mapping alive; addresses below are into this array
        self._bytes = np.frombuffer(self._map, np.uint8)
        head = self._checked_head(files)
        self.n_cells = int(head["n_cells"])
        self.n_genes = int(head["n_genes"])
        self.n_postings = int(head["n_postings"])
        self.value_bits = int(head["value_bits"])
        self.table = self._block_table(files, int(head["n_blocks"]))
        #: genes whose containers were checked in this process
        self.checked = np.zeros(self.n_genes, np.bool_)
        #: blocks of which all containers were checked
        self.checked_blocks = np.zeros(len(self.table), np.bool_)

    def release_pages(self) -> None:
        """Give the pages of the mapping back; they are read again when they are needed."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def _checked_head(self, files: ShardFiles) -> Any:
        start, stop = files.head_offset, files.head_offset + files.head_bytes
        if start % ALIGN or files.head_bytes < HEAD.itemsize or stop > len(self._bytes):
            raise AtlasCorrupt(self.path, "its head lies outside of the file")
        raw = self._bytes[start:stop]
        head = raw[: HEAD.itemsize].view(HEAD)[0]
        if bytes(head["magic"]) != MAGIC:
            raise AtlasCorrupt(self.path, "it does not have the mark of a shard")
        if head["version"] != FORMAT_VERSION:
            raise UnsupportedFormat(self.path, int(head["version"]), f"version {FORMAT_VERSION}")
        if bytes_digest(raw.data) != files.head_digest:
            raise AtlasCorrupt(self.path, "its head does not match the catalog's checksum")
        return head

    def _block_table(self, files: ShardFiles, n_blocks: int) -> npt.NDArray[np.int64]:
        step, words = directory_bytes(self.n_genes), n_words(self.n_genes)
        if HEAD.itemsize + n_blocks * (BLOCK.itemsize + step) != files.head_bytes:
            raise AtlasCorrupt(self.path, "its head has the wrong length")
        at = files.head_offset + HEAD.itemsize
        blocks = self._bytes[at : at + n_blocks * BLOCK.itemsize].view(BLOCK)
        at += blocks.nbytes
        self._check_directories(self._bytes[at : at + n_blocks * step].reshape(n_blocks, step))
        base = self._bytes.ctypes.data
        directory, rows, first_row = base + at, [], 0
        # Python's integers: few blocks a study, and no overflow
        for n_cells, n_entries, offset, payload_bytes, _ in blocks.tolist():
            payload = aligned(offset + 12 * n_entries)
            if offset % ALIGN or payload + payload_bytes > files.head_offset or n_cells > BLOCK_CELLS:
                raise AtlasCorrupt(self.path, "a block lies outside of its place")
            rows.append({
                WORDS: directory, RANKS: directory + 8 * words, N_WORDS: words,
                ENTRIES: base + offset, CHECKS: base + offset + 8 * n_entries, N_ENTRIES: n_entries,
                PAYLOAD: base + payload, PAYLOAD_BYTES: payload_bytes,
                N_CELLS: n_cells, FIRST_ROW: first_row,
            })  # fmt: skip
            directory += step
            first_row += n_cells
        if first_row != self.n_cells:
            raise AtlasCorrupt(self.path, "its blocks do not add up to its cells")
        columns = range(TABLE_COLUMNS)
        return np.array([[row[c] for c in columns] for row in rows], np.int64).reshape(-1, TABLE_COLUMNS)

    def _check_directories(self, directories: npt.NDArray[np.uint8]) -> None:
        """Raise `AtlasCorrupt` if a block has a gene that was not in the vocabulary of its time."""
        spare = self.n_genes % 64
        if spare:
            end = 8 * n_words(self.n_genes)
            last = np.ascontiguousarray(directories[:, end - 8 : end]).view("<u8")
            if (last >> np.uint64(spare)).any():
                raise AtlasCorrupt(self.path, "a block has a gene that is not in the vocabulary")


def verify_files(directory: Path, files: ShardFiles) -> None:
    """Compare size and digest of every file of a shard with the catalog; raises `AtlasCorrupt`."""
    for name, size in files.sizes.items():
        path = directory / name
        try:
            found, digest = path.stat().st_size, file_digest(path)
        except OSError as error:
            raise unreadable(path, error) from error
        if found != size:
            raise AtlasCorrupt(path, f"it has {found:,} bytes, the catalog says {size:,}")
        if digest != files.digests[name]:
            raise AtlasCorrupt(path, "it does not match the catalog's checksum")


def map_file(path: Path, size_bytes: int) -> mmap.mmap:
    """Map a file that must have so many bytes; raises `AtlasCorrupt`."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        found = os.fstat(descriptor).st_size
        if found != size_bytes or not found:
            raise AtlasCorrupt(path, f"it has {found:,} bytes, the catalog says {size_bytes:,}")
        return mmap.mmap(descriptor, size_bytes, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
