"""A screen says of every signature what a search of it says, bit for bit."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index import Atlas, CancelToken, HitRule, Signature
from insignia_index.kernels.columns import SPAN_CELLS
from insignia_index.search import screening
from insignia_index.search.screening import Screening
from insignia_model.errors import InvalidArgument, InvalidSignature, NoGeneResolved, RequestError
from insignia_model.screen import ScreenRequest, ScreenStream, SkippedSignature, signatures_of

from . import strategies
from .made import Study, blocks_of, build, study

FIELDS = ["study", "sample", "tissue", "age", "batch", "doublet", "n_umi"]
DENSITIES = np.array([0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0] * 3)


def screened(
    atlas: Atlas, request: ScreenRequest, signatures: Any, memory_bytes: int = screening.MEMORY_BYTES
) -> list[dict[str, Any]]:
    """Rows of a screen, in batches of so much memory."""
    work = Screening(atlas._session, atlas._background, request, CancelToken(), memory_bytes)
    items = list(signatures_of(signatures))
    stream = ScreenStream(work.chunks(items), work.plan)
    chunks = list(stream)
    assert sum(chunk.n_signatures for chunk in chunks) == len(items)
    return exactly(row for chunk in chunks for row in chunk.table.rows())


def searched(atlas: Atlas, request: ScreenRequest, signatures: Any) -> list[dict[str, Any]]:
    """The rows that single searches say a screen must have."""
    rows = []
    for item in signatures_of(signatures):
        try:
            if isinstance(item, SkippedSignature):
                raise RequestError(item.reason)
            result = atlas.run(request.search(item))
        except RequestError as error:
            rows.append({"signature": item.name, "reason": str(error)})
            continue
        used = sum(bool(item.weights[gene]) for gene in result.genes.resolved)
        about = {
            "n_genes": used,
            "n_genes_missing": len(result.genes.missing) + len(result.genes.ambiguous),
            "reason": None,
        }
        rows += [{"signature": item.name} | row | about for row in result.group_table.rows()]
    return exactly(rows)


def exactly(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose numbers compare as text, so that -0.0 is not 0.0; what is missing is left out."""
    return [{name: repr(value) for name, value in row.items() if value is not None} for row in rows]


def library(data: st.DataObject, genes: set[str]) -> dict[str, Any]:
    """Signatures that can be searched and some that cannot."""
    unknown: list[Any] = [["NOSUCH"], [], {"NOSUCH": 1.0, min(genes): 0.0}, {min(genes): np.nan}]
    one = st.one_of(*[strategies.weights(genes)] * 4, st.sampled_from(unknown))
    return {f"S{i}": value for i, value in enumerate(data.draw(st.lists(one, min_size=1, max_size=9)))}


