"""Parts that need more than the base install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from insignia_model.errors import MissingExtra


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Imports inside may lack a third-party module: `MissingExtra` then says which extra brings it.

    A module of Insignia itself that is missing, and any other failure of an import, is a broken install
    and is raised as it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if not module or module.startswith("insignia_"):
            raise
        raise MissingExtra(what, name, module) from error
