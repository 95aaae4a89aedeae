"""Gene lists and metadata tables that stand beside a matrix."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from insignia_index.build.errors import UnreadableInput


def read_genes(path: Path) -> list[str]:
    """Genes of a list: the first column of every line that is not empty."""
    try:
        return [line.split("\t")[0].strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableInput(path, f"the gene list cannot be read ({error})") from error


def read_table(path: Path, text: Collection[str] = ()) -> pd.DataFrame:
    """CSV, TSV (also compressed) or Parquet; index: the first column, as it is written.

    Columns named in ``text`` are read as text, others as pandas takes them.
    """
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            # pandas keeps an index of names; other writers have none
            if isinstance(table.index, pd.RangeIndex):
                table = table.set_index(table.columns[0])
            for name in table.columns.intersection(pd.Index(list(text))):
                table[name] = table[name].astype(str).where(table[name].notna(), None)
        else:
            separator = "\t" if ".tsv" in path.suffixes else ","
            ids = pd.read_csv(path, sep=separator, nrows=0).columns[0]
            table = pd.read_csv(
                path,
                sep=separator,
                converters={ids: str},  # ids as they are written: 007 is not 7, NA is not missing
                dtype=dict.fromkeys(text, str),
                low_memory=False,
            ).set_index(ids)
    except (OSError, ValueError, IndexError, EOFError, zlib.error) as error:
        raise UnreadableInput(path, f"the metadata table cannot be read ({error})") from error
    table.index = table.index.astype(str)
    return table
