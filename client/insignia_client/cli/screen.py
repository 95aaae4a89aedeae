"""`insignia screen`: a library of signatures, one row per signature and group, to a file."""

from __future__ import annotations

import hashlib
import itertools
import json
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from insignia_client.cli import options, render
from insignia_client.cli.backend import Backend, open_backend
from insignia_client.cli.filters import note_filter
from insignia_client.cli.output import new_file, problems_of
from insignia_client.cli.screen_parts import Parts, opened_parts
from insignia_model import ScreenRequest, Signature, Signatures, SkippedSignature, Table
from insignia_model.errors import InvalidArgument
from insignia_model.optional import extra
from insignia_model.screen import ScreenStream, concatenated, with_fdr


@click.command(short_help="Groups of every signature of a library, to a file.")
@click.argument("library", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.source
@options.reading
@options.conditions
@options.strict
@click.option(
    "--group-by", multiple=True, default=["study"], show_default=True, metavar="FIELD", help="As for search."
)
@click.option("--hits", metavar="RULE", help="As for search; default: percentile:95.")
@click.option("--means-only", is_flag=True, help="Mean scores, no hits.")
@click.option("--min-cells", default=10, show_default=True, metavar="N", help="As for search.")
@click.option("--null", is_flag=True, help="Also compare mean scores with random signatures': z, p, FDR.")
@click.option(
    "--leading", default=5, show_default=True, metavar="N", help="Name the N genes that add most to a mean."
)
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="FILE.parquet, FILE.csv or FILE.tsv. Until it is complete, FILE.parts holds what is done.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw signatures by groups (.png or .svg): z of the null, or else hit fraction, or else mean.",
)
def screen(**given: Any) -> None:
    """Search every signature of LIBRARY (files of signatures): one row per signature and group.

    A signature that cannot be searched has one row with the reason. What was interrupted goes on where it
    stopped when the same command runs again.

    \b
      insignia screen hallmark.gmt --atlas my.atlas --group-by cell_type -o hallmark.parquet
    """
    if given["means_only"] and given["hits"]:
        raise click.UsageError("--means-only has no --hits")
    request = ScreenRequest.of(
        where=given["where"],
        group_by=options.field_names(given["group_by"]),
        hits=None if given["means_only"] else given["hits"] or "percentile:95",
        aggregate=given["aggregate"],
        min_cells=given["min_cells"],
        strict=given["strict"],
        null=given["null"],
        n_leading=given["leading"],
    )
    out: Path = given["out"]
    write = _writer(out)
    if given["plot"]:  # what cannot be drawn is told now, not when the screen is done
        with extra("plot", "a plot"):
            from insignia_model.plot.style import check_path

            check_path(given["plot"], "--plot")
    library = _library(options.read_library(given["library"], given))
    with open_backend(given["atlas"], given["server"], given["timeout_s"]) as backend:
        atlas = _content(backend)
        asked = f"{atlas}|{request}|{_digest(library)}"
        with opened_parts(out, hashlib.sha256(asked.encode()).hexdigest()) as parts:
            if len(library) > parts.n_done:
                stream = backend.run_screen(request, itertools.islice(library, parts.n_done, None))
                if _content(backend) != atlas:  # so that nobody knows of which the stream is
                    stream.close()
                    raise InvalidArgument("screen", "the atlas changed just now; run the same command again")
                _run(stream, parts, len(library))
            table = with_fdr(concatenated(parts.tables()))
            with new_file(out) as file:
                write(table, file)
            parts.remove()
        if (n_skipped := len(_skipped(table))) < len(library):
            note_filter(backend, request.where, len(table) - n_skipped)
    click.echo(_summary(table, len(library)))
    if plot := given["plot"]:
        _draw(table, plot)


def _content(backend: Backend) -> str:
    """What tells an atlas from another, or from itself at another revision."""
    info = backend.info()
    return f"{info.digest}@{info.revision}"


def _run(stream: ScreenStream, parts: Parts, n_signatures: int) -> None:
    """Take the chunks into parts as they come; an interrupt ends the screen between two of them."""
    plan = stream.plan
    click.echo(
        f"{n_signatures:,} signatures x {plan.n_cells:,} cells, up to {plan.n_per_batch:,} at a time: "
        f"{render.size(plan.memory_bytes)} for their scores"
        + (f"; {parts.n_done:,} are done already" if parts.n_done else ""),
        err=True,
    )
    try:
        with click.progressbar(
            length=n_signatures,
            label="signatures",
            show_pos=True,
            file=sys.stderr,
            item_show_func=_shown_rate,
        ) as bar:
            bar.update(parts.n_done)
            began, n_before = time.monotonic(), parts.n_done
            for chunk in stream:
                parts.add(chunk)
                rate = (parts.n_done - n_before) / max(1e-9, time.monotonic() - began)
                bar.update(chunk.n_signatures, rate)
    except KeyboardInterrupt:
        click.echo(
            f"\nstopped: {parts.n_done:,} of {n_signatures:,} signatures are done and kept in {parts.path}; "
            "the same command goes on from there",
            err=True,
        )
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        stream.close()


def _draw(table: Table, plot: Path) -> None:
    from insignia_model.plot import screen_heatmap

    shown = [name for name in ("null_z", "hit_fraction", "mean") if name in table.columns]
    value = next((name for name in shown if table[name].has_values), shown[0])
    with problems_of("--plot", plot):
        screen_heatmap(table, value, path=plot)


def _shown_rate(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:,.0f}/s"


def _library(sets: Signatures) -> list[Signature | SkippedSignature]:
    """Signatures in order, then those that are none."""
    skipped = [SkippedSignature(name, reason) for name, reason in sets.rejected.items()]
    return [*sets.values(), *skipped]


def _digest(library: Iterable[Signature | SkippedSignature]) -> str:
    digest = hashlib.sha256()
    for item in library:
        content = item.reason if isinstance(item, SkippedSignature) else dict(item.weights)
        digest.update(json.dumps([item.name, content]).encode())
    return digest.hexdigest()


def _writer(out: Path) -> Callable[[Table, Any], None]:
    writers = {".parquet": _write_parquet, ".csv": _write_csv(","), ".tsv": _write_csv("\t")}
    if out.suffix not in writers:
        raise InvalidArgument("--out", f"{out} ends neither in .parquet nor in .csv or .tsv")
    if out.is_dir():
        raise InvalidArgument("--out", f"{out} is a directory")
    if out.suffix == ".parquet":
        with extra("index", "--out FILE.parquet"):
            import pyarrow  # noqa: F401  # now, not when the screen is done
    return writers[out.suffix]


def _write_parquet(table: Table, file: Any) -> None:
    table.to_frame().to_parquet(file, index=False)


def _write_csv(separator: str) -> Callable[[Table, Any], None]:
    def write(table: Table, file: Any) -> None:
        table.to_frame().to_csv(file, index=False, sep=separator)

    return write


def _summary(table: Table, n_signatures: int) -> str:
    skipped = _skipped(table)
    n_skipped = len(skipped)
    text = f"{n_signatures - n_skipped:,} signatures, {len(table) - n_skipped:,} rows"
    if skipped:
        shown = "; ".join(itertools.islice(skipped, 3))
        text += f"; {n_skipped:,} not searched (column reason): {shown}" + ("; ..." if n_skipped > 3 else "")
    return text


def _skipped(table: Table) -> list[str]:
    reasons = table["reason"].to_list()
    names = table["signature"]
    return [names.dictionary[names.values[i]] for i, reason in enumerate(reasons) if reason is not None]
