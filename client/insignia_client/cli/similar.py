"""`insignia similar`: cells like chosen ones, and hit statistics of groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from insignia_client.cli import options
from insignia_client.cli.backend import open_backend
from insignia_client.cli.filters import note_filter
from insignia_client.cli.output import chosen_format
from insignia_client.cli.search import show
from insignia_model import Signature, SimilarRequest

TABLES = ("groups", "cells", "samples")


@click.command(short_help="Cells like chosen cells, their centroid or a profile.")
@options.source
@click.option(
    "--cell",
    "cells",
    multiple=True,
    metavar="STUDY:CELL_ID",
    help="Cell that others are to be like; several: like their mean. It is not found itself.",
)
@click.option(
    "--centroid",
    multiple=True,
    metavar="CONDITION",
    help="Cells whose mean profile others are to be like, such as 'cell_type=B cells'; several: all of them.",
)
@click.option(
    "--profile",
    "file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Profile that cells are to be like: genes and values, such as a CSV of two columns.",
)
@click.option("--name", metavar="SET", help="Set of the --profile file, if it has several.")
@options.reading
@click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Only cells with, such as, tissue=blood,lung. Without --cell, --centroid and --profile it is the "
    "--centroid.",
)
@click.option("--exclude-study", is_flag=True, help="Leave out the studies of the query's cells.")
@options.statistics
@options.strict
@options.engine
@options.output
@click.option(
    "--table", "which", type=click.Choice(TABLES), help="Table that is printed; default for csv: groups."
)
@options.plot
def similar(**given: Any) -> None:
    """Score every cell by the inner product of its attributions with a profile; print as search does.

    \b
      insignia similar --atlas my.atlas --cell pbmc3k:TGGTCAGACCGTTC-1 --exclude-study --group-by cell_type
      insignia similar --server 127.0.0.1:50051 --where 'cell_type=B cells' --where tissue=blood -k 20
      insignia similar --atlas my.atlas --centroid cell_type=beta --where study=baron2016

    The query is one of --cell, --centroid and --profile, and --where then says which cells may be found.
    Alone, --where says whose centroid is the query, and all cells may be found.
    """
    request, shape = _request(given), chosen_format(given["shape"], given["out"])
    if given["which"] and shape == "json":
        raise click.UsageError("--table is for --format table and csv; json has one object with all")
    with open_backend(given["atlas"], given["server"], given["timeout_s"]) as backend:
        result = backend.run_similar(request)
        show(result, given, shape)
        note_filter(backend, request.where, result.n_cells)


def _request(given: dict[str, Any]) -> SimilarRequest:
    cells, centroid, file, where = given["cells"], given["centroid"], given["file"], given["where"]
    if not (cells or centroid or file):
        centroid, where = where, ()
    if bool(cells) + bool(centroid) + (file is not None) != 1:
        raise click.UsageError("give one of --cell, --centroid and --profile, or --where alone")
    return SimilarRequest.of(
        cells or None,
        centroid=centroid or None,
        profile=None if file is None else _profile(given),
        k=given["k"],
        where=where,
        group_by=options.field_names(given["group_by"]),
        hits=given["hits"],
        quantiles=given["quantiles"],
        min_cells=given["min_cells"],
        exclude_study=given["exclude_study"],
        strict=given["strict"],
        **options.engine_options(given),
    )


def _profile(given: dict[str, Any]) -> Signature:
    return options.read_signature(given | {"genes": None})
