"""Digests of arguments: two values that a body can tell apart never share one."""

import collections
import dataclasses
import datetime as dt
import enum
import functools
import types
import uuid
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, PrivateAttr, TypeAdapter

from spanctl.errors import UsageError
from spanctl.ledger import canonical
from spanctl.ledger.digests import (
    VERSION,
    ModuleNames,
    arguments_digest,
    injective,
    is_digest_of,
)
from spanctl.ledger.receipt import TransactionResult

KEY = bytes(range(32))
NOON = dt.datetime(2026, 10, 25, 1, 30)  # noqa: DTZ001 - a time without a zone is a case
ZURICH = ZoneInfo("Europe/Zurich")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Number(enum.IntEnum):
    ONE = 1


class Text(str):  # noqa: SLOT000 - with a field of its own
    hidden: int = 0


def text(value: str, hidden: int) -> Text:
    made = Text(value)
    made.hidden = hidden
    return made


class Pair(NamedTuple):
    a: int
    b: int


@dataclasses.dataclass
class Point:
    x: int
    y: int = dataclasses.field(default=0, compare=False, repr=False)


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int


class Shown(dict[str, int]):
    """Shows something else than it holds."""

    def items(self) -> Any:
        return [("always", 1)]


class Base(BaseModel):
    a: int = 1


class Sub(Base):
    amount: int = 0


class Order(BaseModel):
    item: Base = Base()
    secret: int = Field(default=0, exclude=True)
    _seen: int = PrivateAttr(default=0)

    @functools.cached_property
    def total(self) -> int:
        return self.secret * 2


class Open(BaseModel, extra="allow"):
    pass


def private(seen: int) -> Order:
    order = Order()
    order._seen = seen  # noqa: SLF001 - what the body could see
    return order


def twin(kind: type, module: str) -> type:
    """The same class as if another module had defined it."""
    made: type = dataclasses.make_dataclass(kind.__name__, ["x"])
    made.__module__ = module
    return made


DIFFERENT = [
    (Decimal("12345678901234567890.123456789"), Decimal("12345678901234567890.123456788")),
    (Decimal("1.5"), Decimal("1.50")),
    (Decimal(0), Decimal("-0")),
    (Decimal("NaN"), Decimal("sNaN")),
    (Order(item=Sub(amount=5)), Order(item=Sub(amount=6))),
    (Order(item=Base()), Order(item=Sub())),
    (Order(secret=1), Order(secret=2)),
    (private(1), private(2)),
    (Open(x=1), Open(x=2)),
    (Open(x=1), Open(y=1)),
    (Point(1, 2), Point(1, 3)),
    (Point(1), {"x": 1, "y": 0}),
    (Slotted(1), Slotted(2)),
    (twin(Point, "orders")(1), twin(Point, "invoices")(1)),
    (text("a", 1), text("a", 2)),
    (text("a", 0), "a"),
    (NOON.replace(tzinfo=ZURICH), NOON.replace(tzinfo=ZURICH, fold=1)),
    (NOON, NOON.replace(fold=1)),
    (NOON, NOON.replace(tzinfo=dt.UTC)),
    (NOON.replace(tzinfo=dt.UTC), NOON.replace(tzinfo=ZoneInfo("UTC"))),
    (NOON.replace(tzinfo=dt.UTC), NOON.replace(hour=3, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
    (dt.time(1), dt.time(1, fold=1)),
    (dt.time(1), dt.time(1, tzinfo=dt.UTC)),
    (dt.timezone(dt.timedelta(0)), dt.timezone(dt.timedelta(0), "Z")),
    (
        DatetimeWithNanoseconds(2026, 1, 1, nanosecond=5),
        DatetimeWithNanoseconds(2026, 1, 1, nanosecond=6),
    ),
    (dt.timedelta(days=1), dt.timedelta(hours=25)),
    (dt.date(2026, 1, 1), dt.datetime(2026, 1, 1)),  # noqa: DTZ001
    ((1, 2), [1, 2]),
    (Pair(1, 2), (1, 2)),
    ([1, [2]], [[1], 2]),
    (["a", "b"], ["ab"]),
    (["a\0b"], ["a", "b"]),
    ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
    ({1: "a"}, {"1": "a"}),
    ({1}, frozenset({1})),
    (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1)),
    (collections.OrderedDict(a=1), {"a": 1}),
    (collections.defaultdict(int, a=1), collections.defaultdict(list, a=1)),
    (collections.Counter("a"), {"a": 1}),
    (collections.deque([1], 2), collections.deque([1], 3)),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (1, True),
    (1, 1.0),
    (1, "1"),
    (Number.ONE, 1),
    (0.0, -0.0),
    (1.0, complex(1, 0)),
    (b"a", bytearray(b"a")),
    (b"a", memoryview(b"a")),
    (b"a", "a"),
    (None, ""),
    (Colour.RED, Colour.BLUE),
    (Colour.RED, "red"),
    (uuid.UUID(int=5), str(uuid.UUID(int=5))),
    (2**63, 2**63 + 1),
    (range(3), [0, 1, 2]),
    (Order(), Order(secret=0)),
    (
        collections.namedtuple("Row", "a b")(1, 2),  # noqa: PYI024 - as readers of CSV make them
        collections.namedtuple("Row", "b a")(1, 2),  # noqa: PYI024
    ),
    (Shown(a=1), Shown(a=2)),
    (memoryview(b"abcd"), memoryview(b"abcd").cast("B", [2, 2])),
]


def test_zones_of_other_libraries_have_a_form() -> None:
    """A fixed offset, or a zone that says which one it is; nothing that shows only its address."""
    parse = TypeAdapter(dt.datetime).validate_python
    found = {injective(parse(f"2026-01-01T00:00:00{zone}")) for zone in ("+02:00", "+03:00", "Z")}
    assert len(found) == 3

    class Zone(dt.tzinfo):
        def utcoffset(self, when: dt.datetime | None) -> dt.timedelta | None:
            return None if when is None else dt.timedelta(hours=1)

    with pytest.raises(UsageError, match="Zone has no canonical form"):
        injective(NOON.replace(tzinfo=Zone()))


def test_long_integers_have_a_form() -> None:
    """Python writes no more than some thousands of decimal digits."""
    assert injective(10**5000) != injective(10**5000 + 1)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_values_that_a_body_can_tell_apart_differ(one: Any, other: Any) -> None:
    """Alone and inside other values, whether or not Python's own == sees a difference."""
    assert injective(one) != injective(other)
    assert injective({"v": [one]}) != injective({"v": [other]})


@pytest.mark.parametrize(
    "value", [value for pair in DIFFERENT for value in pair], ids=lambda value: type(value).__name__
)
def test_a_value_has_the_same_bytes_each_time(value: Any) -> None:
    """Else a retry would be refused."""
    assert injective(value) == injective(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({3, 1, 2}, {1, 2, 3}),
        (float("nan"), float("nan")),
    ],
)
def test_what_is_alike_to_a_body_stays_the_same(one: Any, other: Any) -> None:
    """The order of a mapping and of a set doesn't count."""
    assert injective(one) == injective(other)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


