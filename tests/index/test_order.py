"""Order statistics against a sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from insignia_index.kernels.memory import value_of_key
from insignia_index.kernels.order import (
    DIGITS,
    count_digits,
    key_of_rank,
    next_key,
    nth_smallest,
    order_keys,
    sort_places,
)

WIDTHS = {np.float32: 32, np.float64: 64}
#: Many ranks have to share so few values.
FEW = (-1.5, -1.0, -0.0, 0.0, 1e-30, 1.0, 2.0)


@njit
def neighbours(values: np.ndarray, n: int) -> tuple[float, float]:
    """Values of rank ``n`` and ``n + 1`` (of rank ``n`` twice if it is the last)."""
    keys, counts = order_keys(values), np.empty(DIGITS, np.int32)
    low, shift = count_digits(keys, len(keys), counts)
    key = key_of_rank(keys, low, shift, counts, n)
    return np.float64(value_of_key(key)), np.float64(value_of_key(next_key(keys, key, n)))


def check(values: np.ndarray, ranks: range | list[int]) -> None:
    before, ordered = values.tobytes(), np.sort(values).astype(np.float64)
    for n in ranks:
        following = ordered[min(n + 1, len(values) - 1)]
        assert nth_smallest(values, n) == ordered[n]
        assert neighbours(values, n) == (ordered[n], following)
    assert values.tobytes() == before


def some_ranks(n_values: int) -> list[int]:
    return sorted({0, 1, n_values // 2, n_values * 19 // 20, n_values - 2, n_values - 1} & {*range(n_values)})


@pytest.mark.parametrize("dtype", WIDTHS)
@settings(max_examples=60)
@given(data=st.data())
def test_every_rank_is_that_of_a_sort(dtype: type, data: st.DataObject) -> None:
    anything = st.floats(allow_nan=False, width=WIDTHS[dtype])  # type: ignore[arg-type]
    elements = data.draw(st.sampled_from([anything, st.sampled_from(FEW), st.one_of(anything, st.just(1.0))]))
    values = np.array(data.draw(st.lists(elements, min_size=1, max_size=40)), dtype)
    check(values, range(len(values)))


def many(dtype: type) -> dict[str, np.ndarray]:
    """More values than a pass has parts, so that one pass does not do."""
    n, rng = 20_000, np.random.default_rng(3)
    largest = float(np.finfo(dtype).max)
    decades = 10.0 ** rng.uniform(-38, 38, n)
    made = {
        "normal": rng.normal(0, 1, n),
        "decades": decades,
        "signed_decades": decades * rng.choice([-1, 1], n),
        "ascending": np.arange(n) / 7,
        "descending": -np.arange(n) / 7,
        "neighbours_in_the_last_bit": 1 + np.finfo(dtype).eps * rng.integers(0, 5000, n),
        "subnormal": np.finfo(dtype).smallest_subnormal * rng.integers(-9000, 9000, n),
        "one_far_away": np.append(rng.normal(0, 1e-30, n), [largest, -largest]),
        "infinite": rng.choice([-np.inf, -1.0, 0.0, 3e38, np.inf], n),
        "nearly_all_zero": np.where(rng.random(n) < 0.01, rng.normal(0, 1, n), 0.0),
        "zeros_of_both_signs": rng.choice([-0.0, 0.0], n),
        "one_value": np.full(n, -2.5),
        "one_tie_at_the_end": np.append(np.full(n, 7.0), np.nextafter(dtype(7), dtype(8))),
    }
    return {name: values.astype(dtype) for name, values in made.items()}


@pytest.mark.parametrize("dtype", WIDTHS)
def test_ranks_of_many_values_are_those_of_a_sort(dtype: type) -> None:
    for values in many(dtype).values():
        check(values, some_ranks(len(values)))


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3e38, 1e-38, np.inf, -np.inf])
def test_a_value_alone_has_every_rank_and_is_its_own_neighbour(dtype: type, value: float) -> None:
    for n_values in (1, 2, 5):
        check(np.full(n_values, value, dtype), range(n_values))


@pytest.mark.parametrize("dtype", WIDTHS)
def test_the_next_of_a_tie_is_the_tie_until_its_last(dtype: type) -> None:
    values = np.array([2, 1, 2, 3, 2, 1], dtype)
    assert [neighbours(values, n) for n in range(6)] == [(1, 1), (1, 2), (2, 2), (2, 2), (2, 3), (3, 3)]


@pytest.mark.parametrize("dtype", WIDTHS)
def test_neighbours_differ_by_the_last_bit_if_the_values_do(dtype: type) -> None:
    one = dtype(1)
    after = np.nextafter(one, dtype(2))
    assert neighbours(np.array([after, one]), 0) == (float(one), float(after))
    assert neighbours(-np.array([one, after]), 0) == (-float(after), -float(one))


@given(
    st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1)), max_size=70),
    st.integers(0, 5),
)
def test_places_in_the_order_of_their_keys(keys: list[int], n_left_out: int) -> None:
    numbers = np.array(keys, np.uint64)
    places = np.arange(n_left_out, len(keys), dtype=np.int64)[::-1].copy()
    wanted = sorted(places.tolist(), key=lambda place: keys[place])  # stable
    sort_places(places, numbers)
    assert places.tolist() == wanted
