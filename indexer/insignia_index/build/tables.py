"""Gene lists and metadata tables that stand beside a matrix."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from insignia_index.build.errors import UnreadableInput

#: What reading a file that is cut off or damaged raises, whatever it is compressed with.
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_ADVICE = {"\t": "let its name end in .tsv", ";": "write it with commas"}


def read_genes(path: Path) -> list[str]:
    """Genes of a list: the first column of every line that is not empty."""
    try:
        text = path.read_text("utf-8-sig")
        return [line.split("\t")[0].strip() for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableInput(path, f"the gene list cannot be read ({error})") from error


def read_table(path: Path, text: Collection[str] = ()) -> pd.DataFrame:
    """CSV, TSV (also compressed) or Parquet; index: the first column, as it is written.

    Columns named in ``text`` are read as text, others as pandas takes them.
    """
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            if isinstance(table.index, pd.MultiIndex):
                raise ValueError("its index has several levels: reset_index() makes columns of them")
            # pandas keeps an index of names; one of numbers is what a table without one is filtered to
            if table.index.name is None and pd.api.types.is_integer_dtype(table.index.dtype):
                table = table.set_index(table.columns[0])
            for name in table.columns.intersection(pd.Index(list(text))):
                table[name] = table[name].astype(str).where(table[name].notna(), None)
        else:
            separator = "\t" if ".tsv" in path.suffixes else ","
            names = pd.read_csv(path, sep=separator, nrows=0).columns
            ids = names[0]
            if len(names) == 1 and (other := next((c for c in "\t;" if c in ids), None)):
                raise ValueError(
                    f"its columns are not separated by {separator!r} but by {other!r}: {_ADVICE[other]}"
                )
            table = pd.read_csv(
                path,
                sep=separator,
                # ids as they are written: 007 is not 7, and NA is not missing, for which pandas 3 takes also
                # what a converter gives
                converters={ids: "={}".format},
                dtype=dict.fromkeys(text, str),
                low_memory=False,
            )
            if not isinstance(table.index, pd.RangeIndex):
                raise ValueError(
                    "its rows have more values than its header has names: name the cell ids' column too"
                )
            table = table.set_index(table[ids].str.removeprefix("="))
            table = table.drop(columns=ids)
        if table.index.hasnans:
            raise ValueError(f"cell {int(table.index.isna().argmax()) + 1:,} has no id")
    except (*DAMAGED, ValueError, IndexError, ImportError) as error:
        raise UnreadableInput(path, f"the metadata table cannot be read ({error})") from error
    table.index = table.index.astype(str)
    return table
