"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from insignia_client.cli.signatures import read_library, read_signature, reading, signature

C = TypeVar("C", bound=Callable[..., Any])

__all__ = [
    "FORMATS",
    "output",
    "question",
    "read_library",
    "read_signature",
    "reading",
    "signature",
    "source",
]

FORMATS = ("table", "json", "csv")


def source(command: C) -> C:
    """``--atlas``, ``--server`` and ``--timeout``: what is asked."""
    for option in (
        click.option(
            "--timeout",
            "timeout_s",
            default=30.0,
            show_default=True,
            metavar="SECONDS",
            help="Longest wait for --server.",
        ),
        click.option("--server", metavar="HOST:PORT", help="Server to ask."),
        click.option("--atlas", type=click.Path(path_type=Path), metavar="DIR", help="Atlas to open here."),
    ):
        command = option(command)
    return command


def strict(command: C) -> C:
    """``--strict``: nothing but exact symbols."""
    return click.option(
        "--strict", is_flag=True, help="Refuse gene names that are not exact symbols of the atlas."
    )(command)


def question(command: C) -> C:
    """``--where``, ``--aggregate``, ``--min-coverage`` and ``--strict``: which cells, and what a score is."""
    coverage = click.option(
        "--min-coverage",
        default=0.0,
        metavar="SHARE",
        help="Leave out studies that measured a smaller share (0-1) of the genes.",
    )
    return conditions(coverage(strict(command)))


def conditions(command: C) -> C:
    """``--where`` and ``--aggregate``."""
    for option in (
        click.option("--aggregate", type=click.Choice(["mean", "sum"]), default="mean", show_default=True),
        click.option(
            "--where",
            multiple=True,
            metavar="CONDITION",
            help="Only cells with, such as, tissue=blood,lung or tissue!=blood or 'age>=40' or "
            "'disease is missing'; several: all of them.",
        ),
    ):
        command = option(command)
    return command


def output(command: C) -> C:
    """``--format`` and ``--out``."""
    for option in (
        click.option(
            "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write here, not to stdout."
        ),
        click.option(
            "--format",
            "shape",
            type=click.Choice(FORMATS),
            help="Default: that of the name of --out, otherwise table.",
        ),
    ):
        command = option(command)
    return command


def field_names(texts: Iterable[str]) -> list[str]:
    """Fields of an option that may be given several times, each time with one name or more."""
    return [field for text in texts for field in text.split(",") if field]
