"""Answers: typed, columnar, the same from an embedded atlas and from a server."""

from __future__ import annotations

import html
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insignia_model.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Columns of a table of cells that are not metadata.
CELL_COLUMNS = ("study", "cell_id", "score")


@dataclass(frozen=True, slots=True)
class GeneReport:
    """What became of the signature's genes: asked name → used symbol, and the names nobody knows."""

    resolved: dict[str, str]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Best cells, and hit statistics of every group over **all** cells that pass the filter.

    ``cutoff``: the score that a hit exceeds (``None`` if no cell passes the filter).
    ``cell_table``: study, cell_id, score, then one column per metadata field.
    ``group_table``: the ``group_by`` fields, n_cells, n_hits, hit_fraction, mean, sd, max, [median, p90,]
    n_samples, sample_hit_fraction_mean, sample_hit_fraction_median, n_genes_measured; if asked for, the mean
    score against random signatures: null_mean and null_sd (theirs), null_z, null_p (upper tail), null_fdr
    (over the rows). ``sample_table``: one row per (group, study, sample): n_cells, n_hits, hit_fraction,
    mean. ``min_cells``: samples with fewer cells are no replicate (they count in neither n_samples nor the
    plot).
    """

    engine: str
    aggregate: str
    hits: str
    n_cells: int
    n_hits: int
    cutoff: float | None
    elapsed_ms: float
    genes: GeneReport
    group_by: tuple[str, ...]
    cell_table: Table
    group_table: Table
    sample_table: Table
    signature: str = "signature"
    min_cells: int = 10

    @property
    def cells(self) -> pd.DataFrame:
        """The best cells, best first."""
        return self.cell_table.to_frame()

    @property
    def groups(self) -> pd.DataFrame:
        """One row per group, highest hit fraction first."""
        return self.group_table.to_frame()

    @property
    def samples(self) -> pd.DataFrame:
        """One row per (group, study, sample)."""
        return self.sample_table.to_frame()

    def plot(self, **options: Any) -> Figure:
        """Hit fraction per sample by group, boxes with points; returns the matplotlib figure.

        Needs the extra ``plot``. Options: see ``insignia_model.plot.sample_hit_fractions``.
        """
        from insignia_model.plot import sample_hit_fractions

        return sample_hit_fractions(self, **options)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that ``insignia search --format json`` prints."""
        cells = [{n: row.pop(n) for n in CELL_COLUMNS} | {"metadata": row} for row in self.cell_table.rows()]
        groups = [{"group": {n: row.pop(n) for n in self.group_by}} | row for row in self.group_table.rows()]
        return {
            "engine": self.engine,
            "aggregate": self.aggregate,
            "hits": self.hits,
            "n_cells": self.n_cells,
            "n_hits": self.n_hits,
            "cutoff": self.cutoff,
            "elapsed_ms": round(self.elapsed_ms, 3),
            "genes": {"resolved": list(self.genes.resolved.values()), "missing": list(self.genes.missing)},
            "cells": cells,
            "groups": groups,
        }

    def _summary(self) -> str:
        cutoff = "none" if self.cutoff is None else f"{self.cutoff:.4g}"
        return (
            f"{self.signature}: {self.n_hits:,} hits ({self.hits}, cut-off {cutoff}) "
            f"among {self.n_cells:,} cells, "
            f"{len(self.genes.resolved)} genes used, {len(self.genes.missing)} missing, "
            f"engine {self.engine}, {self.elapsed_ms:.1f} ms"
        )

    def __repr__(self) -> str:
        return f"<SearchResult {self._summary()}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._summary())}</p>{self.group_table._repr_html_()}"


@dataclass(frozen=True, slots=True)
class ScoreChunk:
    """Scores of one study's cells that pass the filter (or of a run of them, in row order).

    ``rows``: int64 (n,) row in the study; ``scores``: float (n,); ``cell_ids``: n names, if asked for.
    """

    study: str
    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[Any]
    cell_ids: tuple[str, ...] = ()


class ScoreStream(Iterator[ScoreChunk]):
    """Chunks of scores, made as they are asked for, and what became of the signature's genes."""

    def __init__(self, chunks: Generator[ScoreChunk, None, None], genes: GeneReport) -> None:
        self._chunks = chunks
        self.genes = genes

    def __next__(self) -> ScoreChunk:
        return next(self._chunks)

    def close(self) -> None:
        """Give back what the stream holds; it has no further chunk."""
        self._chunks.close()


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of all cells that pass the filter, in (study, row) order."""

    chunks: tuple[ScoreChunk, ...]
    genes: GeneReport = field(default_factory=lambda: GeneReport({}))

    @property
    def values(self) -> npt.NDArray[Any]:
        """All scores, float (n_cells,)."""
        return np.concatenate([c.scores for c in self.chunks]) if self.chunks else np.empty(0, np.float32)

    def __len__(self) -> int:
        return sum(len(chunk.scores) for chunk in self.chunks)

    def __iter__(self) -> Iterator[ScoreChunk]:
        return iter(self.chunks)

    def to_frame(self) -> pd.DataFrame:
        """Frame with study, row, [cell_id,] score."""
        import pandas as pd

        frames = [
            pd.DataFrame(
                {"study": c.study, "row": c.rows}
                | ({"cell_id": list(c.cell_ids)} if c.cell_ids else {})
                | {"score": c.scores}
            )
            for c in self.chunks
        ]
        if not frames:
            return pd.DataFrame({"study": [], "row": [], "score": []})
        return pd.concat(frames, ignore_index=True)
