"""Folders of cell types in the layout that sc-signature publishes, of any matrix and metadata."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

tiledb = pytest.importorskip("tiledb", reason="needs pip install 'insignia[tiledb]'")


def schema(n_cells: int, n_genes: int, *, sparse: bool = True, names: str = "xy", value: str = "vals") -> Any:
    """As `create_tiledb` of sc-signature makes it, unless told otherwise."""
    sides = zip(names, (n_cells, n_genes), strict=True)
    dimensions = [tiledb.Dim(name=name, domain=(0, n - 1), dtype=np.uint32) for name, n in sides]
    values = tiledb.Attr(name=value, dtype=np.float32, filters=tiledb.FilterList([tiledb.GzipFilter()]))
    order = {"cell_order": "col-major", "tile_order": "col-major"} if sparse else {}
    return tiledb.ArraySchema(tiledb.Domain(*dimensions), attrs=[values], sparse=sparse, **order)


def write_folder(
    folder: Path, values: np.ndarray, cells: pd.DataFrame, *, n_fragments: int = 1, **changes: Any
) -> Path:
    """One cell type: ``values`` (n_cells, n_genes), zeros not stored, in fragments that interleave."""
    folder.mkdir(parents=True)
    uri = str(folder / "attributions")
    tiledb.Array.create(uri, schema(*values.shape, **changes))
    entries = csr_matrix(values).tocoo()
    for i in range(n_fragments if changes.get("sparse", True) else 0):
        part = slice(i, None, n_fragments)
        rows, columns = entries.row[part].astype(np.uint32), entries.col[part].astype(np.uint32)
        if len(rows):
            with tiledb.open(uri, "w") as array:
                array[rows, columns] = entries.data[part]
    cells.to_csv(folder / "cell_metadata.csv.gz")
    return folder


def write_genes(parent: Path, genes: Sequence[str]) -> Path:
    """The gene order of the folders of ``parent``."""
    path = parent / "gene_order.tsv"
    path.write_text("".join(f"{gene}\n" for gene in genes))
    return path


def made_values(rng: np.random.Generator, n_cells: int, n_genes: int, density: float = 0.4) -> np.ndarray:
    """Random attributions float32 (n_cells, n_genes), zeros included."""
    stored = rng.random((n_cells, n_genes)) < density
    return np.where(stored, rng.gamma(1.0, 2.0, stored.shape) + 0.01, 0).astype(np.float32)


def made_cells(studies: Sequence[str], **fields: Sequence[Any]) -> pd.DataFrame:
    """Metadata of cells of these studies, numbered from 0."""
    return pd.DataFrame({"study": list(studies)} | fields)
