"""The sparse engine on a GPU: an atlas made in its memory, searched with 5 to 200 genes.

    make bench-gpu
    make bench-gpu ARGS="--cells 5000000"
    make bench-gpu ARGS="--device emulated --cells 20000 --rounds 2"   # no GPU: the figures mean nothing

Real cells are mixed and resampled to a small atlas (scale_data.py), and its blocks copied until there are
--cells cells, or, with fewer bytes of free memory than these take, as many as fit. --asked-only leaves out
the genes that are not searched: 22,000,000 cells of all genes take some 80 GB.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from atlases import QUICK, Bench, Scale, Sizes
from gpu_atlas import Replica, complete_search
from insignia_index import Atlas
from insignia_index.gpu.batch import Ask, Batch
from insignia_index.gpu.device import Device
from insignia_index.gpu.engine import DeviceEngine, OnDevice
from insignia_index.gpu.owner import MAX_BATCH, Owner, answer
from insignia_model.errors import DeviceNotFound
from report import Row, Section, as_text, milliseconds, with_unit, write_json
from scale_data import CACHE_DIR
from timing import Seconds, machine, p50, timed

TESTS = Path(__file__).resolve().parents[1] / "tests" / "gpu"
COPY_BYTES = 1 << 30
LAUNCHES = 20
JUDGED = "86 genes"


def maker(device: str, cache_dir: Path) -> Callable[[], Device]:
    """Return what makes the device; raises `DeviceNotFound`."""
    if device == "emulated":
        sys.path.insert(0, str(TESTS))
        from emulated import EmulatedDevice, compile_library

        cache_dir.mkdir(parents=True, exist_ok=True)
        library = compile_library(cache_dir)
        return lambda: EmulatedDevice(library)
    from insignia_index.gpu.cuda import open_device

    make = open_device(device)
    if make is None:
        sys.exit(f"gpu_bench.py: --device {device} is no GPU")
    return make


def copy_gb_s(device: Any, n_bytes: int) -> float:
    """Return the bytes read and written by a copy within the device, in GB a second."""
    n_bytes = min(n_bytes, device.free_bytes() // 4)  # postings may have taken nearly all
    source, target = device.allocate(n_bytes), device.allocate(n_bytes)
    device.clear(source.address, n_bytes)
    probe = np.zeros(1)

    def copy() -> None:
        for _ in range(LAUNCHES):
            device.copy(target.address, source.address, n_bytes)
        device.download(target.address, probe)

    copy()
    return 2 * n_bytes * LAUNCHES / min(timed(copy) for _ in range(5)) / 1e9


def kernel_seconds(device: Any, batch: Batch) -> Seconds:
    """Return the seconds of the scoring kernel, from several launches in a row each."""
    batch._send()
    probe = np.zeros(1)

    def score() -> None:
        for _ in range(LAUNCHES):
            batch._launch(f"score_{batch._kind}", batch._n_tiles)
        device.download(batch._room.start("queries"), probe)

    score()
    return np.array([timed(score) / LAUNCHES for _ in range(5)])


def batch_seconds(owner: Owner, asks: list[Ask]) -> float:
    """Return the seconds of answering questions together, in halves if there is no room for all."""
    seconds = timed(lambda: owner.call(lambda device: answer(device, asks)))
    for each in asks:
        each.future.result()
    return seconds


def ask(on_device: OnDevice, replica: Replica, request: Any) -> Ask:
    """Return a question for a batch."""
    return Ask(
        on_device.residency, on_device._groupings, replica.grouping, replica.query(request),
        request.hits, request.k, np.empty(0, np.float32), False, replica.work().cancel,
    )  # fmt: skip


def measure(bench: Bench, replica: Replica, on_device: OnDevice, rounds: int, judged: bool) -> list[Section]:
    """Time searches, the kernel and batches."""
    owner, work = on_device._owner, replica.work()
    copy = owner.call(lambda device: copy_gb_s(device, COPY_BYTES if judged else 1 << 20))
    rows = [Row("copy within the device, read and written", copy, "GB/s")]
    searches, batches = [], []
    for name in bench.gene_lists:
        request = bench.request(name)
        complete_search(on_device, replica, work, request)
        seconds = np.array(
            [timed(lambda r=request: complete_search(on_device, replica, work, r)) for _ in range(rounds)]
        )
        limit = 10.0 if judged and name == JUDGED else None
        searches.append(milliseconds(name, seconds, at_most_ms=limit))
        one = [ask(on_device, replica, request)]
        kernel = p50(owner.call(lambda device, one=one: kernel_seconds(device, Batch(device, one))))
        n_bytes = replica.touched_bytes(one[0].query) + 4 * replica.snapshot.n_cells
        speed = n_bytes / kernel / 1e9
        note = f"{1000 * kernel:.3g} ms, {with_unit(speed, 'GB/s')}, {n_bytes / 1e9:.3g} GB"
        least = 0.4 if judged and name == JUDGED else None
        rows.append(Row(f"{name}: scoring kernel against the copy", speed / copy, "x", note, at_least=least))
        n = MAX_BATCH if judged else 3
        took = min(
            batch_seconds(owner, [ask(on_device, replica, request) for _ in range(n)]) for _ in range(3)
        )
        batches.append(Row(f"{name}: searches", n / took, "/s", f"{n} at a time, if they fit"))
        batches.append(Row(f"{name}: cells times signatures", n * replica.snapshot.n_cells / took, "/s"))
    return [
        Section("Complete search: top-100, percentile 95, hits per study and sample", tuple(searches)),
        Section("Scoring kernel", tuple(rows)),
        Section("Batches", tuple(batches)),
    ]


def source_atlas(bench: Bench, asked_only: bool) -> Path:
    """Return the atlas whose blocks are copied; of the searched genes alone if asked."""
    if not asked_only:
        return bench.atlas(bench.sizes.search)
    import anndata

    genes = sorted({gene for genes in bench.gene_lists.values() for gene in genes})
    path = bench.cache_dir / f"{bench.h5ad(bench.sizes.search).stem}-asked.h5ad"
    atlas = path.with_suffix(".atlas")
    if not atlas.exists():
        from insignia_index import InputFile, build_atlas

        anndata.read_h5ad(bench.h5ad(bench.sizes.search))[:, genes].write_h5ad(path)
        build_atlas(atlas, [InputFile(path)])
        path.unlink()
    return atlas


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or emulated by the processor")
    parser.add_argument("--cells", type=int, default=22_000_000)
    parser.add_argument("--asked-only", action="store_true", help="only the genes that are searched")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument(
        "--device-memory", type=int, metavar="BYTES", help="for postings; default: what is free"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--cache-dir", type=Path, default=CACHE_DIR)
    return parser.parse_args()


def main() -> int:
    """Return the exit code: 1 without a device."""
    args = arguments()
    judged = args.device != "emulated"
    sizes = Sizes(search=Scale(131_072, 2)) if judged else QUICK
    bench = Bench(sizes, args.cache_dir)
    try:
        engine = DeviceEngine(maker(args.device, args.cache_dir), None)
    except DeviceNotFound as error:
        print(f"gpu_bench.py: {error}", file=sys.stderr)
        return 1
    try:
        with Atlas.open(source_atlas(bench, args.asked_only), threads=1) as atlas:
            sections = run(bench, atlas, engine, args, judged)
    finally:
        engine.close()
    for section in sections:
        print(as_text(section))
    if args.json:
        write_json(sections, args.json)
    if not judged:
        print("\neverything ran; on a processor the figures mean nothing")
    return 0


def run(
    bench: Bench, atlas: Atlas, engine: DeviceEngine, args: argparse.Namespace, judged: bool
) -> list[Section]:
    """Make the atlas on the device, and measure."""
    replica = Replica.of(atlas._session.snapshot, args.cells)
    began = time.perf_counter()
    on_device = replica.bring(engine, args.device_memory)
    took = time.perf_counter() - began
    n_fit = int(np.argmin(np.append(on_device.residency.is_resident, False)))
    if n_fit < len(replica.copied):
        if not n_fit:
            sys.exit("gpu_bench.py: not one block fits into the memory of the device")
        del on_device
        print(f"{replica.snapshot.n_cells:,} cells do not fit", end="; ")
        replica = replica.first(n_fit)
        on_device = replica.bring(engine, args.device_memory)
    for name, value in machine().items():
        print(f"{name}: {value}")
    n_bytes = on_device.residency.n_bytes
    print(f"{on_device.name}: {on_device.n_cells:,} cells, {n_bytes / 1e9:.3g} GB, brought in {took:.3g} s")
    return measure(bench, replica, on_device, args.rounds, judged)


if __name__ == "__main__":
    sys.exit(main())
