"""``pseudobulk.bin``: sums of attributions per gene and unit of cells of one study (docs/format.md)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.format.files import ShardFiles, bytes_digest
from insignia_index.format.layout import aligned, n_words
from insignia_index.format.reader import Shard, map_file
from insignia_index.format.writer import gene_bitmap
from insignia_index.kernels.pseudobulk import sum_units
from insignia_model.errors import AtlasCorrupt

NAME = "pseudobulk.bin"
MAGIC = b"INSGPSB1"
#: Bytes a posting that the sums may take. Where units have few cells there are nearly as many sums as
#: postings: they are then added up when they are asked for, which reads little more than the file would be.
LARGEST_SHARE = 1.0
#: Of the sums being added up.
_BATCH_BYTES = 32 << 20

_POPCOUNT = np.array([byte.bit_count() for byte in range(256)], np.uint8)

HEAD = np.dtype(
    [
        ("magic", "S8"),
        ("n_units", "<u4"),
        ("n_genes", "<u4"),  # length of the vocabulary when the file was written
        ("n_rows", "<u4"),  # genes with a sum that is not 0
        ("reserved", "<u4"),
        ("n_values", "<u8"),
    ]
)


@dataclass(frozen=True, slots=True)
class StudySums:
    """Sums of one study: arrays as in `kernels.pseudobulk`; ``unit_cells`` uint32 (n_units,)."""

    genes: npt.NDArray[np.int64]
    bits: npt.NDArray[np.uint8]
    values: npt.NDArray[np.float32]
    unit_cells: npt.NDArray[np.uint32]

    @property
    def n_units(self) -> int:
        """Units of the study."""
        return len(self.unit_cells)


def write_sums(directory: Path, shard: Shard, units: npt.NDArray[np.int32], n_units: int) -> str | None:
    """Write the file of a shard whose containers were checked; its name, or None if it would not pay.

    ``units`` int32 (n_cells,): the unit of every cell. Memory is bounded by a batch of genes.
    """
    limit = LARGEST_SHARE * shard.n_postings
    rows: list[npt.NDArray[np.int64]] = []
    bits: list[bytes] = []
    n_values, n_bit_bytes = 0, 0
    path = directory / NAME
    with path.open("wb") as file:
        file.write(bytes(HEAD.itemsize))
        # memory is bounded by a batch of genes and a block, not by the study
        for genes, some_bits, values in _batches(shard, units, n_units, shard.release_pages):
            file.write(values.data)
            rows.append(genes)
            bits.append(some_bits.tobytes())
            n_values += len(values)
            n_bit_bytes += len(bits[-1])
            if 4 * n_values + n_bit_bytes > limit:
                break
        else:
            all_rows = np.concatenate([np.empty(0, np.int64), *rows])
            file.write(b"".join(bits).ljust(aligned(n_bit_bytes, 4), b"\0"))
            file.write(np.bincount(units, minlength=n_units).astype("<u4").tobytes())
            file.write(gene_bitmap(all_rows, shard.n_genes).tobytes())
            head = np.array([(MAGIC, n_units, shard.n_genes, len(all_rows), 0, n_values)], HEAD)
            file.seek(0)
            file.write(head.tobytes())
            file.flush()
            os.fsync(file.fileno())
            return NAME
    path.unlink()
    return None


def add_up(shard: Shard, units: npt.NDArray[np.int32], n_units: int) -> StudySums:
    """The same sums from the containers, which must have been checked."""
    parts = list(_batches(shard, units, n_units))
    n_bytes = (n_units + 7) // 8
    bits = np.concatenate([np.empty((0, n_bytes), np.uint8), *(bits for _, bits, _ in parts)])
    values = np.concatenate([np.empty(0, np.float32), *(values for _, _, values in parts)])
    bits.flags.writeable = values.flags.writeable = False  # as those of a file: kernels compile once
    return StudySums(
        genes=np.concatenate([np.empty(0, np.int64), *(genes for genes, _, _ in parts)]),
        bits=bits,
        values=values,
        unit_cells=np.bincount(units, minlength=n_units).astype(np.uint32),
    )


def _batches(
    shard: Shard,
    units: npt.NDArray[np.int32],
    n_units: int,
    after_block: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Any, Any, Any]]:
    """Genes, bits and values of the sums, some genes at a time."""
    step = max(1, _BATCH_BYTES // (8 * max(1, n_units)))
    largest = np.finfo(np.float32).max
    for first in range(0, shard.n_genes, step):
        sums = np.zeros((min(step, shard.n_genes - first), n_units))
        for block in range(len(shard.table)):
            sum_units(shard.table[block : block + 1], first, shard.value_bits == 16, units, sums)
            after_block()
        single = np.clip(sums, -largest, largest, out=sums).astype("<f4")
        rows = np.flatnonzero(single.any(axis=1))
        single = single[rows]
        stored = single != 0
        yield first + rows, np.packbits(stored, axis=1, bitorder="little"), single[stored]


def read_sums(directory: Path, files: ShardFiles, n_cells: npt.NDArray[np.int64]) -> StudySums:
    """The file, mapped; ``n_cells`` int64 (n_units,) as the metadata have it. Raises `AtlasCorrupt`."""
    path = directory / NAME
    raw = np.frombuffer(map_file(path, files.sizes[NAME]), np.uint8)
    if bytes_digest(raw.data) != files.digests[NAME]:
        raise AtlasCorrupt(path, "it does not match the catalog's checksum")
    try:
        sums = _parsed(raw)
    except ValueError as error:
        raise AtlasCorrupt(path, str(error)) from error
    if not np.array_equal(sums.unit_cells, n_cells):
        raise AtlasCorrupt(path, "its units are not those of the metadata")
    return sums


def _parsed(raw: npt.NDArray[np.uint8]) -> StudySums:
    """Arrays over the file's bytes; `ValueError` if they contradict one another."""
    if len(raw) < HEAD.itemsize or bytes(raw[: len(MAGIC)]) != MAGIC:
        raise ValueError("it does not have the mark of pseudobulk sums")
    head = raw[: HEAD.itemsize].view(HEAD)[0]
    n_units, n_rows, n_values = int(head["n_units"]), int(head["n_rows"]), int(head["n_values"])
    n_bytes = (n_units + 7) // 8
    starts = np.cumsum(
        [
            HEAD.itemsize,
            4 * n_values,
            aligned(n_rows * n_bytes, 4),
            4 * n_units,
            8 * n_words(int(head["n_genes"])),
        ]
    )
    if starts[-1] != len(raw):
        raise ValueError("its parts do not add up to its size")
    values = raw[starts[0] : starts[1]].view("<f4")
    bits = raw[starts[1] : starts[1] + n_rows * n_bytes].reshape(n_rows, n_bytes)
    unit_cells = raw[starts[2] : starts[3]].view("<u4")
    genes = np.flatnonzero(np.unpackbits(raw[starts[3] : starts[4]], bitorder="little"))
    # what the kernels trust: no bit of a unit that is not there, a value for every bit, genes in range
    beyond = n_units % 8 and n_rows and (bits[:, -1] >> np.uint8(n_units % 8)).any()
    if beyond or int(_POPCOUNT[bits].sum(dtype=np.int64)) != n_values:
        raise ValueError("its bits do not fit its units and values")
    if len(genes) != n_rows or (n_rows and genes[-1] >= int(head["n_genes"])):
        raise ValueError("its genes do not fit its rows")
    if not np.isfinite(values).all():
        raise ValueError("a sum is not finite")
    return StudySums(genes, bits, values, unit_cells)
