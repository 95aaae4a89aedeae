"""`insignia scores`: the score of every cell, as a file."""

from __future__ import annotations

import csv
import io
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import click
import numpy as np

from insignia_client.cli import options
from insignia_client.cli.backend import Backend, open_backend
from insignia_client.cli.filters import note_filter
from insignia_client.cli.genes import genes_text, inexact_text
from insignia_client.cli.output import new_file, problems_of
from insignia_model import HitRule, ScoreChunk, Scores, SearchRequest
from insignia_model.errors import InvalidArgument


@click.command(short_help="Score of every cell, to a file.")
@options.source
@options.signature
@options.question
@click.option(
    "--cell-ids/--no-cell-ids", default=True, show_default=True, help="Also the names of the cells."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="FILE.csv, FILE.tsv or FILE.npz (arrays study_names, study, row, score, cell_id); "
    "default: CSV to stdout.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Draw the distribution of the scores; without --out nothing else is written.",
)
@click.option(
    "--hits",
    default="percentile:95",
    show_default=True,
    metavar="RULE",
    help="Of --plot: the cut-off; see `insignia search`.",
)
@click.option("--by-study", is_flag=True, help="Of --plot: a row per study.")
def scores(**given: Any) -> None:
    """Score every cell that passes the filter, in the order of the studies and their rows.

    \b
      insignia scores --server 127.0.0.1:50051 --genes INS,IAPP --out beta.csv
      insignia scores --atlas my.atlas --genes INS,IAPP --plot beta.png --hits zscore:2
    """
    rule = HitRule.parse(given["hits"])
    request = SearchRequest.of(
        options.read_signature(given),
        where=given["where"],
        aggregate=given["aggregate"],
        min_coverage=given["min_coverage"],
        strict=given["strict"],
    )
    out: Path | None = given["out"]
    plot: Path | None = given["plot"]
    with_names: bool = given["cell_ids"] and (plot is None or out is not None)
    write = _writer(out, with_names)
    kept: list[ScoreChunk] = []
    with open_backend(given["atlas"], given["server"], given["timeout_s"]) as backend:
        backend.info()  # a server that does not answer is told of in time: the stream has no bound
        stream = backend.iter_scores(
            request.signature,
            where=request.where,
            aggregate=request.aggregate,
            cell_ids=with_names,
            min_coverage=request.min_coverage,
            strict=request.strict,
        )
        if stream.genes.problems():
            used = f"{request.signature.name}: {genes_text(stream.genes)}"
            click.echo(f"{used}\n{inexact_text(stream.genes)}", err=True, nl=False)
        chunks: Iterable[ScoreChunk] = _with_notes(stream, backend, request)
        if plot is not None:
            chunks = _keeping(chunks, kept)
        if out is None and plot is not None:
            deque(chunks, maxlen=0)
        elif out is None:
            write(chunks, sys.stdout.buffer)
        else:
            with new_file(out) as file:
                write(chunks, file)
    if plot is not None:
        with problems_of("--plot", plot):
            Scores(tuple(kept)).plot(
                cutoff=rule,
                by="study" if given["by_study"] else None,
                title=request.signature.name,
                path=plot,
            )


def _with_notes(
    chunks: Iterable[ScoreChunk], backend: Backend, request: SearchRequest
) -> Iterator[ScoreChunk]:
    """The same chunks, then what there is to say about the filter."""
    n_cells = 0
    for chunk in chunks:
        n_cells += len(chunk.scores)
        yield chunk
    note_filter(backend, request.where, n_cells)


def _keeping(chunks: Iterable[ScoreChunk], kept: list[ScoreChunk]) -> Iterator[ScoreChunk]:
    """The same chunks; their scores, without the names of the cells, stay in ``kept`` for the picture."""
    for chunk in chunks:
        kept.append(ScoreChunk(chunk.study, chunk.rows, chunk.scores))
        yield chunk


def _writer(out: Path | None, with_names: bool) -> Callable[[Iterable[ScoreChunk], IO[bytes]], None]:
    suffix = ".csv" if out is None else out.suffix
    text = partial(_write_text, with_names=with_names)
    writers = {".csv": partial(text, separator=","), ".tsv": partial(text, separator="\t")}
    writer = (writers | {".npz": _write_npz}).get(suffix)
    if writer is None:
        raise InvalidArgument("--out", f"{out} ends neither in .csv nor in .tsv or .npz")
    return writer


def _write_text(chunks: Iterable[ScoreChunk], file: IO[bytes], *, separator: str, with_names: bool) -> None:
    """One line per cell, chunk by chunk: memory does not grow with the atlas."""
    head = ["study", "row", *(["cell_id"] if with_names else []), "score"]
    for chunk in chunks:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=separator, lineterminator="\n")
        if head:  # not before there is an answer
            writer.writerow(head)
            head = []
        writer.writerows(_rows(chunk))
        file.write(text.getvalue().encode())
    if head:
        file.write(f"{separator.join(head)}\n".encode())


def _rows(chunk: ScoreChunk) -> Iterator[tuple[object, ...]]:
    n = len(chunk.scores)
    scores = chunk.scores.astype(str)  # float32: the fewest digits that denote it
    names = [chunk.cell_ids] if chunk.cell_ids else []
    return zip([chunk.study] * n, chunk.rows.tolist(), *names, scores.tolist(), strict=True)


def _write_npz(chunks: Iterable[ScoreChunk], file: IO[bytes]) -> None:
    """Arrays over all cells; ``study`` indexes ``study_names``."""
    all_chunks = [chunk for chunk in chunks if len(chunk.scores)]
    names = list(dict.fromkeys(chunk.study for chunk in all_chunks))
    arrays = {
        "study_names": np.array(names, dtype=np.str_),
        "study": _joined(
            [np.full(len(c.rows), names.index(c.study), np.int32) for c in all_chunks], np.int32
        ),
        "row": _joined([c.rows for c in all_chunks], np.int64),
        "score": _joined([c.scores for c in all_chunks], np.float32),
    }
    if any(chunk.cell_ids for chunk in all_chunks):
        arrays["cell_id"] = np.array([name for chunk in all_chunks for name in chunk.cell_ids], dtype=np.str_)
    np.savez(file, **arrays)  # type: ignore[arg-type]


def _joined(arrays: list[np.ndarray[Any, Any]], dtype: type) -> np.ndarray[Any, Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)
