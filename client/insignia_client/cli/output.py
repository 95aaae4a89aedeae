"""Where a command's output goes: stdout, or a file that appears when it is complete."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from insignia_client.cli.options import FORMATS
from insignia_model.errors import InvalidArgument

#: Ends of names that promise what commands for people do not write.
OTHERS = (
    ".tsv",
    ".tab",
    ".xlsx",
    ".xls",
    ".parquet",
    ".feather",
    ".npz",
    ".npy",
    ".h5ad",
    ".html",
    ".pdf",
    ".png",
)


def chosen_format(shape: str | None, out: Path | None) -> str:
    """``--format``, or else what the name of ``--out`` says, or else a table."""
    suffix = "" if out is None else out.suffix.lower()
    if shape is None and suffix in OTHERS:
        raise InvalidArgument("--out", f"{out}: this writes .csv, .json and text; give --format too")
    if shape is None and suffix[1:] in FORMATS:
        return suffix[1:]
    return shape or "table"


def write_text(text: str, out: Path | None) -> None:
    """Print, or write a file and say so."""
    if out is None:
        sys.stdout.write(text)
        sys.stdout.flush()  # a full disk shows here
        return
    with new_file(out) as file:
        file.write(text.encode())


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """File to be written, which takes its name when the block ends and is gone when the block fails.

    What is there and is no file, such as a pipe or a device, is written to; ``-`` is stdout.
    """
    if str(path) == "-":
        yield sys.stdout.buffer
        return
    target = Path(os.path.realpath(path))  # of a link, what it leads to
    if not target.name:
        raise InvalidArgument("--out", f"{path} is no name of a file")
    with problems_of("--out", path):
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
        else:
            with _replacing(target) as file:
                yield file
    click.echo(f"wrote {path}", err=True)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
        if path.exists():
            unfinished.chmod(stat.S_IMODE(path.stat().st_mode))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def problems_of(option: str, path: Path) -> Iterator[None]:
    """Errors of the operating system as errors of an option."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InvalidArgument(option, f"cannot write {path}: {error.strerror or error}") from error
