"""``insignia build`` and ``insignia add``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from insignia_index.cli.attribute import (
    attribution_of,
    recipe_lines,
    recipe_options,
    refuse_recipe,
    without_recipe,
)
from insignia_index.cli.manage import faiss_lines
from insignia_index.dense.record import KINDS

if TYPE_CHECKING:
    from insignia_index.build.build import BuildReport


C = TypeVar("C", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)


DROP_FIELD = click.option(
    "--drop-field", "drop_fields", multiple=True, metavar="NAME", help="Metadata column to leave out."
)
SAMPLE_FIELD = click.option("--sample-field", metavar="NAME", help="Column with the sample (else 'sample').")
FAISS = click.option(
    "--faiss",
    type=click.Choice(KINDS),
    help="Indexes for similar cells: exact (in the space of the genes, for panels), projected, auto (exact "
    "up to 2,048 measured genes), none. [those of the atlas, else none]",
)
REPLACE = click.option("--replace", is_flag=True, help="Replace studies that are there with other content.")


def storage(command: C) -> C:
    """Options that tell how an atlas stores what it is given."""
    for option in (
        click.option(
            "--replace-gene-table", is_flag=True, help="Let --gene-table replace that of the atlas."
        ),
        click.option(
            "--gene-table",
            type=_PATH,
            metavar="FILE",
            help="Names of the genes of another species: CSV, TSV or Parquet with columns symbol, "
            "ensembl_id, previous, aliases. Fixed when the atlas is made. [human genes]",
        ),
        FAISS,
        click.option(
            "--pseudobulk",
            metavar="FIELD[,FIELD]",
            callback=_fields,
            help="Keep sums of attributions by these fields (and study), for --null and screens; 'none': "
            "keep none. Fixed for good. [sample,cell_type]",
        ),
        click.option(
            "--value-dtype",
            type=click.Choice(["float16", "float32"]),
            help="How attributions are stored; float32 is exact and takes twice the space. Fixed for good. "
            "[float16]",
        ),
    ):
        command = option(command)
    return command


def _fields(_context: click.Context, _option: click.Parameter, text: str | None) -> list[str] | None:
    """Names of a list with commas; none of 'none'."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [] if names == ["none"] else names


def _inputs(command: C) -> C:
    """Arguments and options that tell what to read and how."""
    for option in (
        DROP_FIELD,
        click.option(
            "--genes-file", "genes", type=_PATH, metavar="FILE", help="For .npz: genes, one a line."
        ),
        click.option(
            "--metadata",
            type=_PATH,
            metavar="FILE",
            help="For .npz: CSV, TSV or Parquet, one row a cell, first column the cell ids. In CSV and TSV "
            "nothing, NA, NaN and null are missing values, and None is a text.",
        ),
        click.option(
            "--gene-field", metavar="NAME", help="Column of var with the gene symbols (else its index)."
        ),
        SAMPLE_FIELD,
        click.option(
            "--study-field",
            metavar="NAME",
            help="Column with the study (else 'study'; else the file's name).",
        ),
        click.option("--study", metavar="NAME", help="All cells of the file are of this study."),
        click.option("--layer", metavar="NAME", help="Layer with the attributions, or raw (else X)."),
        recipe_options,
        click.option(
            "--model",
            type=_PATH,
            metavar="DIR",
            help="The files hold counts: make attributions with this model, as `insignia attribute` does.",
        ),
        REPLACE,
        click.argument("files", nargs=-1, required=True, type=_PATH),
        click.argument("atlas", type=_PATH),
    ):
        command = option(command)
    return command


@click.command()
@_inputs
@storage
def build(atlas: Path, **options: Any) -> None:
    """Build an atlas from attribution files (.h5ad, .zarr, .npz), or from counts and a --model.

    If the atlas is there, studies that it lacks are added and unchanged ones left alone. Either all files
    are published, as one revision, or nothing is.
    """
    _run(atlas, create=True, **options)


@click.command()
@_inputs
def add(atlas: Path, **options: Any) -> None:
    """Add studies to an atlas; it can be open, and served, meanwhile."""
    _run(atlas, create=False, value_dtype=None, pseudobulk=None, **options)


def _run(
    atlas: Path,
    *,
    create: bool,
    value_dtype: str | None,
    pseudobulk: list[str] | None,
    files: tuple[Path, ...],
    replace: bool,
    gene_table: Path | None = None,
    replace_gene_table: bool = False,
    faiss: str | None = None,
    model: Path | None = None,
    **how: Any,
) -> None:
    # pandas and scipy, which --help does not need
    from insignia_index.build.build import build_atlas
    from insignia_index.build.inputs import InputFile
    from insignia_index.build.progress import BarProgress

    if model is None:
        refuse_recipe()
    attribution = attribution_of(model, how) if model else None
    inputs = [InputFile(path, **without_recipe(how), attribution=attribution) for path in files]
    report = build_atlas(
        atlas,
        inputs,
        value_dtype=value_dtype,
        pseudobulk=pseudobulk,
        create=create,
        replace=replace,
        gene_table=gene_table,
        replace_gene_table=replace_gene_table,
        faiss=faiss,
        progress=BarProgress(),
    )
    click.echo(summary(atlas, report))
    for note in report.notes:
        click.echo(f"Note: {note}", err=True)
    if report.faiss is not None:
        for line in faiss_lines(report.faiss):
            click.echo(line)
    for name, recipe in report.recipes.items():
        click.echo("\n".join([f"  {name}", *("    " + line for line in recipe_lines(recipe))]))


def summary(atlas: Path, report: BuildReport) -> str:
    """What a build did, in a line."""
    done = [
        f"{len(studies):,} {'study' if len(studies) == 1 else 'studies'} {what}"
        for studies, what in (
            (report.added, "added"),
            (report.replaced, "replaced"),
            (report.unchanged, "already there, unchanged"),
        )
        if studies
    ]
    if not report.added and not report.replaced:
        nothing = "" if report.changed else "nothing to do: "
        return f"{atlas}: {nothing}{', '.join(done)} (revision {report.revision})"
    return (
        f"{atlas}: {', '.join(done)}; {report.n_cells:,} cells, {report.n_postings:,} postings "
        f"(revision {report.revision})"
    )
