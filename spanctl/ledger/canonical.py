"""One text for one value: the canonical form behind digests of arguments.

JSON can't hold INT64, NaN, bytes or times, and Python's own ``repr`` differs between versions. Here
every value is written with its type, keys sorted, so that equal arguments give equal bytes on every
machine.
"""

import dataclasses
import datetime as dt
import decimal
import enum
import hashlib
import hmac
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from spanctl.errors import UsageError
from spanctl.ledger.receipt import TransactionResult

MAX_RESULT_BYTES = 64 * 1024


def typed(value: Any) -> Any:  # noqa: ANN401, C901, PLR0911 - a walk over values of any type
    """Return JSON-able data in which every scalar carries its type.

    Known are None, bool, int, float, str, bytes, Decimal, UUID, dates, times, timestamps, enums,
    dataclasses, objects with pydantic's ``model_dump``, mappings, sequences and sets. The result of
    a transaction stands for its txn ID, which a replay has too.

    Raises:
        UsageError: The value is of another type.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return typed(value.value)
    if isinstance(value, str):
        return ["s", value]
    if (scalar := _scalar(value)) is not None:
        return scalar
    if isinstance(value, Mapping):
        pairs = [[typed(key), typed(item)] for key, item in value.items()]
        return ["m", sorted(pairs, key=json.dumps)]
    if isinstance(value, AbstractSet):
        return ["u", sorted((typed(item) for item in value), key=json.dumps)]
    if isinstance(value, Sequence):
        return ["l", [typed(item) for item in value]]
    if isinstance(value, TransactionResult):
        # A replay differs from the first run in everything but what names the transaction.
        return ["x", value.txn_id]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return typed({field.name: getattr(value, field.name) for field in fields})
    if callable(dump := getattr(value, "model_dump", None)):
        return typed(dump())
    msg = f"an argument of type {type(value).__qualname__} has no canonical form"
    hint = "pass plain values, or name the parameter in ignore_arguments"
    raise UsageError(msg, hint=hint)


def _scalar(value: object) -> list[str] | None:  # noqa: PLR0911 - one line a type
    match value:
        case int():
            return ["i", str(int(value))]
        case float():
            return ["f", "nan" if math.isnan(value) else float(value).hex()]
        case bytes() | bytearray() | memoryview():
            return ["b", bytes(value).hex()]
        case decimal.Decimal():
            return ["n", format(value.normalize(), "f") if value.is_finite() else str(value)]
        case uuid.UUID():
            return ["s", str(value)]
        case dt.datetime():
            return ["t", _instant(value)]
        case dt.date() | dt.time():
            return ["d", value.isoformat()]
        case dt.timedelta():
            return ["p", str(value // dt.timedelta(microseconds=1))]
        case _:
            return None


def _instant(value: dt.datetime) -> str:
    aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    nanoseconds = getattr(value, "nanosecond", 0) or 0
    return f"{aware.astimezone(dt.UTC).isoformat(timespec='microseconds')}+{nanoseconds % 1000}"


def canonical_bytes(value: Any) -> bytes:  # noqa: ANN401 - any value that typed() knows
    """Return the canonical UTF-8 bytes of a value.

    Raises:
        UsageError: The value holds a type without a canonical form.
    """
    return json.dumps(typed(value), separators=(",", ":"), ensure_ascii=False).encode()


def arguments_digest(key: bytes, arguments: Mapping[str, Any]) -> str:
    """Return the keyed digest of a call's arguments: HMAC-SHA-256 (RFC 2104), hexadecimal.

    It is keyed so that a short value can't be guessed from the receipt.

    Args:
        key: The ledger's key, at least 32 bytes.
        arguments: Parameter name to value.

    Raises:
        UsageError: A value has no canonical form.
    """
    return hmac.new(key, canonical_bytes(arguments), hashlib.sha256).hexdigest()


def result_json(value: Any) -> str:  # noqa: ANN401 - what a user's function returned
    """Return a function's result as JSON text, to be kept in a receipt.

    Raises:
        UsageError: It is no JSON value, or longer than 64 KiB.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        msg = f"a result of type {type(value).__qualname__} can't be kept as JSON"
        raise UsageError(msg, hint="return plain JSON values, or drop keep_result") from error
    if len(text.encode()) > MAX_RESULT_BYTES:
        msg = f"the result has {len(text.encode()):,} bytes, more than a receipt keeps"
        raise UsageError(msg, hint=f"return at most {MAX_RESULT_BYTES:,} bytes")
    return text
