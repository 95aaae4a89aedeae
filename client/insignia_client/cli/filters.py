"""Notes about a filter: that no cell passes, and which of its values no cell has, as a misspelled one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches

import click

from insignia_client.cli.backend import Backend
from insignia_model import Condition
from insignia_model.errors import InsigniaError
from insignia_model.listing import some

#: Values of a field that are looked at; one with more, such as barcodes, is not checked.
MOST_VALUES = 10_000
_SHOWN = 8
_TOLD = 5


def note_filter(backend: Backend, conditions: Sequence[Condition], n: int) -> None:
    """Say on stderr that no cell passes, if ``n`` is 0, and which texts are no value of their field.

    The answer has been written: an error here is none of the command's.
    """
    if conditions and n == 0:
        click.echo("Note: no cell passes the filter", err=True)
    asked: dict[str, list[str]] = {}
    for condition in conditions:
        # the one value that cells must have and that some have is no mistake
        if condition.op == "not in" or (condition.op == "in" and (n == 0 or len(condition.values) > 1)):
            texts = [value for value in condition.values if isinstance(value, str)]
            asked.setdefault(condition.field, []).extend(texts)
    if not any(asked.values()):
        return
    with suppress(InsigniaError):
        for field in backend.fields(MOST_VALUES):
            if field.kind == "category" and field.n_values <= MOST_VALUES:
                known = {value: value.casefold() for value, _ in field.values}
                unknown = [t for t in dict.fromkeys(asked.get(field.field, ())) if t not in known]
                for text in unknown[:_TOLD]:
                    click.echo(f"Note: no cell has {field.field}={text}; {_advice(text, known)}", err=True)


def _advice(text: str, known: dict[str, str]) -> str:
    near = get_close_matches(text.casefold(), known.values(), n=1, cutoff=0.7)
    if near:
        return f"did you mean {next(value for value, folded in known.items() if folded == near[0])}?"
    return f"there are {some(list(known), _SHOWN)}"
