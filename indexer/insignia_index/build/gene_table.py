"""An atlas's own table of gene names."""

from __future__ import annotations

from pathlib import Path

from insignia_index.catalog.writer import AtlasWriter
from insignia_index.format.files import bytes_digest
from insignia_index.genes.read import read_gene_table
from insignia_model.errors import InvalidArgument


def set_gene_table(writer: AtlasWriter, path: Path, replace: bool) -> None:
    """Let the atlas resolve names by the table in a file, from its first revision or if ``replace``."""
    packed = read_gene_table(path).pack()
    if bytes_digest(packed) == writer.record.gene_table:
        return
    if writer.record.revision > 0 and not replace:
        known = "another gene table" if writer.record.gene_table else "the human gene table"
        raise InvalidArgument(
            "gene_table", f"the atlas was made with {known}; --replace-gene-table puts {path} in its place"
        )
    writer.set_gene_table(packed)
