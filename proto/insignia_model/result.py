"""Answers: typed, columnar, the same from an embedded atlas and from a server."""

from __future__ import annotations

import html
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insignia_model.genes import GeneReport as GeneReport  # as: it is an answer too
from insignia_model.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Columns of a table of cells that are not metadata.
CELL_COLUMNS = ("study", "cell_id", "score")
#: Behind the score, of a signature with negative weights: what positive and what negative weights add to it.
PART_COLUMNS = ("score_up", "score_down")

ZERO_CUTOFF_NOTE = (
    "the cut-off is 0: fewer cells score above it than `top` asks for, and which of those at 0 are hits "
    "follows from their place in the atlas alone. Ask for fewer, or read nothing into hits that score 0."
)
UNSIGNED_NOTE = (
    "the attributions of this atlas have no sign: they tell how much a gene matters to a cell, not whether "
    "it is high or low. A gene of negative weight lowers the score of the cells in which it matters; read no "
    "direction into it."
)


def cell_columns(cells: Table) -> tuple[str, ...]:
    """Columns of a search's ``cell_table`` that are not metadata."""
    behind = tuple(cells.columns)[len(CELL_COLUMNS) :][: len(PART_COLUMNS)]
    return CELL_COLUMNS + PART_COLUMNS if behind == PART_COLUMNS else CELL_COLUMNS


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """Best cells, and hit statistics of every group over **all** cells that pass the filter.

    ``cutoff``: the score that a hit exceeds (of ``top:N``: that the last hit has; ``None`` if no cell passes
    the filter).
    ``exact``: the best cells are those of all exact scores. If not, ``n_candidates`` cells were scored
    exactly, of which ``expected_recall`` is the share (0-1) of the true best cells that is expected among
    them; groups, samples, ``n_hits`` and ``cutoff`` are then there only if asked for (else empty, ``None``).
    ``cell_table``: study, cell_id, score, [score_up, score_down,] then one column per metadata field. What
    positive and negative weights add to the score is there if some weight is negative.
    ``group_table``: the ``group_by`` fields, n_cells, n_hits, hit_fraction, mean, sd, max, [median, p90,]
    n_samples, sample_hit_fraction_mean, sample_hit_fraction_median, n_genes_measured; if asked for, the mean
    score against random signatures: null_mean and null_sd (theirs), null_z, null_p (upper tail), null_fdr
    (over the rows). ``sample_table``: one row per (group, study, sample): n_cells, n_hits, hit_fraction,
    mean. ``min_cells``: samples with fewer cells are no replicate (they count in neither n_samples nor the
    plot).
    ``test_table``: two rows (measure: hit_fraction, mean) per group and contrast, if asked for; see `tests`.
    ``unsigned_atlas``: no attribution is negative, so that none tells whether a gene is high or low;
    ``negative_weights``: the signature has some (see `notes`).
    """

    engine: str
    aggregate: str
    hits: str
    n_cells: int
    n_hits: int | None
    cutoff: float | None
    elapsed_ms: float
    genes: GeneReport
    group_by: tuple[str, ...]
    cell_table: Table
    group_table: Table
    sample_table: Table
    signature: str = "signature"
    min_cells: int = 10
    test_table: Table = field(default_factory=lambda: Table({}))
    unsigned_atlas: bool = False
    negative_weights: bool = False
    exact: bool = True
    n_candidates: int | None = None
    expected_recall: float = 1.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before something is read into the answer that it does not say; mostly nothing."""
        found = [UNSIGNED_NOTE] if self.unsigned_atlas and self.negative_weights else []
        is_all = self.n_hits is None or self.n_hits >= self.n_cells
        if self.hits.startswith("top:") and self.cutoff == 0 and not is_all:
            found.append(ZERO_CUTOFF_NOTE)
        return tuple(found)

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

    @property
    def tests(self) -> pd.DataFrame:
        """Tests with the sample as replicate: each group against the rest, and each contrast.

        The ``group_by`` fields (missing: a contrast), contrast (missing: a group against the rest), measure,
        design (paired: every sample has a value on both sides; unpaired; stratified: that within studies),
        n_samples and n_reference (on the two sides), n_studies, mean_value and mean_reference (of the
        samples' values), effect (their difference, within samples or studies) with its 95 % interval
        effect_low and effect_high, hedges_g, t, df, p, fdr (Benjamini-Hochberg over all rows); over studies
        with enough samples random_n_studies, random_effect, random_low, random_high, random_p, and their
        heterogeneity q, i2, tau2; reason: why there is no test.
        """
        return self.test_table.to_frame()

    def plot(self, **options: Any) -> Figure:
        """Hit fraction per sample by group, boxes with points; returns the matplotlib figure.

        Needs the extra ``plot``. Options: see ``insignia_model.plot.sample_hit_fractions``.
        """
        from insignia_model.plot import sample_hit_fractions

        return sample_hit_fractions(self, **options)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that ``insignia search --format json`` prints."""
        names = cell_columns(self.cell_table)
        cells = [{n: row.pop(n) for n in names} | {"metadata": row} for row in self.cell_table.rows()]
        groups = [{"group": {n: row.pop(n) for n in self.group_by}} | row for row in self.group_table.rows()]
        answer = {
            "engine": self.engine,
            "exact": self.exact,
            "n_candidates": self.n_candidates,
            "expected_recall": self.expected_recall,
            "aggregate": self.aggregate,
            "hits": self.hits,
            "n_cells": self.n_cells,
            "n_hits": self.n_hits,
            "cutoff": self.cutoff,
            "elapsed_ms": round(self.elapsed_ms, 3),
            "unsigned_atlas": self.unsigned_atlas,
            "genes": self.genes.to_dict(),
            "notes": list(self.notes),
            "cells": cells,
            "groups": groups,
        }
        if self.test_table.columns:
            answer["tests"] = list(self._tests())
        return answer

    def _tests(self) -> Iterator[dict[str, Any]]:
        for row in self.test_table.rows():
            group = {n: row.pop(n) for n in self.group_by if n in self.test_table.columns}
            yield {"group": None if row["contrast"] else group} | row

    @property
    def engine_text(self) -> str:
        """Which engine answered, and how far it can be relied on if it is not exact."""
        if self.exact:
            return f"engine {self.engine}"
        candidates = "" if self.n_candidates is None else f"{self.n_candidates:,} candidates, "
        return f"engine {self.engine} (not exact: {candidates}expected recall {self.expected_recall:.3g})"

    def _summary(self) -> str:
        if self.n_hits is None:
            found = f"best {len(self.cell_table):,} of {self.n_cells:,} cells"
        else:
            cutoff = "none" if self.cutoff is None else f"{self.cutoff:.4g}"
            found = f"{self.n_hits:,} hits ({self.hits}, cut-off {cutoff}) among {self.n_cells:,} cells"
        return (
            f"{self.signature}: {found}, "
            f"{self.genes.n_genes} genes used, {len(self.genes.missing)} missing, "
            f"{f'{len(self.genes.ambiguous)} ambiguous, ' if self.genes.ambiguous else ''}"
            f"{self.engine_text}, {self.elapsed_ms:.1f} ms" + "".join(f"; {note}" for note in self.notes)
        )

    def __repr__(self) -> str:
        return f"<SearchResult {self._summary()}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._summary())}</p>{self.group_table._repr_html_()}"


@dataclass(frozen=True, slots=True, eq=False)
class ScoreChunk:
    """Scores of one study's cells that pass the filter (or of a run of them, in row order).

    ``rows``: int64 (n,) row in the study; ``scores``: float (n,); ``cell_ids``: n names, if asked for.
    """

    study: str
    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[Any]
    cell_ids: tuple[str, ...] = field(default=(), repr=False)


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


class AsyncScoreStream(AsyncIterator[ScoreChunk]):
    """`ScoreStream` for asyncio; leave it early through `contextlib.aclosing`, which closes it at once.

    ``genes`` is None until the first chunk has come, or the end.
    """

    def __init__(self, answers: AsyncGenerator[tuple[ScoreChunk, GeneReport | None], None]) -> None:
        self._answers = answers
        self.genes: GeneReport | None = None

    async def __anext__(self) -> ScoreChunk:
        async for chunk, genes in self._answers:
            self.genes = genes or self.genes
            if len(chunk.scores):  # nothing but the gene report if no cell passes the filter
                return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop; there is no further chunk."""
        await self._answers.aclose()


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of all cells that pass the filter, in (study, row) order, with names of the cells or without."""

    chunks: tuple[ScoreChunk, ...]
    genes: GeneReport = field(default_factory=lambda: GeneReport({}))
    has_cell_ids: bool = False

    @property
    def values(self) -> npt.NDArray[Any]:
        """All scores, float (n_cells,)."""
        return np.concatenate([c.scores for c in self.chunks]) if self.chunks else np.empty(0, np.float32)

    def __len__(self) -> int:
        return sum(len(chunk.scores) for chunk in self.chunks)

    def __iter__(self) -> Iterator[ScoreChunk]:
        return iter(self.chunks)

    def __repr__(self) -> str:
        n_studies = len({chunk.study for chunk in self.chunks})
        return f"<Scores of {len(self):,} cells of {n_studies:,} studies, {self.genes.n_genes} genes used>"

    def plot(self, **options: Any) -> Figure:
        """Distribution of the scores with the cut-off (``cutoff="percentile:95"``), perhaps ``by="study"``.

        Needs the extra ``plot``. Options: see ``insignia_model.plot.score_distribution``.
        """
        from insignia_model.plot import score_distribution

        return score_distribution(self, **options)

    def to_frame(self) -> pd.DataFrame:
        """Frame with study, row, [cell_id,] score."""
        import pandas as pd

        # of no cell, too, columns of the right kind
        chunks = self.chunks or (ScoreChunk("", np.empty(0, np.int64), np.empty(0, np.float32)),)
        has_names = self.has_cell_ids or any(chunk.cell_ids for chunk in chunks)
        frames = [
            pd.DataFrame(
                {"study": c.study, "row": c.rows}
                | ({"cell_id": np.array(c.cell_ids, object)} if has_names else {})
                | {"score": c.scores}
            )
            for c in chunks
        ]
        return pd.concat(frames, ignore_index=True)
