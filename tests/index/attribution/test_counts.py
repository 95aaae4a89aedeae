"""What a matrix holds is recognised, or refused with the reason."""

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from insignia_index.attribution.alignment import align
from insignia_index.attribution.counts import as_counts, choose, recognise
from insignia_index.attribution.errors import BadCount, NotCounts, TooFewGenes
from insignia_index.build.inputs import InputFile
from insignia_model.errors import InvalidArgument

from .models import counts

COUNTS = counts(60)
SUMS = np.maximum(COUNTS.sum(axis=1), 1)
PER_10K = csr_matrix(COUNTS.multiply(1e4 / SUMS), dtype=np.float32)
LOGGED = PER_10K.log1p()
SCALED = csr_matrix(LOGGED.toarray() - 0.5)


def file(folder: Path, x: Any, raw: Any = None, **layers: Any) -> InputFile:
    made = anndata.AnnData(x, pd.DataFrame(index=[f"c{i}" for i in range(60)]))
    made.var_names = [f"G{i}" for i in range(40)]
    if raw is not None:
        made.X = raw
        made.raw = made
        made.X = x
    made.layers.update(layers)
    path = folder / "cells.h5ad"
    made.write_h5ad(path)
    return InputFile(path)


@pytest.mark.parametrize(
    ("rows", "kind", "total"),
    [
        (COUNTS, "counts", 0),
        (PER_10K, "normalised", 1e4),
        (LOGGED, "log-normalised", 1e4),
        (csr_matrix(COUNTS.multiply(300 / SUMS)).log1p(), "log-normalised", 300),
        (SCALED, "with negative values", 0),
        (COUNTS * 0, "all zero", 0),
        (LOGGED[:, :20], "neither whole numbers", 0),  # genes were left out afterwards
        (COUNTS * 0.3, "neither whole numbers", 0),
    ],
)
def test_a_matrix_is_recognised(rows: csr_matrix, kind: str, total: float) -> None:
    found = recognise(csr_matrix(rows, dtype=np.float32))
    assert found.kind.startswith(kind)
    assert found.total == pytest.approx(total, rel=1e-3)


def test_values_that_are_no_numbers_are_recognised() -> None:
    for bad in (np.nan, np.inf):
        rows = COUNTS.copy()
        rows.data[5] = bad
        assert recognise(rows).kind == "with values that are NaN or infinite"


@pytest.mark.parametrize(
    ("matrices", "chosen"),
    [
        ({"x": LOGGED, "counts": COUNTS}, "counts"),
        ({"x": COUNTS, "counts": LOGGED}, "X"),
        ({"x": SCALED, "raw": COUNTS}, "raw"),
        ({"x": LOGGED, "raw": COUNTS}, "raw"),  # counts come first, wherever they are
        ({"x": SCALED, "raw": LOGGED}, "raw"),
        ({"x": COUNTS, "other": LOGGED}, "X"),
    ],
)
def test_counts_are_found_in_a_layer_in_x_or_in_raw(
    tmp_path: Path, matrices: dict[str, Any], chosen: str
) -> None:
    name, _ = choose(file(tmp_path, **matrices), "auto", "auto", uses_depth=False)
    assert name == chosen


def test_a_matrix_can_be_named_and_its_values_told(tmp_path: Path) -> None:
    cells = file(tmp_path, COUNTS, other=csr_matrix(COUNTS * 0.3))
    assert choose(cells, "other", "counts", uses_depth=True)[0] == "other"
    with pytest.raises(NotCounts, match="'other' is neither whole numbers nor"):
        choose(cells, "other", "auto", uses_depth=True)


def test_a_model_that_needs_counts_refuses_normalised_values(tmp_path: Path) -> None:
    cells = file(tmp_path, LOGGED)
    assert choose(cells, "auto", "auto", uses_depth=False)[1].kind == "log-normalised"
    with pytest.raises(
        NotCounts, match=r"'X' is log-normalised, 10,000 a cell; the model needs counts; .*--co"
    ):
        choose(cells, "auto", "auto", uses_depth=True)


