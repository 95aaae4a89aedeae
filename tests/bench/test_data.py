"""The real cells that the repository carries."""

from pathlib import Path

import anndata
import numpy as np
import pytest

from insignia_model import read_gmt

DATA = Path(__file__).resolve().parents[1] / "data"
FILES = sorted(DATA.glob("*.h5ad"))
FIELDS = {"study", "sample", "disease", "tissue", "cell_type", "condition"}


def test_they_are_small_enough_to_carry():
    assert [file.stem for file in FILES] == ["baron2016", "kang2018", "pbmc3k"]
    assert sum(file.stat().st_size for file in DATA.iterdir() if file.is_file()) < 25e6


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_study_is_one_that_an_atlas_can_be_built_from(file):
    data = anndata.read_h5ad(file)
    assert set(data.obs.columns) >= FIELDS
    assert (data.obs["study"] == file.stem).all()
    assert data.obs_names.is_unique
    assert data.n_vars == 28_231
    assert data.uns["attribution"]["absolute"]
    np.testing.assert_allclose(data.X.sum(axis=1), 1000, rtol=1e-3)


def test_all_studies_have_the_same_genes():
    first, *others = (anndata.read_h5ad(file).var_names for file in FILES)
    assert all(first.equals(other) for other in others)


def test_the_signatures_are_known_sets():
    sets = read_gmt(DATA / "signatures.gmt")
    assert {"HALLMARK_INTERFERON_ALPHA_RESPONSE", "MS1", "BETA_CELL_MARKERS"} <= set(sets)
    genes = set(anndata.read_h5ad(FILES[0], backed="r").var_names)
    assert sum(gene in genes for gene in sets["MS1"].genes) == 86