@settings(max_examples=20)
@given(data=st.data())
def test_rows_are_the_groups_of_single_searches(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = data.draw(strategies.studies())
    with blocks_of(data.draw(st.sampled_from([8, 33, 65_536]))):
        value_dtype = data.draw(st.sampled_from(["float16", "float16", "float32"]))
        path = build(tmp_path_factory.mktemp("screen"), made, value_dtype=value_dtype)
    fields = [field for field in FIELDS if any(field in m.obs for m in made) or field == "study"]
    genes = {gene for m in made for gene in m.genes}
    with Atlas.open(path, threads=data.draw(st.sampled_from([1, 3]))) as atlas:
        for _ in range(3):
            request = ScreenRequest(
                where=tuple(data.draw(strategies.conditions(fields))),
                group_by=tuple(data.draw(st.lists(st.sampled_from(fields), max_size=3, unique=True))),
                hits=data.draw(strategies.rules()),
                aggregate=data.draw(st.sampled_from(["mean", "sum"])),
                min_cells=data.draw(st.sampled_from([1, 3, 10])),
            )
            signatures = library(data, genes)
            memory_bytes = data.draw(st.sampled_from([1, 5_000, 1 << 20]))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(screening, "CHUNK_BYTES", data.draw(st.sampled_from([1, 500, 16 << 20])))
                patch.setattr(screening, "_MAX_GENES", data.draw(st.sampled_from([41, 50, 65_536])))
                found = screened(atlas, request, signatures, memory_bytes)
            assert found == searched(atlas, request, signatures)


def of_every_kind(name: str, n_cells: int, first_gene: int = 0) -> Study:
    """A study with lists, bitmaps and full columns, and values that span decades."""
    genes = [f"G{i + first_gene}" for i in range(len(DENSITIES))]
    made = study(name, n_cells, genes, density=DENSITIES, signed=True, seed=n_cells)
    size = 10.0 ** np.random.default_rng(n_cells).uniform(-6, 6, made.values.shape[1])
    return made.with_(values=(made.values * size).astype(np.float32))


def some_signatures(n: int, n_genes: int = 45) -> dict[str, dict[str, float]]:
    """Signatures of 1 to ``n_genes`` genes, with weights that span decades."""
    rng = np.random.default_rng(n)
    found = {}
    for i in range(n):
        chosen = rng.permutation(n_genes)[: rng.integers(1, n_genes + 1)]
        signs = rng.choice([-1, 1], len(chosen))
        found[f"S{i}"] = {f"G{g}": s * 10.0 ** rng.uniform(-9, 9) for g, s in zip(chosen, signs, strict=True)}
    return found


@pytest.mark.parametrize("value_dtype", ["float16", "float32"])
@pytest.mark.parametrize("block_cells", [SPAN_CELLS + 33, 65_536])
def test_blocks_of_every_length_and_kind_of_container(
    tmp_path: Path, value_dtype: str, block_cells: int
) -> None:
    lengths = (1, 31, 32, 33, SPAN_CELLS - 1, SPAN_CELLS, SPAN_CELLS + 1, 2 * SPAN_CELLS + 17, 2500)
    made = [of_every_kind(f"S{n}", n, first_gene=i % 3 * 5) for i, n in enumerate(lengths)]
    with blocks_of(block_cells):
        path = build(tmp_path, made, value_dtype=value_dtype)
    signatures = some_signatures(20)
    for threads in (1, 3):
        with Atlas.open(path, threads=threads) as atlas:
            for where in (None, {"study": ["S33", "S2500"]}, {"sample": ["S2500-s3", "S511-s50"]}):
                for request in (
                    ScreenRequest.of(where=where, group_by=("study", "sample"), hits="percentile:90"),
                    ScreenRequest.of(where=where, group_by=(), hits="top:7", aggregate="sum"),
                ):
                    wanted = searched(atlas, request, signatures)
                    assert screened(atlas, request, signatures) == wanted
                    # three at a time: 4,000 cells of 4 bytes
                    assert screened(atlas, request, signatures, 60_000) == wanted


def test_scores_themselves_are_the_same(tmp_path: Path) -> None:
    path = build(tmp_path, [of_every_kind("A", 1300), of_every_kind("B", 700, 7)])
    rules = [HitRule.above(value) for value in (-1e3, 0, 1e-3, 1e3)]
    with Atlas.open(path) as atlas:
        screen = Screening(atlas._session, atlas._background, ScreenRequest.of(hits=rules[0]), CancelToken())
        queries = [screen._planned(item) for item in signatures_of(some_signatures(30))]
        scores, _ = screen._scored(queries)
        for row, weights in zip(scores, some_signatures(30).values(), strict=True):
            assert row.tobytes() == atlas.scores(weights).values.tobytes()


def test_a_signature_of_more_genes_than_slots_is_scored_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [of_every_kind("A", 700)]
    request = ScreenRequest.of(group_by="sample")
    signatures = {"few": ["G3", "G5"]} | {f"all{i}": [f"G{g}" for g in range(33)] for i in range(3)}
    with Atlas.open(build(tmp_path, made)) as atlas:
        wanted = searched(atlas, request, signatures)
        monkeypatch.setattr(screening, "_MAX_GENES", 20)
        monkeypatch.setattr(screening, "score_signatures", within(20, screening.score_signatures))
        assert screened(atlas, request, signatures) == wanted


def within(n_genes: int, kernel: Any) -> Any:
    """The kernel, refusing more genes than its slots can number."""

    def checked(*arguments: Any) -> Any:
        assert len(arguments[3]) <= n_genes
        return kernel(*arguments)

    return checked


@pytest.mark.parametrize("hits", ["percentile:95", None])
def test_a_filter_that_nothing_passes_gives_no_rows_but_counts_the_signatures(
    tmp_path: Path, hits: str | None
) -> None:
    with Atlas.open(build(tmp_path, [study("A")])) as atlas:
        stream = atlas.screen({"x": ["G1"], "y": ["G2"]}, where={"sample": "none such"}, hits=hits)
        chunks = list(stream)
        assert stream.plan.n_cells == 0
        assert sum(chunk.n_signatures for chunk in chunks) == 2
        assert len(chunks[0].table) == 0
        known = atlas.screen({"x": ["G1"]}, hits=hits).to_table()
        assert list(chunks[0].table.columns) == list(known.columns)
        mixed = atlas.screen({"x": ["G1"], "y": ["NOSUCH"]}, where={"sample": "none such"}, hits=hits)
        assert [row["signature"] for row in mixed.to_table().rows()] == ["y"]


def test_an_atlas_without_studies_has_rows_for_skipped_signatures_alone(tmp_path: Path) -> None:
    from insignia_index import remove_studies

    path = build(tmp_path, [study("A")])
    remove_studies(path, ["A"])
    with Atlas.open(path) as atlas:
        rows = list(atlas.screen({"x": ["G1"], "y": []}).to_table().rows())
    assert [row["signature"] for row in rows] == ["y"]
    assert all(row["reason"] for row in rows)


def test_an_empty_library_has_no_rows(tmp_path: Path) -> None:
    with Atlas.open(build(tmp_path, [study("A")])) as atlas:
        assert len(atlas.screen({}).to_table()) == 0
        assert len(atlas.screen(iter([])).to_frame()) == 0


def test_bad_signatures_have_one_row_with_the_reason_and_the_rest_is_screened(tmp_path: Path) -> None:
    with Atlas.open(build(tmp_path, [study("A"), study("B")])) as atlas:
        signatures = {"unknown": ["NO", "SUCH"], "good": ["G1", "NO"], "empty": [], "text": "G1", "": ["G2"]}
        rows = list(atlas.screen(signatures).to_table().rows())
    assert [row["signature"] for row in rows] == ["unknown", "good", "good", "empty", "text", "", ""]
    good, reasons = rows[1], [row["reason"] for row in rows]
    assert reasons[0] == str(NoGeneResolved(dict.fromkeys(("NO", "SUCH"), "not in the atlas")))
    assert reasons[3] == str(InvalidSignature("empty", "it has no genes"))
    assert (good["n_genes"], good["n_genes_missing"], good["reason"]) == (1, 1, None)
    assert [reason is None for reason in reasons] == [False, True, True, False, False, True, True]
    assert set(rows[0]) == set(good)
    assert {name for name, value in rows[0].items() if value is not None} == {"signature", "reason"}


def test_names_may_repeat(tmp_path: Path) -> None:
    twice = [Signature({"G1": 1.0}, "same"), Signature({"G2": 1.0}, "same"), Signature({"G1": 1.0}, "same")]
    with Atlas.open(build(tmp_path, [study("A")])) as atlas:
        rows = list(atlas.screen(twice).to_table().rows())
    assert [row["signature"] for row in rows] == ["same"] * 3
    assert rows[0] == rows[2] != rows[1]


def test_a_field_named_signature_is_refused(tmp_path: Path) -> None:
    made = study("A", signature=["field"] * 40)
    with (
        Atlas.open(build(tmp_path, [made])) as atlas,
        pytest.raises(InvalidArgument, match="column 'signature' of its own"),
    ):
        atlas.screen({"name": ["G1"]}, group_by=("signature",))


def test_a_processor_without_vector_instructions_gives_the_same_rows(tmp_path: Path) -> None:
    path = build(tmp_path, [of_every_kind("A", 1100), of_every_kind("B", 333, 4)])
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(path), json.dumps(some_signatures(12))],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    scores, alone = json.loads(done.stdout)
    assert scores == alone