@pytest.mark.parametrize("rows", [LOGGED, PER_10K, COUNTS])
def test_what_was_normalised_is_as_good_as_counts(rows: csr_matrix) -> None:
    found = as_counts(Path("f"), "X", csr_matrix(rows, dtype=np.float32), recognise(rows), 0, given=False)
    shares = found.toarray() / np.maximum(found.sum(axis=1), 1e-9)
    np.testing.assert_allclose(shares, COUNTS.toarray() / SUMS, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "value", "said"),
    [
        (COUNTS, np.nan, "has a value that is NaN or infinite"),
        (COUNTS, -1, "has a negative value"),
        (COUNTS, 0.5, "has a value that is no whole number, unlike others"),
        (LOGGED, 20, "sums to "),
    ],
)
def test_a_value_further_on_that_does_not_fit_names_its_row(
    rows: csr_matrix, value: float, said: str
) -> None:
    holds = recognise(rows)
    rows = rows.copy()
    rows.data[rows.indptr[7]] = value
    with pytest.raises(BadCount, match=rf"f: matrix 'X', row 1,007 {said}"):
        as_counts(Path("f"), "X", rows, holds, 1000, given=False)


def test_genes_are_aligned_by_every_name_they_have() -> None:
    genes = ["RIPOR2", "WARS", "TP53", "GAPDH", "LYZ"]
    names = ["FAM65B", "WARS1", "ENSG00000141510.5", "GAPDH", "gapdh", "NOSUCH", "LYZ", "LYZ"]
    found = align(Path("f"), names, genes, strict=False, least=None)
    expected = np.zeros((8, 5))
    expected[[0, 1, 2, 3, 6, 7], [0, 1, 2, 3, 4, 4]] = 1
    np.testing.assert_array_equal(found.selector.toarray(), expected)
    assert found.ways == {"exact": 2, "previous": 2, "ensembl": 1}
    assert (found.n_summed, found.measured.tolist()) == (1, [0, 1, 2, 3, 4])
    exact = align(Path("f"), names, genes, strict=True, least=None)
    assert exact.measured.tolist() == [3, 4]


def test_two_inexact_names_of_one_gene_are_left_out() -> None:
    found = align(Path("f"), ["FAM65B", "C6orf32"], ["RIPOR2", "LYZ"], strict=False, least=0)
    assert (found.measured.tolist(), found.n_ambiguous) == ([], 2)


def test_too_few_genes_are_an_error_with_the_number() -> None:
    with pytest.raises(TooFewGenes, match=r"1 of the model's 4 genes are there, 2 are needed; .*: LYZ, X1"):
        align(Path("f"), ["LYZ", "X1"], ["LYZ", "CD14", "CD4", "CD8A"], strict=False, least=None)
    assert len(align(Path("f"), ["LYZ"], ["LYZ", "CD14", "CD4"], strict=False, least=1).measured) == 1


def test_what_the_values_are_said_to_be_finds_the_matrix_that_looks_like_it(tmp_path: Path) -> None:
    made = file(tmp_path, LOGGED, counts=COUNTS)
    assert choose(made, "auto", "log-normalised", False)[0] == "X"
    assert choose(made, "auto", "counts", False)[0] == "counts"
    assert choose(made, "counts", "normalised", False)[0] == "counts"  # as it was said
    with pytest.raises(InvalidArgument, match=r"'counts' is counts; 'X' is log-normalised.*--counts"):
        choose(made, "auto", "normalised", False)


def test_a_matrix_that_cannot_be_read_does_not_stand_in_the_way_of_another(tmp_path: Path) -> None:
    assert choose(file(tmp_path, csc_matrix(COUNTS), counts=COUNTS), "auto", "auto", False)[0] == "counts"
    made = file(tmp_path, csc_matrix(COUNTS), counts=SCALED)
    with pytest.raises(NotCounts, match=r"'X' is not readable \(the matrix is stored as CSC"):
        choose(made, "auto", "auto", False)
