"""How search time grows with cells, and what many small studies cost."""

from contextlib import ExitStack

from atlases import Bench, Scale, n_postings, size_bytes
from build_bench import open_seconds
from insignia_index import Atlas
from report import Row, Section, milliseconds
from timing import Seconds, interleaved, p50

LIST = "86 genes"
SLACK = 1.25  # a time per cell this much higher still counts as linear growth


def growth(bench: Bench) -> Section:
    """Time the same search in growing atlases."""
    sizes = bench.sizes
    seconds = search_seconds(bench, sizes.growth)
    rows = [milliseconds(f"{scale}", values) for scale, values in seconds.items()]
    first, last = sizes.growth[0], sizes.growth[-1]
    per_cell = {scale: p50(seconds[scale]) / scale.n_cells for scale in (first, last)}
    what = f"time per cell, {last.n_cells:,} against {first.n_cells:,} cells"
    rows.append(Row(what, per_cell[last] / per_cell[first], "x", at_most=SLACK))
    return Section(f"Growth: complete search, {LIST}, one thread", tuple(rows))


def small_studies(bench: Bench) -> Section:
    """Time the same search in as many cells in many small studies."""
    few, many = bench.sizes.search, bench.sizes.small_studies
    seconds = search_seconds(bench, (few, many))
    path = bench.atlas(many)
    rows = [milliseconds(f"{scale}", values) for scale, values in seconds.items()]
    rows += [
        Row("many against few studies", p50(seconds[many]) / p50(seconds[few]), "x", at_most=5),
        Row("size of many", size_bytes(path) / n_postings(path), "bytes a posting", at_most=8),
        Row("open many", 1000 * p50(open_seconds(path, bench.sizes.processes)), "ms", at_most=500),
    ]
    return Section(f"Many small studies: complete search, {LIST}, one thread", tuple(rows))


def search_seconds(bench: Bench, scales: tuple[Scale, ...]) -> dict[Scale, Seconds]:
    """Return the seconds of the searches in atlases of these sizes, which take turns."""
    request = bench.request(LIST)
    with ExitStack() as stack:
        atlases = {s: stack.enter_context(Atlas.open(bench.atlas(s), threads=1)) for s in scales}
        ways = {str(s): lambda a=a: a.run(request, threads=1) for s, a in atlases.items()}
        seconds = interleaved(ways, bench.sizes.rounds // 2, 2 * bench.sizes.in_a_row)
    return {scale: seconds[str(scale)] for scale in scales}
