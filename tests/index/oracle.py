"""What an atlas must answer, worked out the dumb way: dense numpy and pandas over whole studies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from insignia_model import Condition, HitRule

from .made import Study


class Oracle:
    """The studies of an atlas as one frame of cells, in (study, row) order."""

    def __init__(self, studies: Sequence[Study]) -> None:
        self.studies = sorted(studies, key=lambda made: made.name.encode())
        fields = dict.fromkeys(name for made in self.studies for name in made.obs)
        columns = {
            "study": [made.name for made in self.studies for _ in made.obs.index],
            "row": [row for made in self.studies for row in range(len(made.obs))],
            "cell_id": [cell for made in self.studies for cell in made.obs.index],
        }
        for field in fields:
            columns[field] = [value for made in self.studies for value in _values(made, field)]
        self.cells = pd.DataFrame(columns, dtype=object)
        self.vocabulary = {gene for made in self.studies for gene in made.genes}

    def scores(self, weights: Mapping[str, float], aggregate: str = "mean") -> np.ndarray:
        """Score of every cell, float64."""
        return self._weighted(weights, lambda values: values) / self._divisor(weights, aggregate)

    def tolerance(self, weights: Mapping[str, float], aggregate: str, value_dtype: str) -> np.ndarray:
        """How far a score may be off: half a unit in the last place of every value, and float32 sums."""
        relative, floor = (6e-4, 1e-10) if value_dtype == "float16" else (1e-9, 0.0)
        error = relative * self._weighted(weights, np.abs)
        # far below the largest value of a container, float16 has a fixed step
        error += floor * self._weighted(weights, lambda values: np.full_like(values, np.abs(values).max()))
        return error / self._divisor(weights, aggregate) + 1e-37

    def measured(self, weights: Mapping[str, float]) -> pd.Series:
        """How many of the signature's genes the study of each cell measured."""
        used = [gene for gene, weight in weights.items() if weight and gene in self.vocabulary]
        counts = {made.name: sum(gene in made.genes for gene in used) for made in self.studies}
        return self.cells["study"].map(counts).astype(np.int64)

    def passes(self, where: Sequence[Condition]) -> np.ndarray:
        """Which cells pass all conditions."""
        mask = np.ones(len(self.cells), bool)
        for condition in where:
            mask &= self._passes(condition)
        return mask

    def _passes(self, condition: Condition) -> np.ndarray:
        field, op = self.cells[condition.field], condition.op
        missing = field.isna().to_numpy()
        if op.endswith("missing"):
            return missing if op == "missing" else ~missing
        if op in ("in", "not in"):
            listed = np.array([any(_same(v, w) for w in condition.values) for v in field]) & ~missing
            return listed if op == "in" else ~listed
        (bound,) = condition.values
        numbers = pd.to_numeric(field).to_numpy(np.float64)
        compare = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}[op]
        return np.asarray(compare(numbers, bound) & ~missing)

    def _weighted(self, weights: Mapping[str, float], transform: Any) -> np.ndarray:
        parts = []
        for made in self.studies:
            total = np.zeros(len(made.obs))
            for gene, weight in weights.items():
                if gene in made.genes and len(total):
                    values = transform(made.values[:, list(made.genes).index(gene)].astype(np.float64))
                    total += (weight if transform(np.array([-1.0]))[0] < 0 else abs(weight)) * values
            parts.append(total)
        return np.concatenate(parts)

    def _divisor(self, weights: Mapping[str, float], aggregate: str) -> float:
        used = [abs(weight) for gene, weight in weights.items() if gene in self.vocabulary]
        return sum(used) if aggregate == "mean" else 1.0


def cutoff(scores: np.ndarray, rule: HitRule) -> float:
    """Cut-off of a hit rule over the scores of all cells that pass."""
    scores = scores.astype(np.float64)
    if rule.kind == "percentile":
        return float(np.percentile(scores, rule.value))
    if rule.kind == "quantile":
        return float(np.quantile(scores, rule.value))
    if rule.kind == "zscore":
        return float(scores.mean() + rule.value * scores.std())
    if rule.kind == "top":
        return float(np.sort(scores)[::-1][: int(rule.value)][-1])
    return rule.value


def best(scores: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k largest scores, best first, ties to the lower index."""
    return np.argsort(-scores, kind="stable")[:k]


def hits(scores: np.ndarray, rule: HitRule, at: float) -> np.ndarray:
    """Which cells are hits, given the cut-off."""
    if rule.kind == "top":
        found = np.zeros(len(scores), bool)
        found[best(scores, int(rule.value))] = True
        return found
    return scores.astype(np.float64) > at


def groups(
    cells: pd.DataFrame, group_by: Sequence[str], min_cells: int
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Statistics of every group; ``cells`` has score, hit, measured, study, sample and the fields."""
    found = {}
    for key, part in _grouped(cells, group_by):
        samples = [
            sample["hit"].mean()
            for _, sample in part.groupby(["study", "sample"], observed=True)
            if len(sample) >= min_cells
        ]
        score = part["score"].astype(np.float64)
        found[key] = {
            "n_cells": len(part),
            "n_hits": int(part["hit"].sum()),
            "hit_fraction": part["hit"].mean(),
            "mean": score.mean(),
            "sd": score.std(ddof=1),
            "max": score.max(),
            "median": np.quantile(score, 0.5),
            "p90": np.quantile(score, 0.9),
            "n_samples": len(samples),
            "sample_hit_fraction_mean": np.mean(samples) if samples else np.nan,
            "sample_hit_fraction_median": np.median(samples) if samples else np.nan,
            "n_genes_measured": part["measured"].min(),
        }
    return found


def samples(cells: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Statistics of every (group, study, sample)."""
    found = {}
    for key, part in _grouped(cells, keys):
        n_hits = int(part["hit"].sum())
        found[key] = {"n_cells": len(part), "n_hits": n_hits, "hit_fraction": n_hits / len(part)}
        found[key]["mean"] = part["score"].astype(np.float64).mean()
    return found


def _grouped(cells: pd.DataFrame, fields: Sequence[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    keys: dict[tuple[Any, ...], list[int]] = {}
    columns = [cells[field].tolist() for field in fields]
    for i in range(len(cells)):
        keys.setdefault(tuple(plain(column[i]) for column in columns), []).append(i)
    return [(key, cells.iloc[rows]) for key, rows in keys.items()]


def _values(made: Study, field: str) -> list[Any]:
    if field not in made.obs:
        return [None] * len(made.obs)
    return [plain(value) for value in made.obs[field]]


def plain(value: Any) -> Any:
    """The value as an answer has it: None where missing."""
    return None if pd.isna(value) else value


def _same(value: Any, wanted: Any) -> bool:
    return bool(pd.notna(value)) and value == wanted