def shape(value: Any) -> Any:
    """A value with the types that == doesn't look at."""
    if isinstance(value, list | tuple):
        return (type(value), tuple(map(shape, value)))
    if isinstance(value, dict):
        return (dict, frozenset((key, shape(item)) for key, item in value.items()))
    return (type(value), repr(value))


@given(values, values)
def test_no_two_values_are_written_alike(one: Any, other: Any) -> None:
    """The bytes are equal exactly where the values are."""
    assert (injective(one) == injective(other)) == (shape(one) == shape(other))


def test_a_result_stands_for_its_transaction() -> None:
    """A replay hands the same transaction on, whatever else it knows of it."""
    first = TransactionResult(txn_id="t", commit_timestamp=NOON, result=5)
    again = dataclasses.replace(first, replayed=True, result=None)
    assert injective([first]) == injective([again])
    assert injective(first) != injective(dataclasses.replace(first, txn_id="u"))


def test_what_a_body_computes_of_an_argument_is_no_change() -> None:
    """A cached property fills in when it is first asked for."""
    order = Order(secret=2)
    before = injective(order)
    assert order.total == 4
    assert injective(order) == before


@pytest.mark.parametrize("value", [object(), lambda: None, int, [iter([])], {"x": {1: object()}}])
def test_what_has_no_form_is_refused_without_its_value(value: Any) -> None:
    """An object would be told apart by its address only."""
    with pytest.raises(UsageError, match="has no canonical form"):
        injective(value)


def test_what_holds_itself_is_refused() -> None:
    """Its bytes would never end."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(UsageError, match="type list holds itself"):
        injective(circle)
    shared = [1]
    assert injective([shared, shared]) == injective([[1], [1]])


def test_a_digest_needs_the_ledger_s_key_and_tells_its_version() -> None:
    """Without the key nobody can try out short values; the version says how to compare."""
    digest = arguments_digest(KEY, {"pin": 1234})
    assert digest != arguments_digest(bytes(32), {"pin": 1234})
    assert digest.startswith(VERSION)
    assert len(digest) <= 64, "the receipt's column"


def test_digests_of_version_1_are_compared_as_they_were_made() -> None:
    """Receipts of before go on answering for their calls, and for no others."""
    arguments = {"amount": Decimal("1.50"), "who": "ada"}
    old = canonical.arguments_digest(KEY, arguments)
    now = arguments_digest(KEY, arguments)
    assert is_digest_of(old, KEY, arguments, now)
    assert is_digest_of(now, KEY, arguments, now)
    other = {"amount": Decimal("1.51"), "who": "ada"}
    assert not is_digest_of(old, KEY, other, arguments_digest(KEY, other))
    assert not is_digest_of(now, KEY, other, arguments_digest(KEY, other))
    assert is_digest_of(None, KEY, None, None)
    assert not is_digest_of(None, KEY, arguments, now)
    assert not is_digest_of(old, KEY, {"x": range(3), "y": object}, "2:")


def test_the_run_s_own_file_has_one_name() -> None:
    """A class of it is the same however the file was loaded; a namesake elsewhere is another."""
    names = [ModuleNames(((loaded, "job"),)) for loaded in ("__main__", "job", "jobs.job")]
    digests = {injective(twin(Point, name.own[0][0])(1), name) for name in names}
    assert len(digests) == 1
    imported = injective(twin(Point, "job")(1), names[0])
    assert imported not in digests
    assert names[0].of("orders.job") == "orders.job"
