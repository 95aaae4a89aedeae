"""`insignia scores`: the score of every cell, as a file."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import click
import numpy as np

from insignia_client.cli import options
from insignia_client.cli.backend import open_backend
from insignia_client.cli.output import new_file
from insignia_model import ScoreChunk, SearchRequest
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
def scores(**given: Any) -> None:
    r"""Score every cell that passes the filter, in the order of the studies and their rows.

    \b
      insignia scores --server 127.0.0.1:50051 --genes INS,IAPP --out beta.csv
    """
    request = SearchRequest.of(
        options.read_signature(given),
        where=given["where"],
        aggregate=given["aggregate"],
        min_coverage=given["min_coverage"],
    )
    out: Path | None = given["out"]
    write = _writer(out)
    with open_backend(given["atlas"], given["server"], given["timeout_s"]) as backend:
        chunks = backend.iter_scores(
            request.signature,
            where=request.where,
            aggregate=request.aggregate,
            cell_ids=given["cell_ids"],
            min_coverage=request.min_coverage,
        )
        if out is None:
            write(chunks, sys.stdout.buffer)
        else:
            with new_file(out) as file:
                write(chunks, file)


def _writer(out: Path | None) -> Callable[[Iterable[ScoreChunk], IO[bytes]], None]:
    suffix = ".csv" if out is None else out.suffix
    writers = {".csv": partial(_write_text, separator=","), ".tsv": partial(_write_text, separator="\t")}
    writer = (writers | {".npz": _write_npz}).get(suffix)
    if writer is None:
        raise InvalidArgument("--out", f"{out} ends neither in .csv nor in .tsv or .npz")
    return writer


def _write_text(chunks: Iterable[ScoreChunk], file: IO[bytes], separator: str) -> None:
    """One line per cell, chunk by chunk: memory does not grow with the atlas."""
    for number, chunk in enumerate(chunks):
        text = io.StringIO()
        writer = csv.writer(text, delimiter=separator, lineterminator="\n")
        if number == 0:
            writer.writerow(["study", "row", *(["cell_id"] if chunk.cell_ids else []), "score"])
        writer.writerows(_rows(chunk))
        file.write(text.getvalue().encode())


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
