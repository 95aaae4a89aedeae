"""Which genes make a result: contributions to the best cells and to the groups."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from insignia_model.result import GeneReport
from insignia_model.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Columns of a table of explained cells that are not metadata; the parts only where a weight is negative.
EXPLAINED_CELL_COLUMNS = (
    "study", "cell_id", "score", "score_up", "score_down", "top_gene", "top_share", "n_effective_genes",
)  # fmt: skip
#: Columns that say what one gene adds to a group.
CONTRIBUTION_COLUMNS = ("gene", "weight", "contribution", "share", "above_rest")


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What each gene of a signature adds to the score of the best cells and to the mean score of every group.

    A *contribution* is the part of a score (of a group: of the mean score of its cells) that one gene makes:
    weight times attribution, over the divisor of the mean. They add up to the score. A *share* is a
    contribution over the sum of the absolute contributions: where nothing is negative, the share of the
    score; otherwise it has the contribution's sign, and the absolute shares add up to 1.

    ``cell_table``: the ``k`` best cells, best first: study, cell_id, score, [score_up, score_down,] top_gene,
    top_share, n_effective_genes, then one column per metadata field.
    ``cell_gene_table``: study, cell_id, gene, weight, value (the attribution), contribution, share; cells as
    above, in each the largest absolute contribution first.
    ``group_table``: the ``group_by`` fields, rank, n_cells, n_hits, hit_fraction, mean, [mean_up, mean_down,]
    top_gene, top_share, n_effective_genes, n_genes_measured (least, over the group's studies); highest mean
    first. ``rank`` is missing where a group has fewer than ``min_cells`` cells.
    ``gene_table``: the ``group_by`` fields, gene, weight, contribution, share, above_rest (the contribution
    less that to the mean score of all other cells that pass the filter: what sets the group apart); groups as
    above, in each the largest absolute contribution first.
    ``gene_summary_table``: gene, weight, contribution and share over all cells that pass the filter, then
    what becomes of the ranking of the groups without the gene: rank_correlation (Spearman's, with the ranking
    by all genes; missing where fewer than two groups differ), top_group (the first without the gene), and
    top_group_rank (the rank that the first group by all genes then has).
    ``sentences``: what a reader should know, such as that one gene carries the result; often none.

    Up and down parts (only where the signature has negative weights) are the sums of the contributions of the
    genes with positive and with negative weights: score = score_up + score_down. ``top_gene`` has the largest
    absolute contribution. ``n_effective_genes`` is the exponential of the entropy of the absolute shares
    (Hill 1973): 1 if one gene makes the score, the number of genes if all make the same.
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
    cell_gene_table: Table
    group_table: Table
    gene_table: Table
    gene_summary_table: Table
    sentences: tuple[str, ...] = ()
    signature: str = "signature"
    min_cells: int = 10

    @property
    def cells(self) -> pd.DataFrame:
        """The best cells, best first."""
        return self.cell_table.to_frame()

    @property
    def cell_genes(self) -> pd.DataFrame:
        """One row per (cell, gene)."""
        return self.cell_gene_table.to_frame()

    @property
    def groups(self) -> pd.DataFrame:
        """One row per group, highest mean score first."""
        return self.group_table.to_frame()

    @property
    def group_genes(self) -> pd.DataFrame:
        """One row per (group, gene)."""
        return self.gene_table.to_frame()

    @property
    def gene_summary(self) -> pd.DataFrame:
        """One row per gene, largest contribution first."""
        return self.gene_summary_table.to_frame()

    def plot(self, **options: Any) -> Figure:
        """Mean score of every group, made of its genes; returns the matplotlib figure.

        Needs the extra ``plot``. Options: see ``insignia_model.plot.gene_contributions``.
        """
        from insignia_model.plot import gene_contributions

        columns = {n: c for n, c in self.gene_table.columns.items() if n != "above_rest"}
        return gene_contributions(Table(columns), **{"title": self.signature} | options)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that ``insignia explain --format json`` prints."""
        cells = []
        for row, genes in zip(self.cell_table.rows(), self._cell_genes(), strict=True):
            known = {n: row.pop(n) for n in EXPLAINED_CELL_COLUMNS if n in row}
            cells.append(known | {"metadata": row, "genes": genes})
        groups = []
        for row, genes in zip(self.group_table.rows(), self._group_genes(), strict=True):
            groups.append({"group": {n: row.pop(n) for n in self.group_by}} | row | {"genes": genes})
        return {
            "engine": self.engine,
            "aggregate": self.aggregate,
            "hits": self.hits,
            "n_cells": self.n_cells,
            "n_hits": self.n_hits,
            "cutoff": self.cutoff,
            "elapsed_ms": round(self.elapsed_ms, 3),
            "genes": self.genes.to_dict(),
            "sentences": list(self.sentences),
            "groups": groups,
            "gene_summary": list(self.gene_summary_table.rows()),
            "cells": cells,
        }

    def _cell_genes(self) -> list[list[dict[str, Any]]]:
        columns = ("gene", "weight", "value", "contribution", "share")
        return _runs(self.cell_gene_table, columns, len(self.cell_table))

    def _group_genes(self) -> list[list[dict[str, Any]]]:
        return _runs(self.gene_table, CONTRIBUTION_COLUMNS, len(self.group_table))

    def _summary(self) -> str:
        n_genes = len(self.gene_summary_table)
        return (
            f"{self.signature}: contributions of {n_genes:,} genes to {len(self.group_table):,} groups "
            f"({self.n_cells:,} cells) and to the best {len(self.cell_table):,} cells"
        )

    def __repr__(self) -> str:
        return f"<Explanation {self._summary()}>"

    def _repr_html_(self) -> str:
        said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences)
        return f"<p>{html.escape(self._summary())}</p><ul>{said}</ul>{self.group_table._repr_html_()}"


def _runs(table: Table, columns: tuple[str, ...], n_runs: int) -> list[list[dict[str, Any]]]:
    """Rows of the named columns, cut into ``n_runs`` runs of equal length."""
    rows = list(Table({name: table[name] for name in columns}).rows())
    n = len(rows) // n_runs if n_runs else 0
    return [rows[i * n : (i + 1) * n] for i in range(n_runs)]
