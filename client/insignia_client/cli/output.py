"""Where a command's output goes: stdout, or a file that appears when it is complete."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from insignia_client.cli.options import FORMATS
from insignia_model.errors import InvalidArgument


def chosen_format(shape: str | None, out: Path | None) -> str:
    """``--format``, or else what the name of ``--out`` says, or else a table."""
    if shape is None and out is not None and out.suffix[1:] in FORMATS:
        return out.suffix[1:]
    return shape or "table"


def write_text(text: str, out: Path | None) -> None:
    """Print, or write a file and say so."""
    if out is None:
        sys.stdout.write(text)
        return
    with new_file(out) as file:
        file.write(text.encode())


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """File to be written, which takes its name when the block ends and is gone when the block fails."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with problems_of("--out", path):
        file = unfinished.open("wb")
    try:
        with problems_of("--out", path):
            with file:
                yield file
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    click.echo(f"wrote {path}", err=True)


@contextmanager
def problems_of(option: str, path: Path) -> Iterator[None]:
    """Errors of the operating system as errors of an option."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InvalidArgument(option, f"cannot write {path}: {error.strerror or error}") from error
