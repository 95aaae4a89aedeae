"""Hypothesis strategies for studies and questions."""

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from insignia_model import Condition, HitRule

from .made import Study

#: From none to all, so that lists, bitmaps and full columns all occur.
DENSITIES = (0.0, 0.02, 0.1, 0.3, 0.6, 0.95, 1.0)


@st.composite
def studies(draw: st.DrawFn, max_cells: int = 60) -> list[Study]:
    """One to four studies that share some genes and some fields; values tie, are negative, span decades."""
    n_genes = draw(st.sampled_from([1, 2, 7, 63, 64, 65, 130]))
    names = draw(st.permutations(["B", "a", "Ä", "b/c", "A 1"]))[: draw(st.integers(1, 4))]
    ties, signed = draw(st.booleans()), draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    made = []
    for name in names:
        n_cells = draw(st.integers(1, max_cells))
        genes = sorted(rng.permutation(n_genes)[: rng.integers(1, n_genes + 1)].tolist())
        rng.shuffle(genes)
        values = _values(rng, n_cells, len(genes), ties, signed)
        made.append(Study(name, values, [f"G{gene}" for gene in genes], _obs(rng, n_cells)))
    return made


def _values(rng: np.random.Generator, n_cells: int, n_genes: int, ties: bool, signed: bool) -> np.ndarray:
    values = rng.integers(1, 4, (n_cells, n_genes)) if ties else rng.lognormal(0, 3, (n_cells, n_genes))
    stored = rng.random(values.shape) < rng.choice(DENSITIES, n_genes)
    stored[rng.random(n_cells) < 0.1] = False  # cells without anything
    sign = rng.choice([-1, 1], values.shape) if signed else 1
    return (values * sign * stored).astype(np.float32)


def _obs(rng: np.random.Generator, n_cells: int) -> pd.DataFrame:
    def some(values: list[object]) -> list[object]:
        return [values[i] for i in rng.integers(0, len(values), n_cells)]

    columns = {
        "sample": pd.Series(some(["s1", "s2", "s3", None]), dtype=object),
        "tissue": pd.Categorical(some(["blood", "lung", "skin, dry", None])),
        "age": pd.Series(some([20.0, 0.1, -3.5, np.nan]), dtype=np.float64),
        "batch": pd.array(some([1, 2, -7, pd.NA]), dtype="Int64"),
        "doublet": pd.array(some([True, False, pd.NA]), dtype="boolean"),
        "n_umi": np.array(some([5, 6, 7]), dtype=np.int32),
    }
    kept = ["sample", *rng.permutation([c for c in columns if c != "sample"])[: rng.integers(0, 6)].tolist()]
    cells = pd.Index([f"cell{i}" for i in rng.permutation(n_cells)], dtype=object)
    return pd.DataFrame({name: pd.Series(columns[name]).array for name in kept}, index=cells)


def weights(vocabulary: set[str]) -> st.SearchStrategy[dict[str, float]]:
    """Signatures with a gene of the vocabulary that counts, zero and negative weights, unknown genes."""
    numbers = st.one_of(
        st.just(1.0), st.just(0.0), st.floats(-5, 5, width=32).filter(lambda x: abs(x) > 1e-3)
    )
    some = st.dictionaries(st.sampled_from([*sorted(vocabulary), "NOSUCH"]), numbers, min_size=1, max_size=40)
    return some.filter(lambda chosen: any(chosen[g] for g in chosen if g in vocabulary))


def rules() -> st.SearchStrategy[HitRule]:
    """Hit rules of every kind."""
    return st.one_of(
        st.floats(0, 100).map(HitRule.percentile),
        st.sampled_from([0.0, 50.0, 95.0, 99.9, 100.0]).map(HitRule.percentile),
        st.floats(0, 1).map(HitRule.quantile),
        st.floats(-2, 5).map(HitRule.above),
        st.floats(-2, 4).map(HitRule.zscore),
        st.integers(1, 300).map(HitRule.top),
    )


def conditions(fields: list[str]) -> st.SearchStrategy[list[Condition]]:
    """Up to three conditions on the fields."""
    choices = {
        "sample": ("s1", "s2", "none such"),
        "tissue": ("blood", "skin, dry"),
        "age": (20.0, 0.1, -3.5, 7.25),
        "batch": (1, 2, -7, 3),
        "doublet": (True, False),
        "n_umi": (5, 6, 9),
    }

    def one(field: str) -> st.SearchStrategy[Condition]:
        values = st.lists(st.sampled_from(choices[field]), min_size=1, max_size=2).map(tuple)
        kinds = [
            st.builds(Condition, st.just(field), st.sampled_from(["in", "not in"]), values),
            st.builds(Condition, st.just(field), st.sampled_from(["missing", "not missing"])),
        ]
        if field in ("age", "batch", "n_umi"):
            bound = st.sampled_from(choices[field]).map(lambda value: (value,))
            kinds.append(st.builds(Condition, st.just(field), st.sampled_from(["<", "<=", ">", ">="]), bound))
        return st.one_of(kinds)

    return st.lists(st.sampled_from(sorted(set(fields) & set(choices))).flatmap(one), max_size=3)
