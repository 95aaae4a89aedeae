"""Where a command's output goes: stdout, or a file that appears when it is complete."""

from __future__ import annotations

import glob
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

#: Ends of names of text for people.
TEXT = ("", ".txt", ".text", ".md", ".log", ".out")


def chosen_format(shape: str | None, out: Path | None) -> str:
    """``--format``, or else what the name of ``--out`` says, or else a table."""
    if shape is None and out is not None and out.suffix not in TEXT:
        if out.suffix[1:] not in FORMATS:
            raise InvalidArgument(
                "--out", f"{out} ends neither in .csv nor .json nor .txt; give --format too"
            )
        return out.suffix[1:]
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
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if not _runs(left.suffix[1:]):  # whoever began to write it was killed
            left.unlink(missing_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
        if path.exists():
            unfinished.chmod(stat.S_IMODE(path.stat().st_mode))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _runs(pid: str) -> bool:
    """Whether there is such a process, or nobody can tell."""
    if os.name != "posix" or not (pid.isascii() and pid.isdigit()):
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


@contextmanager
def problems_of(option: str, path: Path) -> Iterator[None]:
    """Errors of the operating system as errors of an option."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InvalidArgument(option, f"cannot write {path}: {error.strerror or error}") from error
