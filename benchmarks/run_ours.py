"""Time complete searches in a process of its own, as peer/run_*.py time the compared packages.

    .venv/bin/python benchmarks/run_ours.py ATLAS --genes lists.json

Prints one JSON object: {"lists": {name: {"total_s": median}}}.
"""

import argparse
import json
import statistics
from pathlib import Path

from atlases import GROUP_BY
from insignia_index import Atlas
from insignia_model import SearchRequest, Signature
from timing import n_cores, timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("atlas", type=Path)
    parser.add_argument("--genes", type=Path, required=True, help="JSON: {name: [symbol, ...]}")
    parser.add_argument("--repeats", type=int, default=101)
    args = parser.parse_args()
    lists = {}
    with Atlas.open(args.atlas, threads=1) as atlas:
        for name, genes in json.loads(args.genes.read_text()).items():
            request = SearchRequest(Signature.of(genes, name), k=100, group_by=GROUP_BY)
            n_hits = atlas.run(request).n_hits  # also the warm-up
            seconds = [timed(lambda request=request: atlas.run(request)) for _ in range(args.repeats)]
            lists[name] = {"n_genes": len(genes), "n_hits": n_hits, "total_s": statistics.median(seconds)}
    print(json.dumps({"package": "insignia", "n_cores": n_cores(), "lists": lists}))


if __name__ == "__main__":
    main()
