"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click

from insignia_model import Signature, read_gmt
from insignia_model.errors import InvalidSignature

C = TypeVar("C", bound=Callable[..., Any])

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


def signature(command: C) -> C:
    """``--genes``, ``--signature`` and ``--name``: see `read_signature`."""
    for option in (
        click.option(
            "--name",
            metavar="SET",
            help="Set of the GMT file, needed if it has several; or a name for --genes.",
        ),
        click.option("--signature", "gmt", type=click.Path(path_type=Path), metavar="FILE", help="GMT file."),
        click.option(
            "--genes", metavar="GENES", help="Genes, such as CD14,LYZ or with weights CD14:2,CD3E:-1."
        ),
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


def read_signature(genes: str | None, gmt: Path | None, name: str | None) -> Signature:
    """Signature from the options of `signature`."""
    if (genes is None) == (gmt is None):
        raise click.UsageError("give either --genes GENES or --signature FILE")
    if gmt is None:
        return Signature.parse(genes or "", name or _abridged(genes or ""))
    sets = read_gmt(gmt)
    if name is None and len(sets) == 1:
        return next(iter(sets.values()))
    if name is None:
        raise InvalidSignature(
            str(gmt), f"has {len(sets):,} sets; choose one with --name: {_some(list(sets))}"
        )
    if name not in sets:
        close = get_close_matches(name, sets, n=5, cutoff=0.5) or list(sets)
        raise InvalidSignature(
            str(gmt), f"has no set {name!r} among its {len(sets):,}; there are {_some(close)}"
        )
    return sets[name]


def _abridged(genes: str) -> str:
    return genes if len(genes) <= 40 else genes[:39] + "…"


def _some(names: list[str], n_shown: int = 10) -> str:
    return ", ".join(names[:n_shown]) + (
        f" and {len(names) - n_shown:,} more" if len(names) > n_shown else ""
    )
