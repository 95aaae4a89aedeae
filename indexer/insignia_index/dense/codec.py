"""The codec: a projection of attributions, learned once for an atlas, that FAISS works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from insignia_index.dense.singular import right_singular_vectors
from insignia_index.kernels.project import project_query, subtract_explained
from insignia_model.errors import AtlasCorrupt

#: Dimensions, of the largest singular values, that are enough to scan for candidates (docs/decisions/0014).
FIRST = 64
#: Genes whose part in a projection is taken back exactly when candidates are refined; see `residual`.
_SUPPORT = 2_048


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
    #: as float16 bits, for queries: half of the memory to fetch
    halves: npt.NDArray[np.uint16]
    support: npt.NDArray[np.int64]
    support_halves: npt.NDArray[np.uint16]
    #: the first dimensions of those
    support_first: npt.NDArray[np.uint16]

    @classmethod
    def of(cls, components: npt.NDArray[np.float32], scale: float) -> Self:
        """A codec of these components."""
        weight = np.einsum("gd,gd->g", components, components)
        support = np.sort(np.argsort(-weight, kind="stable")[:_SUPPORT])
        halves = components.astype(np.float16).view(np.uint16)
        first = np.ascontiguousarray(halves[support, :FIRST])
        return cls(components, scale, halves, support, halves[support], first)

    @classmethod
    def learn(cls, cells: Any, n_dimensions: int, seed: int = 0) -> Self:
        """From training cells, a scipy CSR matrix float32 (n, n_genes); at most min(shape) dimensions."""
        components = right_singular_vectors(cells, min(n_dimensions, *cells.shape), seed)
        # the longest training cell to some 2**8: room for cells 2**7 as long
        longest = float(np.sqrt(cells.multiply(cells).sum(axis=1).max()))
        scale = 2.0 ** (8 - np.frexp(longest)[1]) if longest > 0 else 1.0
        return cls.of(components, scale)

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
        project_query(genes, weights.astype(np.float32), self.halves, projection)
        return projection

    def subtract(self, projection: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> None:
        """Leave of ``weights``, by gene, what a projection does not say of them: the residual.

        ``projection`` has all dimensions or the FIRST. A cell's score is the inner product of its projection
        with it, whatever it is, plus that of its attributions with the residual. Only the genes that carry
        most of the components (``support``) are taken account of.
        """
        halves = self.support_halves if len(projection) == self.n_dimensions else self.support_first
        subtract_explained(self.support, halves, projection, weights)
