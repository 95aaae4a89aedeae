"""The TileDB arrays of sc-signature. The one module that imports tiledb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.build.errors import CorruptMatrix, ShapeMismatch, UnreadableInput, UnsupportedArray
from insignia_model.optional import extra

#: Entries of one read: 12 bytes each in TileDB's buffers, and as much again in passing.
READ_ENTRIES = 4_000_000
#: A gene's place in its batch is a uint16.
MAX_GENES = 65_536
_BUFFER_BYTES = 8 * READ_ENTRIES  # of each of x, y and vals: twice what is aimed at


class SignatureArray:
    """An open array. ``n_genes``: its genes; ``n_stored``: its entries, overwritten ones included."""

    def __init__(self, path: Path, array: Any, n_stored: int) -> None:
        self.path = path
        self.n_stored = n_stored
        self._array = array
        schema = array.schema
        names = [schema.domain.dim(i).name for i in range(schema.domain.ndim)]
        attributes = [schema.attr(i) for i in range(schema.nattr)]
        if not schema.sparse:
            raise UnsupportedArray(path, "is dense")
        if names != ["x", "y"] or "vals" not in [attribute.name for attribute in attributes]:
            found = f"dimensions {', '.join(names)} and attributes {', '.join(a.name for a in attributes)}"
            raise UnsupportedArray(path, f"has the {found}")
        dtypes = [schema.domain.dim(i).dtype for i in range(2)] + [schema.attr("vals").dtype]
        if any(dtype.kind not in kinds for dtype, kinds in zip(dtypes, ("iu", "iu", "iuf"), strict=True)):
            raise UnsupportedArray(path, f"has x, y and vals of {', '.join(map(str, dtypes))}")
        self._sizes = [int(schema.domain.dim(i).domain[1]) + 1 for i in range(2)]
        self.n_genes = self._sizes[1]

    def check_cells(self, table: Path, n_cells: int) -> None:
        """Raise `ShapeMismatch` unless the array is of ``n_cells`` cells, the rows of ``table``.

        The last cells may have no entry; an array may also have been made with room to spare.
        """
        stored = self._array.nonempty_domain()
        used = 0 if stored is None else int(stored[0][1]) + 1
        if n_cells not in (self._sizes[0], used):
            raise ShapeMismatch(table, "the metadata table", n_cells, self._sizes[0])

    def batches(self, first_gene: int) -> Iterator[Batch]:
        """All entries of the genes from ``first_gene`` on, a range of genes after the other.

        Ranges are chosen so that a batch has about READ_ENTRIES entries, whatever the genes' densities.
        """
        query = self._array.query(attrs=["vals"], order="U", return_incomplete=True)
        n_genes = max(1, READ_ENTRIES * self.n_genes // max(1, self.n_stored))
        while first_gene < self.n_genes:
            last_gene = min(first_gene + min(n_genes, MAX_GENES), self.n_genes)
            n_read = 0
            for part in self._parts(query, first_gene, last_gene):
                n_read += len(part["vals"])
                with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
                    values = part["vals"].astype(np.float32, copy=False)
                yield Batch(first_gene, last_gene, part["x"], part["y"], values)
            yield Batch(last_gene, last_gene, *_NO_ENTRIES)
            n_genes = int(np.clip(n_genes * READ_ENTRIES / max(1, n_read), n_genes / 4 + 1, n_genes * 4))
            first_gene = last_gene

    def _parts(self, query: Any, first_gene: int, last_gene: int) -> Iterator[dict[str, Any]]:
        """Entries of a range of genes: one part, or more where the buffers hold no more."""
        import tiledb

        try:
            yield from query.multi_index[:, first_gene : last_gene - 1]
        except tiledb.TileDBError as error:
            raise CorruptMatrix(
                self.path, f"genes {first_gene:,} to {last_gene:,} cannot be read ({error})"
            ) from error


class Batch:
    """Entries of genes [first_gene, last_gene): cells, genes (integers) and values float32, of one length.

    An empty batch whose ``first_gene`` is its ``last_gene`` says that all genes before are done.
    """

    __slots__ = ("cells", "first_gene", "genes", "last_gene", "values")

    def __init__(
        self,
        first_gene: int,
        last_gene: int,
        cells: npt.NDArray[Any],
        genes: npt.NDArray[Any],
        values: npt.NDArray[np.float32],
    ) -> None:
        self.first_gene, self.last_gene = first_gene, last_gene
        self.cells, self.genes, self.values = cells, genes, values

    @property
    def ends_range(self) -> bool:
        """Whether all genes before ``last_gene`` are done."""
        return self.first_gene == self.last_gene


_NO_ENTRIES = (np.empty(0, np.uint32), np.empty(0, np.uint32), np.empty(0, np.float32))


@contextmanager
def open_array(path: Path) -> Iterator[SignatureArray]:
    """Open an array for reading, as it is now; raises `UnsupportedArray` or `CorruptMatrix`."""
    with extra("tiledb", "Reading the arrays of sc-signature"):
        import tiledb

    config = tiledb.Config({"py.init_buffer_bytes": _BUFFER_BYTES})
    context = tiledb.Ctx(config)
    try:
        if tiledb.object_type(str(path), ctx=context) != "array":
            raise UnreadableInput(path, "it is no TileDB array, or parts of it are missing")
        array = tiledb.open(str(path), ctx=context)
        n_stored = sum(tiledb.array_fragments(str(path), ctx=context).cell_num)
    except tiledb.TileDBError as error:
        raise CorruptMatrix(path, f"TileDB cannot open it ({error})") from error
    with array:
        yield SignatureArray(path, array, n_stored)
