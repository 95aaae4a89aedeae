"""Options that say which signature, and how its file is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click

from insignia_model import DeRule, Signature, Signatures, read_signatures
from insignia_model.errors import InvalidSignature
from insignia_model.listing import some
from insignia_model.reading import FORMATS
from insignia_model.reading.expression import DE_WEIGHTS, DIRECTIONS

C = TypeVar("C", bound=Callable[..., Any])


def signature(command: C) -> C:
    """``--genes``, ``--signature``, ``--name`` and those of `reading`: see `read_signature`."""
    command = reading(command)
    for option in (
        click.option(
            "--name",
            metavar="SET",
            help="Set of the file, if it has several; or a name for the genes.",
        ),
        click.option(
            "--signature",
            "file",
            type=click.Path(path_type=Path, allow_dash=True),
            metavar="FILE",
            help="GMT, CSV, TSV or JSON (also .gz), a table of differential expression, or - for stdin.",
        ),
        click.option(
            "--genes", metavar="GENES", help="Genes, such as CD14,LYZ or with weights CD14:2,CD3E:-1."
        ),
    ):
        command = option(command)
    return command


def reading(command: C) -> C:
    """How files of signatures are read: see `insignia_model.read_signatures`."""
    for option in (
        click.option(
            "--de-direction",
            type=click.Choice(DIRECTIONS),
            help="Of differential expression: genes that are up, down, or (default) both, down negative.",
        ),
        click.option(
            "--de-weight",
            type=click.Choice(DE_WEIGHTS),
            help="Weight of a gene: sign (default; +1 up, -1 down) or its log fold change.",
        ),
        click.option("--de-top", type=int, metavar="N", help="Only the N genes of the smallest adjusted p."),
        click.option(
            "--min-lfc", type=float, metavar="X", help="Least size of a log fold change; default 0."
        ),
        click.option("--max-padj", type=float, metavar="P", help="Largest adjusted p; default 0.05."),
        click.option(
            "--join-up-down",
            is_flag=True,
            help="Join sets NAME_UP and NAME_DN into a signed NAME.",
        ),
        click.option("--header/--no-header", default=None, help="Whether a table has one; default: look."),
        click.option(
            "--columns",
            metavar="ROLE=COLUMN,...",
            help="Columns of a table by name or number; roles: gene, weight, set, lfc, padj. "
            "Such as gene=symbol,weight=3; weight= for none.",
        ),
        click.option(
            "--signature-format", type=click.Choice(FORMATS), help="Default: by suffix, or else by content."
        ),
    ):
        command = option(command)
    return command


def read_signature(given: Mapping[str, Any]) -> Signature:
    """Signature from the options of `signature`; notes about its file go to stderr."""
    genes, file, name = given["genes"], given["file"], given["name"]
    if (genes is None) == (file is None):
        raise click.UsageError("give either --genes GENES or --signature FILE")
    if file is None:
        return Signature.parse(genes, name or _abridged(genes))
    sets = _read(file, given, name, lenient=False)
    if name is None and len(sets) == 1:
        return next(iter(sets.values()))
    if name is None:
        raise InvalidSignature(
            str(file), f"has {len(sets):,} sets; choose one with --name: {some(list(sets))}"
        )
    if name not in sets:
        close = get_close_matches(name, sets, n=5, cutoff=0.5) or list(sets)
        raise InvalidSignature(
            str(file), f"has no set {name!r} among its {len(sets):,}; there are {some(close)}"
        )
    return sets[name]


def read_library(files: Iterable[Path], given: Mapping[str, Any]) -> Signatures:
    """All signatures of several files, by the options of `reading`; bad ones are ``rejected``, not errors."""
    found: dict[str, Signature] = {}
    rejected: dict[str, str] = {}
    notes: list[str] = []
    for file in files:
        sets = _read(file, given, None, lenient=True)
        again = [name for name in sets if name in found]
        if again:
            raise InvalidSignature(str(file), f"repeats sets of the files before: {some(again)}")
        found |= sets
        for name, reason in sets.rejected.items():
            rejected[f"{name} ({file})" if name in rejected else name] = reason
        notes += sets.notes
    return Signatures(found, notes, rejected)


def _read(file: Path, given: Mapping[str, Any], name: str | None, *, lenient: bool) -> Signatures:
    sets = read_signatures(
        file,
        format=given["signature_format"],
        name=name,
        columns=_columns(given["columns"]),
        header=given["header"],
        de=_de_rule(given),
        join_up_down=given["join_up_down"],
        lenient=lenient,
    )
    for note in sets.notes:
        click.echo(f"insignia: {file}: {note}", err=True)
    return sets


def _columns(text: str | None) -> dict[str, str | int | None] | None:
    if text is None:
        return None
    columns: dict[str, str | int | None] = {}
    for item in filter(None, text.split(",")):
        role, equals, column = item.partition("=")
        if not equals:
            raise click.UsageError(f"--columns: {item!r} is not ROLE=COLUMN, such as gene=symbol")
        columns[role.strip()] = column.strip() or None
    return columns


def _de_rule(given: Mapping[str, Any]) -> DeRule | None:
    """Rule of the options that are given; None: the default, and no demand on the file."""
    names = {"max_padj": "max_padj", "min_lfc": "min_lfc", "de_top": "top"}
    names |= {"de_weight": "weight", "de_direction": "direction"}
    told = {field: given[option] for option, field in names.items() if given[option] is not None}
    return DeRule(**told) if told else None


def _abridged(genes: str) -> str:
    return genes if len(genes) <= 40 else genes[:39] + "…"
