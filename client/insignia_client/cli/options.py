"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from insignia_client.cli.signatures import read_library, read_signature, reading, signature
from insignia_model.engine import ENGINES

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
            help="Longest wait for an answer of --server; of scores and screens, for the first sign of life.",
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
        help="Leave out studies that measured a smaller share (0-1) of the genes that the atlas knows.",
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


def engine(command: C) -> C:
    """``--engine``, ``--recall-target`` and ``--groups``: what finds the best cells."""
    for option in (
        click.option(
            "--groups/--no-groups",
            "groups",
            default=None,
            help="Groups and hits, whatever engine finds the best cells; or they are not needed, and auto "
            "may take faiss, which then has none (sparse has them anyway). Default: auto takes sparse.",
        ),
        click.option(
            "--recall-target",
            default=0.99,
            show_default=True,
            metavar="SHARE",
            help="Of the best cells, that an engine which is not exact is to find.",
        ),
        click.option(
            "--engine",
            type=click.Choice(tuple(ENGINES)),
            default="auto",
            show_default=True,
            help="sparse is exact; faiss re-scores candidates; auto takes the one that serves the question.",
        ),
    ):
        command = option(command)
    return command


def engine_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a request from those of `engine`."""
    return {
        "engine": given["engine"],
        "recall_target": given["recall_target"],
        "groups": given["groups"],
    }


def statistics(command: C) -> C:
    """``-k``, ``--group-by``, ``--hits``, ``--quantiles`` and ``--min-cells``: what is told of the scores."""
    for option in (
        click.option(
            "--min-cells",
            default=10,
            show_default=True,
            metavar="N",
            help="Samples with fewer cells are no replicate, groups with fewer not tested by --null.",
        ),
        click.option("--quantiles", is_flag=True, help="Also median and 90th percentile of every group."),
        click.option(
            "--hits",
            default="percentile:95",
            show_default=True,
            metavar="RULE",
            help="percentile:P, quantile:Q, value:SCORE, zscore:Z or top:N.",
        ),
        click.option(
            "--group-by",
            multiple=True,
            default=["study"],
            show_default=True,
            metavar="FIELD",
            help="Field of the groups; several (or with commas): one group per tuple of values.",
        ),
        click.option("-k", "k", default=100, show_default=True, metavar="N", help="Number of best cells."),
    ):
        command = option(command)
    return command


def plot(command: C) -> C:
    """``--plot``."""
    return click.option(
        "--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the samples' hits."
    )(command)


def output(command: C) -> C:
    """``--format`` and ``--out``."""
    for option in (
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Write here, not to stdout: .csv, .json, else text as on the terminal.",
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
