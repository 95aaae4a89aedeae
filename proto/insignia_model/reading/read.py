"""The one way in: the format by suffix, else by content; then the reader of the format."""

from __future__ import annotations

from itertools import islice

from insignia_model.errors import InvalidArgument
from insignia_model.reading.columns import GENE, ROLES, Columns, normal
from insignia_model.reading.expression import DeRule
from insignia_model.reading.gmt import gmt_sets
from insignia_model.reading.grid import number_of
from insignia_model.reading.json_sets import json_sets
from insignia_model.reading.library import Signatures, collect
from insignia_model.reading.pairs import join_up_down as joined
from insignia_model.reading.source import SignatureFile, Source, open_source
from insignia_model.reading.table import table_sets

FORMATS = ("gmt", "json", "table", "de")
_BY_SUFFIX = {
    ".gmt": "gmt",
    ".json": "json",
    ".csv": "table",
    ".tsv": "table",
    ".tab": "table",
    ".grp": "table",
}


def read_signatures(
    file: SignatureFile,
    *,
    format: str | None = None,
    name: str | None = None,
    columns: Columns | None = None,
    header: bool | None = None,
    de: DeRule | None = None,
    join_up_down: bool = False,
    lenient: bool = False,
) -> Signatures:
    """Signatures of a file by name, in its order.

    ``file``: a path (plain or .gz), an open file, or ``-``: standard input. ``format``: by default what
    the suffix says, or else what the content looks like:

    - ``gmt``: name, description, genes, tab-separated, one set a line
    - ``json``: {name: [genes]}, {name: {gene: weight}}, [genes] or {gene: weight}
    - ``table``: CSV or TSV; a column of genes, perhaps one of weights and one with the name of the set;
      the header is optional; one column is a gene list
    - ``de``: differential expression (DESeq2, edgeR, limma, Seurat, scanpy): gene, log fold change, adjusted
      p; a table that has these columns is read so by itself. ``de`` says which genes are taken

    ``columns``: role (gene, weight, set, lfc, padj) → name or number (from 1) of its column, None for none.
    ``name``: of a signature for which the file has none (default: the file's). ``join_up_down``: NAME_UP and
    NAME_DN become one signed signature. ``lenient``: a set that is none does not refuse the file; it is in
    ``rejected`` of the answer. Errors (`InvalidSignature`) name file, line and column.
    """
    if format is not None and format not in FORMATS:
        raise InvalidArgument("format", f"{format!r} is not one of {', '.join(FORMATS)}")
    source = open_source(file)
    format = format or _BY_SUFFIX.get(source.suffix) or _guessed(source)
    if format in ("gmt", "json") and (de is not None or columns or header is not None):
        raise source.error(f"is read as {format}, which has neither columns nor a rule for them")
    notes: list[str] = []
    if format == "gmt":
        sets = gmt_sets(source)
    elif format == "json":
        sets = json_sets(source, name)
    else:
        # who has a rule for differential expression means such a table
        expression = True if format == "de" or de is not None else None
        sets = table_sets(
            source,
            name=name,
            columns=columns or {},
            header=header,
            expression=expression,
            rule=de or DeRule(),
            notes=notes,
        )
    found = collect(source, sets, lenient, notes)
    return joined(found) if join_up_down else found


def _guessed(source: Source) -> str:
    """Format of a text of unknown suffix: a bracket begins JSON, wide lines of words are GMT."""
    lines = (line for line in source.text.splitlines() if line.strip() and not line.startswith("#"))
    texts = [line.split("\t") for line in islice(lines, 20)]
    if texts and texts[0][0].lstrip()[:1] in ("{", "["):
        return "json"
    first = {normal(text) for text in texts[0] if text} if texts else set()
    known = {role for role, names in ROLES.items() if first & set(names)}
    numbers = any(number_of(text) is not None for row in texts for text in row[1:] if text)
    is_header = GENE in known or len(known) > 1
    return "gmt" if max(map(len, texts), default=0) > 2 and not is_header and not numbers else "table"
