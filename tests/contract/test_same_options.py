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


@pytest.mark.parametrize("name", ["scores", "iter_scores"])
@pytest.mark.parametrize("owner", [Client, AsyncClient])
def test_scores_take_the_same_options_from_an_atlas_and_from_a_client(owner: type, name: str) -> None:
    embedded = options(getattr(Atlas, name))
    embedded.pop("cancel", None)
    assert options(getattr(owner, name)) == embedded
