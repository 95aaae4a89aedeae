"""From the genes of a file to those of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from insignia_index.attribution.errors import TooFewGenes
from insignia_index.genes.resolver import Resolver
from insignia_index.genes.table import human

#: SCimilarity's own threshold (``align_dataset`` of its package).
_LEAST_GENES = 5_000


@dataclass(frozen=True, slots=True)
class Alignment:
    """``selector`` (n_file_genes, n_model_genes): 1 where a column of the file is a gene of the model.

    ``measured``: indices of the model's genes that the file has, ascending. ``ways``: how many of them were
    found how (exact, case, previous, alias, ensembl). ``n_summed``: genes that several columns are summed to.
    ``n_ambiguous``: names that may be several genes, or of which several, none exact, are one; left out.
    """

    selector: csr_matrix
    measured: npt.NDArray[np.int64]
    ways: dict[str, int]
    n_file: int
    n_summed: int
    n_ambiguous: int

    def of(self, rows: csr_matrix) -> csr_matrix:
        """Rows (n_cells, n_file_genes) with the model's genes as columns, in ascending order; float32."""
        aligned: csr_matrix = (rows @ self.selector).tocsr()
        aligned.sort_indices()
        return aligned

    def in_words(self) -> dict[str, int]:
        """As an output records it."""
        found = {f"n_{way}": n for way, n in self.ways.items()}
        words = {"n_model": self.selector.shape[1], "n_file": self.n_file, "n_measured": len(self.measured)}
        return words | found | {"n_summed": self.n_summed, "n_ambiguous": self.n_ambiguous}


def align(
    path: Path, names: Sequence[str], genes: Sequence[str], strict: bool, least: int | None
) -> Alignment:
    """Alignment of a file's column ``names`` with a model's ``genes``; raises `TooFewGenes`.

    Columns of the same exact name are summed, as gene-level counts of several Ensembl ids are. A name that is
    not exact stands for a gene only if no exact one does, and no other inexact one.
    """
    index = {gene: i for i, gene in enumerate(genes)}
    exact: dict[int, list[int]] = {}
    inexact: dict[int, list[tuple[int, str]]] = {}
    n_ambiguous = 0
    resolver = None if strict else Resolver(index, human())
    for column, name in enumerate(names):
        if name in index:
            exact.setdefault(index[name], []).append(column)
        elif resolver is not None:
            found = resolver.find(name)
            if found.used is not None:
                inexact.setdefault(index[found.used], []).append((column, found.how))
            n_ambiguous += bool(found.candidates)
    ways = Counter({"exact": len(exact)} if exact else {})
    chosen = dict(exact)
    for gene, columns in inexact.items():
        if gene in exact:
            continue
        if len({names[column] for column, _ in columns}) > 1:
            n_ambiguous += len(columns)
            continue
        chosen[gene] = [column for column, _ in columns]
        ways[columns[0][1]] += 1
    least = min(_LEAST_GENES, len(genes) // 2) if least is None else least
    if len(chosen) < least:
        raise TooFewGenes(path, len(chosen), len(genes), least, ", ".join(names[:3]))
    pairs = np.array([(c, gene) for gene, columns in chosen.items() for c in columns], np.int64).reshape(
        -1, 2
    )
    ones = np.ones(len(pairs), np.float32)
    return Alignment(
        csr_matrix((ones, (pairs[:, 0], pairs[:, 1])), (len(names), len(genes))),
        np.sort(np.fromiter(chosen, np.int64, len(chosen))),
        dict(ways),
        len(names),
        sum(len(columns) > 1 for columns in chosen.values()),
        n_ambiguous,
    )
