"""Measure Insignia, beside its targets.

make bench                                        everything; minutes, the files are made once
.venv/bin/python benchmarks/run.py --only search,peer
.venv/bin/python benchmarks/run.py --quick        small sizes: does everything run?
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import attribution_bench
import build_bench
import faiss_bench
import growth_bench
import import_bench
import peer_bench
import screen_bench
import search_bench
import serve_bench
from atlases import FULL, QUICK, Bench, Scale
from report import DOCUMENT, Section, as_text, write_document, write_json
from scale_data import CACHE_DIR, source_files
from timing import machine, warn_if_busy

SECTIONS: dict[str, Callable[[Bench], Section]] = {
    "search": search_bench.search,
    "scipy": search_bench.scipy,
    "peer": peer_bench.peer,
    "grpc": serve_bench.transport,
    "clients": serve_bench.many_clients,
    "cli": serve_bench.command_line,
    "screen": screen_bench.screen,
    "growth": growth_bench.growth,
    "small": growth_bench.small_studies,
    "build": build_bench.build,
    "faiss": faiss_bench.faiss,
    "attribution": attribution_bench.attribution,
    "import": import_bench.import_signature,
    "large": search_bench.large,
}
LARGE = Scale(2_000_000, 40)


def measure(bench: Bench, names: list[str]) -> list[Section]:
    """Run sections, printing each as it is done."""
    sections = []
    for name in names:
        load = warn_if_busy()
        section = replace(SECTIONS[name](bench), load=load)
        if not bench.sizes.judged:
            section = replace(section, rows=tuple(row.without_target() for row in section.rows))
        print(as_text(section), flush=True)
        sections.append(section)
    return sections


def chosen(only: str | None, large: bool) -> list[str]:
    """Return the names of the sections to run; ValueError if one is unknown."""
    names = [name for name in SECTIONS if large or name != "large"]
    if only is None:
        return names
    wanted = [name.strip() for name in only.split(",")]
    if unknown := [name for name in wanted if name not in names]:
        raise ValueError(f"{', '.join(unknown)}: not one of {', '.join(names)}")
    return wanted


def sources() -> str:
    """Return what the scale files are made from, without the machine's paths."""
    return ", ".join(file.name for file in source_files(None))


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="A,B", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, whose figures mean nothing")
    parser.add_argument("--large", action="store_true", help=f"also {LARGE}: 30 GB of disk")
    parser.add_argument(
        "--peer-cells",
        type=int,
        metavar="N",
        help="cells to compare with other packages, in studies of 5,000",
    )
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--cache-dir", type=Path, default=CACHE_DIR)
    args = parser.parse_args()
    if args.write and (args.quick or args.only):
        parser.error("--write is for the whole run")
    return args


def main() -> int:
    """Return the exit code; a target that is not met is told, and no error."""
    args = arguments()
    sizes = replace(QUICK if args.quick else FULL, large=LARGE if args.large else None)
    if args.peer_cells:
        sizes = replace(sizes, peer=Scale(args.peer_cells, max(1, args.peer_cells // 5_000)))
    bench = Bench(sizes, args.cache_dir)
    try:
        names = chosen(args.only, args.large)
    except ValueError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    for name, value in machine().items():
        print(f"{name}: {value}")
    print(f"cells resampled from {sources()}")
    sections = measure(bench, names)
    if args.json:
        write_json(sections, args.json)
    if args.write:
        write_document(sections, sources())
        print(f"\nwritten: {os.path.relpath(DOCUMENT)}")
    missed = [f"{s.title}: {r.what}" for s in sections for r in s.rows if r.met is False]
    if args.quick:
        print("\neverything ran; at these sizes the figures mean nothing")
        return 0
    print(f"\n{len(missed)} targets not met" + "".join(f"\n  {what}" for what in missed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
