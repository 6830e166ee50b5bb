"""The canonical form of arguments: equal values give equal bytes, others never do."""

import datetime as dt
import decimal
import enum
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanctl.errors import UsageError
from spanctl.ledger.canonical import arguments_digest, canonical_bytes, result_json

KEY = bytes(range(32))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.uuids()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


@given(st.dictionaries(st.text(), values, max_size=5))
def test_the_order_of_a_mapping_does_not_matter(data: dict[str, Any]) -> None:
    """The same arguments in another order are the same arguments."""
    backwards = dict(reversed(list(data.items())))
    assert canonical_bytes(data) == canonical_bytes(backwards)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (1, "1"),
        (b"a", "a"),
        ([1, 2], [2, 1]),
        ([[1], 2], [1, [2]]),
        (None, ""),
        (0.0, -0.0),
        ({"a": None}, {}),
        (dt.date(2026, 1, 1), "2026-01-01"),
        (decimal.Decimal("1.5"), 1.5),
        (2**63, 2**63 + 1),
    ],
)
def test_values_of_other_types_or_orders_differ(one: Any, other: Any) -> None:
    """No two different arguments are taken for the same."""
    assert canonical_bytes(one) != canonical_bytes(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        ({1, 2, 3}, {3, 2, 1}),
        (Colour.RED, "red"),
        (Point(1, 2), {"x": 1, "y": 2}),
        (decimal.Decimal("1.50"), decimal.Decimal("1.5")),
        (uuid.UUID(int=5), str(uuid.UUID(int=5))),
        (
            dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC),
            dt.datetime(2026, 1, 1, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        ),
    ],
)
def test_the_same_value_in_another_dress_is_the_same(one: Any, other: Any) -> None:
    """What JSON or a retry in another process turns into something alike stays the same."""
    assert canonical_bytes(one) == canonical_bytes(other)


def test_the_bytes_never_change() -> None:
    """Digests of these bytes stand in ledgers already."""
    data = {"a": 1, "b": [1.0, None, b"x", {"k": True}]}
    expected = (
        b'["m",[[["s","a"],["i","1"]],[["s","b"],["l",[["f","0x1.0000000000000p+0"],null,'
        b'["b","78"],["m",[[["s","k"],true]]]]]]]]'
    )
    assert canonical_bytes(data) == expected


def test_a_digest_needs_the_ledger_s_key() -> None:
    """Without it nobody can try out short values."""
    assert arguments_digest(KEY, {"pin": 1234}) != arguments_digest(bytes(32), {"pin": 1234})


def test_what_has_no_canonical_form_is_refused_without_its_value() -> None:
    """An object would be told apart by its address only."""
    with pytest.raises(UsageError, match="object has no canonical form"):
        canonical_bytes({"x": object()})


@pytest.mark.parametrize("value", [float("nan"), object(), {1: object()}])
def test_a_result_that_is_no_json_is_refused(value: Any) -> None:
    """A receipt that kept it could not give it back."""
    with pytest.raises(UsageError, match="can't be kept"):
        result_json(value)


def test_a_result_has_at_most_64_kib() -> None:
    """A receipt is no place for data."""
    assert result_json("x" * 65534)
    with pytest.raises(UsageError, match="65,537 bytes"):
        result_json("x" * 65535)