PLAIN = """
import json, sys
import llvmlite.binding
llvmlite.binding.get_host_cpu_features = dict
from insignia_index import Atlas, CancelToken
from insignia_index.kernels.memory import HAS_EXPAND
from insignia_index.search.screening import Screening
from insignia_model.screen import ScreenRequest, signatures_of
assert not HAS_EXPAND
signatures = json.loads(sys.argv[2])
with Atlas.open(sys.argv[1], threads=1) as atlas:
    screen = Screening(atlas._session, atlas._background, ScreenRequest.of(), CancelToken())
    scores, _ = screen._scored([screen._planned(item) for item in signatures_of(signatures)])
    alone = [atlas.scores(weights).values.tolist() for weights in signatures.values()]
print(json.dumps([scores.tolist(), alone]))
"""


def test_so_many_leading_genes_as_are_no_number_are_refused(tmp_path: Path) -> None:
    with Atlas.open(build(tmp_path, [study("A")])) as atlas:
        for wrong in (2.5, -1, 1 << 32, "2"):
            with pytest.raises(InvalidArgument, match="n_leading"):
                atlas.screen({"x": ["G1"]}, n_leading=wrong)  # type: ignore[arg-type]
        assert len(atlas.screen({"x": ["G1"]}, n_leading=np.int64(2)).to_table()) == 1  # type: ignore[arg-type]
