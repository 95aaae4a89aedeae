"""An atlas, a client and a request take the same options, with the same defaults."""

import inspect
from typing import Any

import pytest

from insignia_client import AsyncClient, Client, SearchRequest
from insignia_index import Atlas

CLIENTS_ONLY = {"timeout_s"}


def options(method: Any) -> dict[str, Any]:
    """Keyword-only parameters and their defaults, without those that only a client has."""
    parameters = inspect.signature(method).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name not in CLIENTS_ONLY
    }


@pytest.mark.parametrize("owner", [Client, AsyncClient, Atlas])
def test_search_takes_the_options_of_a_request(owner: type) -> None:
    wanted = options(SearchRequest.of)
    assert {"k", "where", "group_by", "hits", "aggregate"} <= set(wanted)
    assert options(owner.search) == wanted


def methods(owner: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(owner, inspect.isfunction) if not name.startswith("_")}


def test_both_clients_and_an_atlas_have_the_same_methods() -> None:
    assert methods(Client) == methods(AsyncClient)
    # of the directory and of the process that has it open; whole profiles are for those who have the files
    assert methods(Atlas) - methods(Client) == {"refresh", "warm", "profiles"}
    assert methods(Client) <= methods(Atlas)


@pytest.mark.parametrize("name", sorted(methods(Client) - {"close", "resolve_genes", "genes"}))
@pytest.mark.parametrize("owner", [Client, AsyncClient])
def test_every_method_takes_the_same_options(owner: type, name: str) -> None:
    embedded = options(getattr(Atlas, name))
    for of_an_atlas_alone in ("cancel", "threads", "max_rows", "max_groups", "chunk_bytes"):
        embedded.pop(of_an_atlas_alone, None)
    assert options(getattr(owner, name)) == embedded
