"""Writes the golden atlas of the current format version: ``python -m tests.golden.make``.

Run once a format version. What is committed stays as it is: it is the evidence that later code reads what
earlier code wrote.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tests.index.made import Study, build, study
from tests.index.oracle import Oracle

from insignia_index.format.layout import FORMAT_VERSION

HERE = Path(__file__).parent
SIGNATURES: dict[str, dict[str, float]] = {
    "one": {"G3": 1.0},
    "signed": {"G1": 1.0, "G7": -2.5, "G20": 0.5, "NOSUCH": 1.0},
    "all": {f"G{i}": 1.0 + i / 10 for i in range(45)},
}


def studies() -> list[Study]:
    """Two studies: every kind of container and of column, absent genes, missing values."""
    n = 100
    kinds = {
        "tissue": pd.Categorical((["blood", "lung", None, "skin"] * n)[:n]),
        "age": np.where(np.arange(n) % 7 == 0, np.nan, np.arange(n) / 4),
        "dose": np.arange(n) / 3,
        "n_umi": np.arange(n) * 1000 - 5,
        "batch": pd.array([None if i % 5 == 0 else i % 3 for i in range(n)], dtype="Int64"),
        "doublet": pd.array([None if i % 9 == 0 else i % 2 == 0 for i in range(n)], dtype="boolean"),
        "control": np.arange(n) % 4 == 0,
    }
    first = study("first study", n, 40, density=np.linspace(0, 1, 40), signed=True, **kinds)
    return [first, study("zweite/Studie ü", 33, [f"G{i}" for i in range(30, 50)], tissue=["blood"] * 33)]


def expected(made: list[Study]) -> dict[str, Any]:
    """What the atlas must answer, worked out without it."""
    oracle = Oracle(made)
    cells = oracle.cells.drop(columns="row")
    return {
        "signatures": SIGNATURES,
        "scores": {name: oracle.scores(weights).tolist() for name, weights in SIGNATURES.items()},
        "tolerance": {
            name: oracle.tolerance(weights, "mean", "float16").tolist()
            for name, weights in SIGNATURES.items()
        },
        "cells": json.loads(cells.to_json(orient="records", double_precision=15)),
        "n_postings": sum(int(np.count_nonzero(m.values)) for m in made),
    }


def main() -> None:
    """Write atlas and answers into a folder that must not exist."""
    folder = HERE / f"v{FORMAT_VERSION}"
    if folder.exists():
        sys.exit(f"{folder} exists; golden atlases are added, never written anew")
    folder.mkdir()
    inputs = folder / "inputs"
    inputs.mkdir()
    made = studies()
    build(inputs, made)
    (inputs / "atlas").rename(folder / "atlas")
    shutil.rmtree(inputs)
    for lock in ("writer.lock", "meta.lmdb-lock"):
        (folder / "atlas" / lock).unlink()
    catalog = folder / "atlas" / "meta.lmdb"
    pages = -(-len(catalog.read_bytes().rstrip(b"\0")) // 4096)
    os.truncate(catalog, pages * 4096)  # without the hole that it ends in
    (folder / "expected.json").write_text(json.dumps(expected(made)))


if __name__ == "__main__":
    main()
