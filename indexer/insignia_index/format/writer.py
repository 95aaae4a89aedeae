"""Writing a shard: blocks as they come, the head at the end."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from insignia_index.format.files import ShardFiles, file_digest, fsync_directory
from insignia_index.format.layout import (
    BITMAP,
    BLOCK,
    BLOCK_CELLS,
    EXPONENT_BIAS,
    EXPONENT_SHIFT,
    FORMAT_VERSION,
    FULL,
    HEAD,
    KIND_SHIFT,
    LIST,
    MAGIC,
    OFFSET_SHIFT,
    aligned,
    directory_bytes,
    n_words,
)
from insignia_index.kernels.transpose import encode_genes, gene_magnitudes

_BATCH_BYTES = 32 << 20  # encoded and written at once; more gains nothing and costs memory


class ShardWriter:
    """Writes ``postings.bin`` and ``genes.bin`` of one study into ``directory``, block by block.

    The directory's name is the shard's: it ends in ``@`` and the shard's number.
    """

    def __init__(self, directory: Path, n_genes: int, value_bits: int) -> None:
        self.directory = directory
        self.n_genes = n_genes
        self.value_bits = value_bits
        self.n_postings = 0
        self._blocks: list[tuple[int, ...]] = []
        self._directories: list[bytes] = []
        self._path = directory / "postings.bin"
        self._file = self._path.open("wb")
        self._file.write(MAGIC.ljust(64, b"\0"))  # a 64-byte prologue keeps block data aligned

    def add_block(
        self,
        n_cells: int,
        chunk_starts: npt.NDArray[np.int64],
        ids: npt.NDArray[np.uint16],
        values: npt.NDArray[np.float32],
    ) -> None:
        """Encode the postings of one block; see `encode_genes` for the arrays."""
        counts = np.diff(chunk_starts, axis=1).sum(axis=0)
        genes = np.flatnonzero(counts)
        exponents = self._exponents(gene_magnitudes(chunk_starts, values)[genes])
        entries, sizes = plan_containers(counts[genes], exponents, n_cells, self.value_bits // 8)
        checks = np.empty(len(genes), np.uint32)
        offset = self._align()
        self._file.write(entries.tobytes())
        checks_at = self._file.tell()
        self._file.write(checks.tobytes())
        self._align()
        for first, last in _batches(sizes):
            out = np.zeros(int(sizes[first:last].sum()), np.uint8)
            encode_genes(
                genes[first:last], entries[first:last], sizes[first:last], chunk_starts, ids, values,
                n_cells, self.value_bits // 8, out, checks[first:last],
            )  # fmt: skip
            self._file.write(out.data)
        self._rewrite(checks_at, checks.tobytes())
        n_postings = int(counts.sum())
        self._blocks.append((n_cells, len(genes), offset, int(sizes.sum()), n_postings))
        self._directories.append(gene_directory(genes, self.n_genes))
        self.n_postings += n_postings

    def finish(self, statistics: GeneStatistics) -> ShardFiles:
        """Write the head and the statistics, flush everything to disk, and describe the files."""
        head_offset = self._align()
        head = self._head()
        self._file.write(head)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        genes_path = self.directory / "genes.bin"
        with genes_path.open("wb") as file:
            file.write(statistics.to_bytes())
            file.flush()
            os.fsync(file.fileno())
        fsync_directory(self.directory)
        return ShardFiles(
            head_offset=head_offset,
            head_bytes=len(head),
            head_digest=xxhash.xxh3_64_hexdigest(head),
            sizes={p.name: p.stat().st_size for p in (self._path, genes_path)},
            digests={p.name: file_digest(p) for p in (self._path, genes_path)},
        )

    def close(self) -> None:
        """Close the file of an abandoned shard."""
        self._file.close()

    def _exponents(self, magnitudes: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Exponents that bring magnitudes to 2**14 ... 2**15; 0 where values are stored as they are."""
        if self.value_bits == 32:
            return np.zeros(len(magnitudes), np.int64)
        exponents = 15 - np.frexp(magnitudes)[1].astype(np.int64)
        return np.asarray(np.clip(exponents, 2 - EXPONENT_BIAS, EXPONENT_BIAS - 2))

    def _head(self) -> bytes:
        head = np.zeros(1, HEAD)
        blocks = np.array(self._blocks, dtype=BLOCK)
        n_cells = int(blocks["n_cells"].sum(dtype=np.int64))
        head[0] = (
            MAGIC,
            FORMAT_VERSION,
            self.value_bits,
            n_cells,
            self.n_postings,
            self.n_genes,
            len(blocks),
            int(self.directory.name.rpartition("@")[2]),
        )
        return head.tobytes() + blocks.tobytes() + b"".join(self._directories)

    def _align(self) -> int:
        position = self._file.tell()
        self._file.write(bytes(aligned(position) - position))
        return aligned(position)

    def _rewrite(self, position: int, data: bytes) -> None:
        self._file.seek(position)
        self._file.write(data)
        self._file.seek(0, os.SEEK_END)


