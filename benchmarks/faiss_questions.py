"""Cells and signatures that FAISS is asked about."""

import json
import os
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from atlases import Bench
from insignia_index import Atlas
from insignia_model import SearchResult, Signature, read_gmt
from screen_bench import ALL, write_library

# the margins of what can be counted on were chosen on these: a change of them wants another seed as a check
SEED = 11


def typical_cells(paths: Sequence[Path], n: int, least: int) -> list[tuple[str, str]]:
    """Return ``n`` drawn cells ("study:cell_id", cell type) of types that have ``least`` cells or more."""
    obs = pd.concat([anndata.read_h5ad(path, backed="r").obs for path in paths])
    cells = pd.DataFrame(
        {"id": obs["study"].astype(str) + ":" + obs.index, "type": obs["cell_type"].astype(str)}
    )
    cells = cells[cells.groupby("type")["type"].transform("size") >= least]
    drawn = np.random.default_rng(SEED).choice(len(cells), min(n, len(cells)), replace=False)
    return [(cells["id"].iloc[i], cells["type"].iloc[i]) for i in drawn]


def type_of(answer: SearchResult) -> list[str]:
    """Return the cell types of the best cells."""
    return [str(row["cell_type"]) for row in answer.cell_table.rows()]


def held_out_signatures(bench: Bench, atlas: Atlas) -> tuple[list[Signature], str]:
    """Return signatures that are held out of the measurement of recall, and what they are."""
    folder, n = Path(os.environ.get("INSIGNIA_DATA", "/nowhere")) / "signatures", bench.sizes.n_signatures
    libraries = [read_gmt(path) for path in sorted(folder.glob("msigdb_*.gmt*"))]
    source = "MSigDB signatures"
    if not libraries or not bench.sizes.judged:
        path, source = write_library(bench, ALL)
        sets = json.loads(path.read_text())
        libraries = [{name: Signature.of(genes, name) for name, genes in sets.items()}]
    seen = reference_names()
    rng = np.random.default_rng(SEED)
    orders = [
        list(rng.permutation([name for name in sorted(each) if name not in seen])) for each in libraries
    ]
    drawn: list[Signature] = []
    while len(drawn) < n and any(orders):
        for library, order in zip(libraries, orders, strict=True):
            if order and len(drawn) < n:
                signature = library[str(order.pop())]
                if atlas.genes(signature.genes).resolved:
                    drawn.append(signature)
    return drawn, source


def reference_names() -> set[str]:
    """Return the names of the signatures that builds measure their recall on."""
    with as_file(files("insignia_index.dense").joinpath("reference.gmt")) as path:
        return set(read_gmt(path))
