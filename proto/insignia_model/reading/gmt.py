"""GMT files: one gene set a line, tab-separated: name, description, genes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from insignia_model.reading.library import RawSet, Signatures, collect
from insignia_model.reading.source import Source, open_source


def read_gmt(path: str | Path) -> Signatures:
    """Signatures of a GMT file (plain or .gz) by name, in file order."""
    source = open_source(path)
    return collect(source, gmt_sets(source), False, [])


def gmt_sets(source: Source) -> Iterator[RawSet]:
    """Sets of a GMT text. A gene may carry its weight, as in Enrichr's libraries: ``CD14,0.8``."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, *rest = line.split("\t")
        genes = [gene for gene in (g.strip() for g in rest[1:]) if gene]
        if not genes:
            problem = f"{name!r} has no genes; a GMT line is NAME<tab>DESCRIPTION<tab>GENE<tab>..."
            yield RawSet(name, {}, number, problem)
        elif "," in line and any("," in gene for gene in genes):
            yield _weighted(name, genes, number)
        else:
            yield RawSet(name, dict.fromkeys(genes, 1.0), number)


def _weighted(name: str, genes: list[str], number: int) -> RawSet:
    weights: dict[str, float] = {}
    for item in genes:
        gene, comma, weight = item.partition(",")
        try:
            value = float(weight) if comma else 1.0
        except ValueError:
            return RawSet(name, {}, number, f"{item!r} in {name!r} is not GENE or GENE,WEIGHT")
        if weights.setdefault(gene.strip(), value) != value:
            return RawSet(name, {}, number, f"gene {gene.strip()!r} of {name!r} has two weights")
    return RawSet(name, weights, number)
