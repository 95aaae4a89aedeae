"""Cells that are found like real ones are of their type.

Needs the whole studies: the environment variable INSIGNIA_DATA names the folder that has attributions/*.h5ad,
or else it is ../shared/data beside the project.
"""

from collections import Counter
from collections.abc import Iterator

import anndata
import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack

from insignia_index import Atlas, InputFile, build_atlas

from .test_real_data import STUDIES, WHOLE

#: Measured: 0.967. Labels are compared as each study writes them: "NK" and "NK cells" differ.
LEAST_AGREEMENT = 0.90
N_QUERIES = 300
LEAST_CELLS = 100


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    files = [WHOLE / "attributions" / f"{name}.h5ad" for name in STUDIES]
    if not all(file.exists() for file in files):
        pytest.skip(f"{WHOLE} has no real studies; set INSIGNIA_DATA to a folder with attributions/*.h5ad")
    path = tmp_path_factory.mktemp("similar") / "atlas"
    build_atlas(path, map(InputFile, files))
    with Atlas.open(path, threads=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def cells(atlas: Atlas) -> list[tuple[str, str]]:
    """All cells, in (study, row) order."""
    chunks = atlas.scores(["CD14"], cell_ids=True).chunks
    return [(chunk.study, cell) for chunk in chunks for cell in chunk.cell_ids]


def test_the_100_cells_most_like_a_cell_are_of_its_type(atlas: Atlas, cells: list[tuple[str, str]]) -> None:
    types = atlas.cells(cells)["cell_type"].to_list()
    counts = Counter(types)
    common = [row for row, name in enumerate(types) if name is not None and counts[name] >= LEAST_CELLS]
    agreement, queried = [], set()
    for row in np.random.default_rng(0).permutation(common)[:N_QUERIES].tolist():
        found = atlas.similar([cells[row]], k=100, group_by=()).cell_table
        assert cells[row] not in set(zip(found["study"].to_list(), found["cell_id"].to_list(), strict=True))
        agreement.append(np.mean([name == types[row] for name in found["cell_type"].to_list()]))
        queried.add(cells[row][0])
    print(f"cell types agree for {np.mean(agreement):.4f} of the hits of {len(agreement)} queries")
    assert queried == set(STUDIES)
    assert np.mean(agreement) >= LEAST_AGREEMENT


def test_the_best_cells_are_those_of_a_sparse_product(atlas: Atlas, cells: list[tuple[str, str]]) -> None:
    files = [WHOLE / "attributions" / f"{name}.h5ad" for name in STUDIES]
    matrix = csr_matrix(vstack([anndata.read_h5ad(file).X for file in files])).astype(np.float64)
    place = {cell: row for row, cell in enumerate(cells)}
    rng = np.random.default_rng(1)
    for n in (1, 1, 1, 3, 500):
        chosen = rng.permutation(len(cells))[:n]
        profile = np.asarray(matrix[chosen].mean(axis=0)).ravel()
        scores = matrix @ profile
        scores[chosen] = -np.inf
        result = atlas.similar([cells[row] for row in chosen], k=100, group_by=())
        # stored as float16: each value within 2**-11, and so is a sum of what is not negative, twice
        np.testing.assert_allclose(result.cells["score"], np.sort(scores)[::-1][:100], rtol=1.2e-3)
        found = [place[row["study"], row["cell_id"]] for row in result.cell_table.rows()]
        assert (scores[found] >= np.sort(scores)[::-1][99] * (1 - 2.4e-3)).all()
        assert result.n_cells == len(cells) - n
