"""Scores of real attributions equal scipy's.

The committed subset is always used; the whole studies if the environment variable INSIGNIA_DATA, or else the
folder ../shared/data beside the project, has them.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy.sparse import csc_matrix, vstack

from insignia_index import Atlas, HitRule, InputFile, Signature, build_atlas, read_gmt

PROJECT = Path(__file__).parents[2]
SUBSET = PROJECT / "tests" / "data"
WHOLE = Path(os.environ.get("INSIGNIA_DATA", PROJECT.parent / "shared" / "data"))
SOURCES = {"subset": SUBSET, "whole": WHOLE / "attributions"}
STUDIES = ("baron2016", "kang2018", "pbmc3k")  # in the order of an atlas
TOLERANCE = {"float16": 1e-3, "float32": 1e-6}


@pytest.fixture(scope="module", params=SOURCES)
def source(request: pytest.FixtureRequest) -> Path:
    folder = SOURCES[request.param]
    if not all((folder / f"{name}.h5ad").exists() for name in STUDIES):
        pytest.skip(
            f"{folder} has no real studies; set INSIGNIA_DATA to a folder that has attributions/*.h5ad"
        )
    return folder


@pytest.fixture(scope="module")
def matrix(source: Path) -> tuple[csc_matrix, list[str]]:
    """All attributions by gene, and the genes."""
    studies = [anndata.read_h5ad(source / f"{name}.h5ad") for name in STUDIES]
    assert all((study.var_names == studies[0].var_names).all() for study in studies)
    return csc_matrix(vstack([study.X for study in studies])), list(studies[0].var_names)


@pytest.fixture(scope="module", params=["float16", "float32"])
def atlas(
    source: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Atlas]:
    path = tmp_path_factory.mktemp("real") / "atlas"
    files = [InputFile(source / f"{name}.h5ad") for name in STUDIES]
    build_atlas(path, files, value_dtype=request.param)
    with Atlas.open(path, threads=2) as opened:
        yield opened


def signatures() -> list[Signature]:
    hallmark = WHOLE / "signatures" / "msigdb_hallmark.v2023.2.Hs.symbols.gmt"
    found = dict(read_gmt(SUBSET / "signatures.gmt"))
    if hallmark.exists():
        found |= dict(islice(read_gmt(hallmark).items(), 0, None, 6))
    return list(found.values())


def test_scores_and_best_cells_equal_those_of_a_sparse_product(
    atlas: Atlas, matrix: tuple[csc_matrix, list[str]]
) -> None:
    attributions, genes = matrix
    column = {gene: i for i, gene in enumerate(genes)}
    limit = TOLERANCE[atlas.info().value_dtype]
    for signature in signatures():
        used = [gene for gene in signature.genes if gene in column]
        wanted = np.asarray(
            attributions[:, [column[gene] for gene in used]].astype(np.float64).mean(axis=1)
        ).ravel()
        assert set(atlas.genes(signature.genes).problems()) == set(signature.genes) - set(used)
        found = atlas.scores(used)
        assert not found.genes.problems()
        error = np.abs(found.values - wanted)
        assert (error <= limit * np.abs(wanted)).all(), signature.name
        result = atlas.search(used, k=100)
        best = np.sort(wanted)[::-1][:100]
        np.testing.assert_allclose(result.cell_table["score"].values, best, rtol=2 * limit, atol=1e-12)
        if limit < 1e-4:
            hits = wanted > np.percentile(wanted, HitRule().value)
            assert result.n_hits == hits.sum()