class GeneStatistics:
    """Per gene over a whole shard: detecting cells (int64), sum (float64), maximum (float32)."""

    def __init__(self, n_genes: int) -> None:
        self.n_cells = np.zeros(n_genes, np.int64)
        self.total = np.zeros(n_genes, np.float64)
        self.maximum = np.full(n_genes, -np.inf, np.float32)

    def to_bytes(self) -> bytes:
        """Of the genes with a posting: gene bitmap, then uint32 cells, float32 sums, float32 maxima."""
        present = np.flatnonzero(self.n_cells)
        return (
            gene_bitmap(present, len(self.n_cells)).tobytes()
            + self.n_cells[present].astype("<u4").tobytes()
            + self.total[present].astype("<f4").tobytes()
            + self.maximum[present].astype("<f4").tobytes()
        )


def plan_containers(
    counts: npt.NDArray[np.int64], exponents: npt.NDArray[np.int64], n_cells: int, value_bytes: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Directory entries (uint64) and byte sizes (int64) of containers with these counts and exponents.

    Every container takes the smallest of its three encodings; measured, that is also the fastest
    (docs/decisions/0001-containers.md).
    """
    if n_cells > BLOCK_CELLS:
        raise ValueError(f"a block has at most {BLOCK_CELLS} cells, not {n_cells}")
    options = np.empty((3, len(counts)), np.int64)
    options[LIST] = aligned_array(counts * (2 + value_bytes))
    options[BITMAP] = aligned_array(aligned(n_cells, 32) // 8 + counts * value_bytes)
    options[FULL] = aligned(n_cells * value_bytes, 4)
    kinds = options.argmin(axis=0)
    sizes = options.min(axis=0)
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if len(sizes) else sizes
    entries = (
        (counts - 1).astype(np.uint64)
        | (kinds.astype(np.uint64) << KIND_SHIFT)
        | ((exponents + EXPONENT_BIAS).astype(np.uint64) << EXPONENT_SHIFT)
        | ((offsets // 4).astype(np.uint64) << OFFSET_SHIFT)
    )
    return entries, sizes


def aligned_array(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sizes rounded up to multiples of 4."""
    return (sizes + 3) // 4 * 4


def gene_bitmap(genes: npt.NDArray[np.int64], n_genes: int) -> npt.NDArray[np.uint64]:
    """Bitmap of gene ids, uint64 (n_words,), bit g of word g // 64."""
    bits = np.zeros(n_words(n_genes) * 64, np.uint8)
    bits[genes] = 1
    return np.packbits(bits, bitorder="little").view("<u8")


def gene_directory(genes: npt.NDArray[np.int64], n_genes: int) -> bytes:
    """Bitmap of the block's genes and, per word, how many genes stand before it."""
    words = gene_bitmap(genes, n_genes)
    per_word = np.bincount(genes >> 6, minlength=len(words))
    ranks = (np.cumsum(per_word) - per_word).astype("<u4")
    return (words.tobytes() + ranks.tobytes()).ljust(directory_bytes(n_genes), b"\0")


def _batches(sizes: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs [first, last) of containers of about _BATCH_BYTES each."""
    batch = np.cumsum(sizes) // _BATCH_BYTES
    edges = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(sizes)] if len(sizes) else [0]
    return [(a, b) for a, b in pairwise(edges) if a < b]
