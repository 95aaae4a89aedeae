"""``insignia import-signature``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from insignia_index.cli.build import DROP_FIELD, REPLACE, SAMPLE_FIELD, storage, summary

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=_PATH)
@click.argument("atlas", type=_PATH)
@click.option(
    "--gene-order",
    type=_PATH,
    metavar="FILE",
    help="Genes of the arrays, one a line, in their order (else gene_order.tsv in or beside the folders).",
)
@click.option(
    "--metadata-name",
    metavar="NAME",
    default="cell_metadata.csv.gz",
    show_default=True,
    help="File of every folder with its cells, one a row: CSV, TSV or Parquet, first column the cell ids.",
)
@click.option(
    "--study-field", metavar="NAME", default="study", show_default=True, help="Column with the study."
)
@SAMPLE_FIELD
@DROP_FIELD
@REPLACE
@storage
def import_signature(
    folders: tuple[Path, ...],
    atlas: Path,
    gene_order: Path | None,
    metadata_name: str,
    study_field: str,
    sample_field: str | None,
    drop_fields: tuple[str, ...],
    **options: Any,
) -> None:
    """Import attributions as sc-signature publishes them, regrouped by study.

    DIR is the folder of a cell type (attributions/, a TileDB array, and cell_metadata.csv.gz), or one that
    holds such folders. Give all cell types at once: a study is built from all folders that have its cells.
    Either all studies are published, as one revision, or nothing is. An import that was interrupted goes on
    where it stopped when it is started again; until it ends, its work is in ATLAS.import, 8 bytes a posting.

    Without --pseudobulk, sums are kept by sample and by the field that tells the cell type.
    """
    # pandas and scipy, which --help does not need
    from insignia_index.build.build import BuildOptions
    from insignia_index.build.progress import BarProgress
    from insignia_index.build.signature.importer import SignatureFolders
    from insignia_index.build.signature.importer import import_signature as run

    source = SignatureFolders(folders, gene_order, metadata_name, study_field, sample_field, drop_fields)
    report = run(
        atlas,
        source,
        BuildOptions(**options),
        progress=BarProgress(),
        say=lambda sentence: click.echo(sentence, err=True),
    )
    click.echo(summary(atlas, report))
