"""Made-up studies, and atlases of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem
from scipy.sparse import csr_matrix

from insignia_index import InputFile, build_atlas


@dataclass(frozen=True, repr=False)
class Study:
    """Attributions ``values`` float32 (n_cells, n_genes), zeros included, and what they are of."""

    name: str
    values: np.ndarray
    genes: Sequence[str]
    obs: pd.DataFrame

    def __repr__(self) -> str:
        return f"<Study {self.name!r} {self.values.shape}>"

    def with_(self, **changes: Any) -> "Study":
        """A copy with some attributes changed."""
        return replace(self, **changes)


def study(
    name: str,
    n_cells: int = 40,
    genes: int | Sequence[str] = 12,
    *,
    density: float | Sequence[float] = 0.4,
    seed: int = 0,
    signed: bool = False,
    **fields: Sequence[Any],
) -> Study:
    """Random study of cells c0, c1, ... in samples of ten; ``density`` for all genes or one each."""
    genes = [f"G{i}" for i in range(genes)] if isinstance(genes, int) else list(genes)
    rng = np.random.default_rng([seed, *name.encode()])
    stored = rng.random((n_cells, len(genes))) < np.asarray(density)
    values = np.where(stored, rng.gamma(1.0, 2.0, stored.shape) + 0.01, 0).astype(np.float32)
    if signed:
        values *= rng.choice([-1, 1], values.shape)
    columns = {"sample": [f"{name}-s{i // 10}" for i in range(n_cells)]} | fields
    obs = pd.DataFrame(columns, index=pd.Index([f"c{i}" for i in range(n_cells)], dtype=object))
    return Study(name, values, genes, obs)


def write_h5ad(path: Path, made: Study, *, matrix: Any = None, study_field: str | None = "study") -> Path:
    """The study as .h5ad, as CSR unless another ``matrix`` is given."""
    obs = made.obs if study_field is None else made.obs.assign(**{study_field: made.name})
    texts = [name for name in obs if obs[name].dtype == object]
    obs = obs.astype(dict.fromkeys(texts, "category"))  # as AnnData does: HDF5 has no missing text
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        write_elem(file, "X", csr_matrix(made.values) if matrix is None else matrix)
        write_elem(file, "obs", obs)
        write_elem(file, "var", pd.DataFrame(index=pd.Index(list(made.genes), dtype=object)))
    return path


def build(folder: Path, studies: Sequence[Study], *, atlas: str = "atlas", **options: Any) -> Path:
    """Atlas of the studies, one file each."""
    files = [InputFile(write_h5ad(folder / f"{i}.h5ad", made)) for i, made in enumerate(studies)]
    build_atlas(folder / atlas, files, **options)
    return folder / atlas


@contextmanager
def blocks_of(n_cells: int) -> Iterator[None]:
    """Builds inside write blocks of at most so many cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("insignia_index.build.study.BLOCK_CELLS", n_cells)
        patch.setattr("insignia_index.build.rows._CHUNK_CELLS", max(1, n_cells // 2))
        yield


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its content, without the lock files."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("writer.lock", "meta.lmdb-lock")
    }
