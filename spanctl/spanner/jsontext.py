"""JSON text read digit for digit; a number that Spanner would hold as another one is refused."""

import decimal
import json
import math
import struct
import sys
from typing import Any

_SAFE_DIGITS = 15  # significant digits that any double of the usual range keeps
_LONGEST_WHOLE = 400  # digits; more than any type holds
_LOST = "has more digits than its type keeps"
_LOST_IN_JSON = "holds a number with more digits than Spanner's JSON keeps"


def load(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return what JSON text holds: numbers with a fraction or an exponent as exact Decimals.

    Raises:
        json.JSONDecodeError: It is no JSON.
        ValueError: An object names a key twice, a number is NaN or an infinity, or it is nested
            too deeply; the reason completes "the value ..." without it.
    """
    try:
        return json.loads(
            text,
            parse_float=decimal.Decimal,
            parse_int=_whole,
            parse_constant=_no_constant,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        msg = "is nested too deeply"
        raise ValueError(msg) from None


def _whole(text: str) -> int | decimal.Decimal:
    return int(text) if len(text) < _LONGEST_WHOLE else decimal.Decimal(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "names a key of an object twice"
        raise ValueError(msg)
    return found


def _no_constant(_text: str) -> None:
    msg = "holds NaN or an infinity that is no JSON (write them as strings)"
    raise ValueError(msg)


def as_double(value: float | decimal.Decimal) -> float:
    """Return a number as the nearest double.

    Raises:
        ValueError: It is out of the range of a FLOAT64.
    """
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        msg = "is out of the range of FLOAT64"
        raise ValueError(msg)
    return number


def exact_double(value: float | decimal.Decimal) -> float:
    """Return a number of JSON as the double that stands for it.

    A double stands for every number that it gives when it is rounded to that number's digits: 0.1
    as well as 0.10000000000000001, but not for 3.14159265358979323846.

    Raises:
        ValueError: No double does.
    """
    number = as_double(value)
    _refuse_loss(value, number)
    return number


def exact_single(value: float | decimal.Decimal) -> float:
    """Return a number of JSON as the FLOAT32 that stands for it, as :func:`exact_double` does.

    Raises:
        ValueError: No FLOAT32 does.
    """
    number = narrow(as_double(value))
    _refuse_loss(value, number, safe=0)
    return number


def narrow(value: float) -> float:
    """Return the nearest FLOAT32.

    Raises:
        ValueError: It is out of the range.
    """
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        msg = "is out of the range of FLOAT32"
        raise ValueError(msg) from None


def _refuse_loss(
    value: float | decimal.Decimal, number: float, *, safe: int = _SAFE_DIGITS
) -> None:
    if type(value) is float:  # nobody's text
        return
    exact = decimal.Decimal(value)
    digits = len(exact.as_tuple().digits)
    if digits <= safe and abs(number) >= sys.float_info.min:  # below, a double keeps fewer
        return
    if decimal.Context(prec=digits).create_decimal(decimal.Decimal(number)) != exact:
        raise ValueError(_LOST)


def json_number(value: float | decimal.Decimal) -> float:
    """Return a number as a JSON column holds it: integers of 64 bits, and doubles.

    The rule is that of Spanner's own ``PARSE_JSON``: a double must give the number back.

    Raises:
        ValueError: It would be held as another number.
    """
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    number = as_double(value)
    if type(value) is not float and decimal.Decimal(repr(number)) != value:
        raise ValueError(_LOST_IN_JSON)
    return number
