"""What an atlas answers about whole profiles: similar cells, and profiles as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.search.cells import find_cells
from insignia_index.search.engine import Session
from insignia_index.search.profiles import cell_profiles
from insignia_index.search.similar import similar
from insignia_model.condition import WhereLike
from insignia_model.errors import InvalidArgument
from insignia_model.hits import HitRule
from insignia_model.result import SearchResult
from insignia_model.signature import SignatureLike
from insignia_model.similar import CellLike, SimilarRequest, cell_ids

#: Values that `profiles` returns at most: 1 GiB.
MOST_VALUES = 1 << 28


class SimilarCells:
    """Methods of `insignia_index.Atlas`."""

    @property
    def _session(self) -> Session:
        raise NotImplementedError

    def similar(
        self,
        cells: CellLike | Iterable[CellLike] | None = None,
        *,
        centroid: WhereLike = None,
        profile: SignatureLike | None = None,
        k: int = 100,
        where: WhereLike = None,
        group_by: str | Sequence[str] = ("study",),
        hits: HitRule | str | None = None,
        quantiles: bool = False,
        min_cells: int = 10,
        exclude_study: bool = False,
        strict: bool = False,
        engine: str = "auto",
        recall_target: float = 0.99,
        groups: bool | None = None,
    ) -> SearchResult:
        """Cells most like ``cells``, a ``centroid`` or a ``profile``; see `SimilarRequest`.

        >>> atlas.similar("pbmc3k:TGGTCAGACCGTTC-1", k=20, exclude_study=True)  # doctest: +SKIP
        >>> atlas.similar(centroid={"cell_type": "B cells"}, where={"tissue": "lung"})  # doctest: +SKIP
        """
        request = SimilarRequest.of(
            cells,
            centroid=centroid,
            profile=profile,
            k=k,
            where=where,
            group_by=group_by,
            hits=hits,
            quantiles=quantiles,
            min_cells=min_cells,
            exclude_study=exclude_study,
            strict=strict,
            engine=engine,
            recall_target=recall_target,
            groups=groups,
        )
        return self.run_similar(request)

    def run_similar(
        self,
        request: SimilarRequest,
        *,
        cancel: CancelToken | None = None,
        threads: int | None = None,
        max_groups: int | None = None,
    ) -> SearchResult:
        """Answer a request; the options are those of `Atlas.run`."""
        return similar(self._session, request, cancel or CancelToken(), threads, max_groups)

    def profiles(
        self, cells: CellLike | Iterable[CellLike]
    ) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        """Genes of the atlas (n_genes), and all attributions of the cells, float32 (n_cells, n_genes).

        In the order asked; a cell that is named twice has one row. At most `MOST_VALUES` values: with 28,231
        genes 9,508 cells.
        """
        session = self._session
        snapshot, ids = session.snapshot, cell_ids(cells)
        most = MOST_VALUES // max(1, len(snapshot.genes))
        if len(ids) > most:
            raise InvalidArgument("cells", f"{len(ids):,} are over the limit of {most:,}; ask in parts")
        study, row = find_cells(snapshot, ids)
        rows = snapshot.study_starts[study] + row
        return tuple(snapshot.genes), cell_profiles(snapshot, rows, session.value_bits == 16, CancelToken())
