"""Gene tables from files, as HGNC, Ensembl's BioMart or a person writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import pandas as pd

from insignia_index.build.errors import UnreadableGeneTable
from insignia_index.build.tables import DAMAGED
from insignia_index.genes.table import GeneNames, GeneTable

#: What a column may be called, in any case, with blanks or underscores.
COLUMNS = {
    "symbol": ("symbol", "gene symbol", "gene name"),
    "ensembl": ("ensembl id", "ensembl", "ensembl gene id", "gene stable id"),
    "previous": ("previous", "previous symbols", "prev symbols", "prev symbol"),
    "aliases": ("aliases", "alias symbols", "alias symbol", "alias", "synonyms", "gene synonym"),
}
#: (symbol, Ensembl id): previous symbols and aliases, in order.
Genes: TypeAlias = dict[tuple[str, str], tuple[dict[str, None], dict[str, None]]]


def read_gene_table(path: Path) -> GeneTable:
    """Table of a CSV, TSV (also .txt; both also .gz) or Parquet file with the columns `COLUMNS`.

    Only ``symbol`` must be there. Several previous symbols or aliases of a gene are separated by ``|``, or
    stand in rows of their own with the same symbol and Ensembl id. A gene without symbol goes by its Ensembl
    id. If there is a column ``status``, only genes with "Approved" are taken.
    """
    frame = _read(path)
    by_name = {str(name).casefold().replace("_", " "): name for name in frame.columns}
    chosen = {}
    for role, names in COLUMNS.items():
        chosen[role] = next((by_name[name] for name in names if name in by_name), None)
    if chosen["symbol"] is None:
        raise UnreadableGeneTable(
            path, f"it has no column 'symbol', only {', '.join(map(str, frame.columns))}"
        )
    if "status" in by_name:
        frame = frame[frame[by_name["status"]] == "Approved"]
    columns = [_texts(frame, chosen[role]) for role in COLUMNS]
    genes: Genes = {}
    for symbol, ensembl, previous, aliases in zip(*columns, strict=True):
        if not symbol and not ensembl:
            raise UnreadableGeneTable(path, "a gene has neither symbol nor Ensembl id")
        known = genes.setdefault((symbol or ensembl, ensembl), ({}, {}))
        for kept, joined in zip(known, (previous, aliases), strict=True):
            kept.update(dict.fromkeys(part for name in joined.split("|") if (part := name.strip())))
    if not genes:
        raise UnreadableGeneTable(path, "it has no genes")
    _check(path, genes)
    return GeneTable.of(
        GeneNames(*key, previous=tuple(names[0]), aliases=tuple(names[1])) for key, names in genes.items()
    )


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        separator = "," if ".csv" in path.suffixes else "\t"
        # NA is a name like any other
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except (*DAMAGED, ValueError, ImportError) as error:
        raise UnreadableGeneTable(path, f"it cannot be read ({error})") from error


def _texts(frame: pd.DataFrame, name: object) -> list[str]:
    if name is None:
        return [""] * len(frame)
    return [str(value).strip() for value in frame[name].fillna("")]


def _check(path: Path, genes: Genes) -> None:
    for (symbol, ensembl), (previous, aliases) in genes.items():
        for name in (symbol, ensembl, *previous, *aliases):
            if set(name) & set("\t\n\r\0") or "|" in symbol + ensembl or name.startswith("#"):
                raise UnreadableGeneTable(path, f"{name!r} is no name of a gene")
