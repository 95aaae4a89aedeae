"""What a column means, by its name: DESeq2, edgeR, limma, Seurat, scanpy, msigdbr and the usual ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from insignia_model.reading.source import Source

GENE, WEIGHT, SET, LFC, PADJ = "gene", "weight", "set", "lfc", "padj"

#: Role: normalised names (see `normal`), the more telling first.
ROLES: dict[str, tuple[str, ...]] = {
    # an empty name is that of R's row names; "unnamed0" is what pandas makes of it
    GENE: (
        "symbol", "genesymbol", "genesymbols", "hgncsymbol", "externalgenename", "genename", "gene",
        "genes", "names", "feature", "features", "geneid", "ensembl", "ensemblid", "ensemblgene",
        "ensemblgeneid", "id", "rownames", "unnamed0", "index", "",
    ),
    WEIGHT: (
        "weight", "weights", "w", "score", "scores", "coefficient", "coef", "loading", "loadings",
        "importance", "value",
    ),
    SET: (
        "set", "setname", "signature", "signaturename", "geneset", "genesetname", "gsname", "program",
        "module", "pathway", "term", "cluster", "group",
    ),
    LFC: (
        "log2foldchange", "logfoldchanges", "logfoldchange", "avglog2fc", "avglogfc", "log2fc", "logfc",
        "lfc",
    ),
    PADJ: (
        "padj", "pvaladj", "pvalsadj", "pvalueadj", "adjpval", "adjpvalue", "adjustedpvalue", "padjusted",
        "fdr", "qvalue", "qval", "fwer",
    ),
}  # fmt: skip

_P_VALUES = {"pvalue", "pval", "pvals", "p"}

Columns = Mapping[str, "str | int | None"]


def normal(name: str) -> str:
    """Name without case and punctuation: adj.P.Val, adj_p_val and adjPVal are one."""
    return "".join(c for c in name.lower() if c.isalnum())


def places(source: Source, header: Sequence[str] | None, n_columns: int, told: Columns) -> dict[str, int]:
    """Role → index of its column: as ``told`` (name, number from 1, or None for none), else by name."""
    unknown = [role for role in told if role not in ROLES]
    if unknown:
        raise source.error(f"a column has the role {', '.join(ROLES)}, not {unknown[0]!r}")
    found = {role: _told(source, header, n_columns, role, at) for role, at in told.items() if at is not None}
    if header is None:
        by_place = dict(zip((GENE, WEIGHT), range(min(n_columns, 2)), strict=False)) if n_columns <= 2 else {}
        free = {r: i for r, i in by_place.items() if r not in told and i not in found.values()}
        return free | found
    names = [normal(name) for name in header]
    for role, known in ROLES.items():
        if role not in told:
            column = _by_name(source, header, names, role, known, set(found.values()))
            if column is not None:
                found[role] = column
    return found


def has_p_value(header: Sequence[str] | None) -> bool:
    """Whether a column is of unadjusted p."""
    return any(normal(name) in _P_VALUES for name in header or ())


def _by_name(
    source: Source,
    header: Sequence[str],
    names: list[str],
    role: str,
    known: Sequence[str],
    taken: set[int],
) -> int | None:
    for name in known:
        columns = [i for i, n in enumerate(names) if n == name and i not in taken]
        if len(columns) > 1:
            twice = " and ".join(f"{header[i]!r} ({i + 1})" for i in columns)
            raise source.error(f"the columns {twice} could both be the {role}; say which one", 1)
        if columns:
            return columns[0]
    return None


def _told(source: Source, header: Sequence[str] | None, n_columns: int, role: str, at: str | int) -> int:
    if isinstance(at, str) and header is not None and at in header:
        return list(header).index(at)
    number = int(at) if isinstance(at, int) or at.isdecimal() else None
    if number is not None and 1 <= number <= n_columns:
        return number - 1
    there = f"columns 1 to {n_columns}, without names" if header is None else shown(header)
    raise source.error(f"has no column {at!r} for the {role}; there are {there}")


def shown(header: Sequence[str]) -> str:
    """Names of columns for a sentence."""
    return ", ".join(repr(name) if name.strip() != name or not name else name for name in header)
