"""Make human.tsv.gz from HGNC's complete set (https://www.genenames.org/download/statistics-and-files/).

python -m insignia_index.genes.make hgnc_complete_set.txt "HGNC complete set of 2026-06-25, CC0"
"""

from __future__ import annotations

import sys
from pathlib import Path

from insignia_index.genes.read import read_gene_table


def main(source: str, note: str) -> None:
    """Write the table beside this file."""
    table = read_gene_table(Path(source))
    out = Path(__file__).with_name("human.tsv.gz")
    out.write_bytes(table.pack(note))
    sys.stdout.write(f"{out.name}: {len(table):,} genes, {out.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
