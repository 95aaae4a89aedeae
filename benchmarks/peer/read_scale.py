"""Read the first cells of a made .h5ad with h5py alone: the compared packages need no AnnData beside them."""

import importlib.metadata
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

CACHE_DIR = Path(__file__).resolve().parents[1] / ".cache" / "peer"


def read_genes(path: Path) -> list[str]:
    """Return the gene symbols in column order."""
    with h5py.File(path) as file:
        var = file["var"]
        return list(var[var.attrs["_index"]].asstr()[:])


def read_obs(path: Path, n_cells: int) -> pd.DataFrame:
    """Return the metadata of the first n_cells cells; categoricals as object columns, missing as NaN."""
    with h5py.File(path) as file:
        obs = file["obs"]
        frame = pd.DataFrame(index=pd.Index(obs[obs.attrs["_index"]].asstr()[:n_cells], dtype=object))
        for name in obs.attrs["column-order"]:
            column = obs[name]
            if isinstance(column, h5py.Group):
                codes = column["codes"][:n_cells]
                values = np.append(column["categories"].asstr()[:].astype(object), np.nan)
                frame[name] = values[codes]  # code -1 takes the last one, NaN
            else:
                frame[name] = column[:n_cells]
    return frame


def read_matrix(path: Path, n_cells: int) -> sp.csr_matrix:
    """Return the attributions of the first n_cells cells, (n_cells, n_genes) float32."""
    with h5py.File(path) as file:
        x = file["X"]
        indptr = x["indptr"][: n_cells + 1]
        if len(indptr) != n_cells + 1:
            raise ValueError(f"{path} has {len(indptr) - 1} cells, fewer than the {n_cells} asked for")
        parts = (x["data"][: indptr[-1]], x["indices"][: indptr[-1]], indptr)
        return sp.csr_matrix(parts, shape=(n_cells, int(x.attrs["shape"][1])))


def gene_lists(path: Path, genes: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield name and known genes, each once, of every list in the JSON file {name: [symbol, ...]}."""
    known = set(genes)
    for name, symbols in json.loads(path.read_text()).items():
        yield name, [symbol for symbol in dict.fromkeys(symbols) if symbol in known]


def versions(*packages: str) -> dict[str, str]:
    """Return the installed version of each package."""
    return {package: importlib.metadata.version(package) for package in packages}


def process() -> dict[str, Any]:
    """Return what a timing depends on besides the code: the cores it may use; and its peak memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"n_cores": len(os.sched_getaffinity(0)), "max_rss_bytes": peak}


def size_bytes(folder: Path) -> int:
    """Return the sum of the sizes of all files under folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
