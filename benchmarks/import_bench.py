"""Importing folders in the layout of sc-signature: speed and peak memory."""

import shutil

from atlases import Bench, n_postings, size_bytes
from build_bench import run_measured
from report import Row, Section
from serving import INSIGNIA
from signature_folders import signature_folders


def import_signature(bench: Bench) -> Section:
    """Import all cell types in a process of its own, once uncounted."""
    scale = bench.sizes.imported
    source = signature_folders(bench.h5ad(scale), bench.cache_dir)
    n_folders = sum(path.is_dir() for path in source.iterdir())
    path = bench.cache_dir / "atlas-imported"
    work = path.with_name(f"{path.name}.import")
    runs = []
    try:
        for _ in range(2):  # the first compiles kernels and brings the arrays into memory
            for leftover in (path, work):
                shutil.rmtree(leftover, ignore_errors=True)
            runs.append(run_measured([INSIGNIA, "import-signature", source, path]))
        seconds, peak_bytes = runs[-1]
        postings = n_postings(path)
    finally:
        for leftover in (path, work):
            shutil.rmtree(leftover, ignore_errors=True)
    n_bytes = size_bytes(source)
    rows = (
        Row("the whole command", seconds, "s", f"{scale.n_cells / seconds:,.0f} cells/s"),
        Row("postings", postings / seconds, "/s", at_least=5e6),
        Row("peak memory", peak_bytes / 1e9, "GB", at_most=2),
        Row("arrays and metadata", n_bytes / 1e9, "GB", f"{n_bytes / postings:.1f} bytes a posting"),
    )
    title = f"`insignia import-signature`: {scale}, interleaved in {n_folders} cell types"
    return Section(title, rows)
