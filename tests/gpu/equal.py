"""What the device answers against what the processor answers, bit for bit."""

from typing import Any

import numpy as np

from insignia_index import Atlas, SearchRequest
from insignia_index.cancel import CancelToken
from insignia_index.search.engine import score_and_select
from insignia_index.search.plan import plan_query
from insignia_index.search.scoring import score_all, score_dtype
from insignia_index.search.select import select
from insignia_model.result import SearchResult
from insignia_model.table import Table


def assert_same(atlas: Atlas, request: SearchRequest) -> None:
    """Scores, statistics, cut-off, hits and top of an atlas on a device are those of its processor."""
    session = atlas._session
    assert session.device is not None
    query = plan_query(session.snapshot, request.signature, request.aggregate)
    grouping = session.grouping(request, query)
    postings = session.genes.get(query.gene_ids)
    work = session.work(grouping, CancelToken(), None)
    there, here = (np.full(session.snapshot.n_cells, 7, score_dtype(session.value_bits)) for _ in range(2))
    found = score_and_select(session, work, query, postings, there, request.hits, request.k, True)
    wanted_statistics = score_all(work, query, postings, session.value_bits, here)
    wanted = select(work, here, wanted_statistics, request.hits, request.k)
    visited = np.zeros(len(here), np.bool_)
    for block in grouping.blocks:
        visited[session.snapshot.block_starts[block] : session.snapshot.block_starts[block + 1]] = True
    assert same_bits(there[visited], here[visited])
    assert same_bits(found[0], wanted_statistics)
    assert found[1].cutoff == wanted.cutoff
    np.testing.assert_array_equal(found[1].slot_hits, wanted.slot_hits)
    assert found[1].n_hits == wanted.n_hits
    np.testing.assert_array_equal(found[1].top_rows, wanted.top_rows)
    assert same_bits(found[1].top_scores, wanted.top_scores)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same in type and bits, but for the sign of zeros."""
    return a.dtype == b.dtype and (a + 0).tobytes() == (b + 0).tobytes()


def facts(result: SearchResult) -> dict[str, Any]:
    """All of an answer that does not depend on the clock."""
    shown = {name: getattr(result, name) for name in SearchResult.__dataclass_fields__}
    del shown["elapsed_ms"]
    return {name: _plain(value) for name, value in shown.items()}


def _plain(value: Any) -> Any:
    return [list(map(repr, row.items())) for row in value.rows()] if isinstance(value, Table) else repr(value)
