"""The codec: a projection of attributions, learned once for an atlas, that FAISS works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from insignia_index.kernels.rows import inner_products, project_query
from insignia_model.errors import AtlasCorrupt

#: Genes whose part in a projection is taken back exactly when candidates are refined; see `residual`.
_SUPPORT = 2_048
_N_ITER = 2
_OVERSAMPLES = 10


@dataclass(frozen=True)
class Codec:
    """``components`` float32 (n_genes, n_dimensions), orthonormal: a cell a is projected to a @ components.

    The first right singular vectors of the training cells' attributions, neither centred nor scaled: the
    inner product of two projections is then the best linear guess of the cells' own. Genes that were
    appended to the vocabulary later are not in it. ``scale``: power of two that brings projections into
    float16's range.
    """

    components: npt.NDArray[np.float32]
    scale: float
    support: npt.NDArray[np.int64]
    support_components: npt.NDArray[np.float32]

    @classmethod
    def of(cls, components: npt.NDArray[np.float32], scale: float) -> Self:
        """A codec of these components."""
        weight = np.einsum("gd,gd->g", components, components)
        support = np.sort(np.argsort(-weight, kind="stable")[:_SUPPORT])
        return cls(components, scale, support, np.ascontiguousarray(components[support]))

    @classmethod
    def learn(cls, cells: Any, n_dimensions: int, seed: int = 0) -> Self:
        """From training cells, a scipy CSR matrix float32 (n, n_genes); at most min(shape) dimensions.

        Randomised SVD: Halko, Martinsson, Tropp (2011), as scikit-learn has it.
        """
        from sklearn.utils.extmath import randomized_svd

        n = min(n_dimensions, *cells.shape)
        _, _, right = randomized_svd(
            cells, n, n_iter=_N_ITER, n_oversamples=_OVERSAMPLES, random_state=seed, flip_sign=False
        )
        # the longest training cell to some 2**8: room for cells 2**7 as long
        longest = float(np.sqrt(cells.multiply(cells).sum(axis=1).max()))
        scale = 2.0 ** (8 - np.frexp(longest)[1]) if longest > 0 else 1.0
        return cls.of(np.ascontiguousarray(right.T, dtype=np.float32), scale)

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` wrote."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                components, scale = file["components"], float(file["scale"])
        except (ValueError, OSError, EOFError, KeyError, TypeError, BadZipFile) as error:
            raise AtlasCorrupt(path, f"the codec cannot be read ({error})") from error
        if components.dtype != np.float32 or components.ndim != 2 or not np.isfinite(components).all():
            raise AtlasCorrupt(path, "it is no codec")
        return cls.of(np.ascontiguousarray(components), scale)

    def save(self, path: Path) -> None:
        """As .npz."""
        np.savez(path, components=self.components, scale=self.scale)

    @property
    def n_dimensions(self) -> int:
        """Dimensions of a projection."""
        return int(self.components.shape[1])

    def project(self, genes: npt.NDArray[np.int64], weights: npt.NDArray[np.floating[Any]]) -> Any:
        """A query of the genes int64 (n,) with weights (n,): float32 (n_dimensions,)."""
        projection = np.zeros(self.n_dimensions, np.float32)
        project_query(genes, weights.astype(np.float32), self.components, projection)
        return projection

    def residual(self, weights: npt.NDArray[np.float32], projection: npt.NDArray[np.float32]) -> Any:
        """``weights`` by gene less what the projection says of them, float32.

        It is orthogonal to the components, so that a cell's score is the inner product of its projection with
        the query's, plus that of its attributions with the residual. Only the genes that carry most of the
        components are taken account of.
        """
        left = weights.copy()
        explained = np.empty(len(self.support), np.float32)
        inner_products(self.support_components, projection, explained)
        left[self.support] -= explained
        return left
