"""Made attributions in the layout that sc-signature publishes: a folder per cell type, made once.

The arrays have the schema of its `create_tiledb` and are written by tiledb itself, which is much faster; the
tests read arrays that sc-signature wrote.
"""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import tiledb
from anndata.io import read_elem, sparse_dataset
from scipy.sparse import csr_matrix

UNKNOWN = "unknown"  # cells without a type


def signature_folders(source: Path, cache_dir: Path) -> Path:
    """Return the folder of the cell types of a scale file, studies interleaved, and gene_order.tsv."""
    path = cache_dir / f"signature-folders-{source.stem}"
    if path.exists():
        return path
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        with h5py.File(source) as file:
            obs: pd.DataFrame = read_elem(file["obs"])
            genes = read_elem(file["var"]).index
            (partial / "gene_order.tsv").write_text("".join(f"{gene}\n" for gene in genes))
            types = obs["cell_type"].astype(object).fillna(UNKNOWN).to_numpy()
            obs = obs.rename(columns={"cell_type": "prediction"}).assign(prediction=types)
            for cell_type in sorted(set(types)):
                rows = np.flatnonzero(types == cell_type)
                # a fixed order in which no study's cells lie together
                order = np.random.default_rng(0).permutation(len(rows))
                matrix = csr_matrix(sparse_dataset(file["X"])[rows])[order]
                write_folder(partial / cell_type.replace("/", "_"), matrix, obs.iloc[rows[order]])
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def write_folder(folder: Path, matrix: csr_matrix, cells: pd.DataFrame) -> None:
    """Write the array and the metadata of one cell type."""
    folder.mkdir(parents=True)
    uri = str(folder / "attributions")
    tiledb.Array.create(uri, schema(*matrix.shape))
    entries = matrix.tocoo()
    with tiledb.open(uri, "w") as array:
        array[entries.row.astype(np.uint32), entries.col.astype(np.uint32)] = entries.data
    cells.to_csv(folder / "cell_metadata.csv.gz")


def schema(n_cells: int, n_genes: int) -> tiledb.ArraySchema:
    """Return the schema of an array of `create_tiledb`."""
    sides = (("x", n_cells), ("y", n_genes))
    dimensions = [tiledb.Dim(name, domain=(0, n - 1), dtype=np.uint32) for name, n in sides]
    values = tiledb.Attr("vals", dtype=np.float32, filters=tiledb.FilterList([tiledb.GzipFilter()]))
    return tiledb.ArraySchema(
        tiledb.Domain(*dimensions),
        attrs=[values],
        sparse=True,
        cell_order="col-major",
        tile_order="col-major",
    )
