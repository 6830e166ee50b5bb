"""JSON values whose numbers are kept digit for digit, made ready for what a JSON schema takes.

Messages name parameters and places in them, never the value that was given.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from spanctl.errors import UsageError

DEEPEST: Final = 20
_LARGEST: Final = 400  # digits before the point; more than any float has
_KEPT: Final = "let it be a Decimal, or give fewer digits"

Schema = Mapping[str, Any]


def load(text: str, *, object_pairs_hook: Callable[[Any], Any] | None = None) -> Any:  # noqa: ANN401 - JSON
    """Return what JSON text holds; numbers with a fraction or an exponent come as Decimals.

    Args:
        text: JSON.
        object_pairs_hook: Makes an object of its names and values; a dict by default.

    Raises:
        ValueError: It is no JSON, or nested too deeply; NaN and Infinity are none.
    """
    try:
        return json.loads(
            text,
            parse_float=Decimal,
            parse_constant=_no_json,
            object_pairs_hook=object_pairs_hook,
        )
    except RecursionError:
        msg = "nested too deeply"
        raise ValueError(msg) from None


def _no_json(text: str) -> None:
    raise ValueError(text)


def loose(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a value with its Decimals as the nearest floats."""
    match value:
        case Decimal():
            return float(value)
        case list():
            return [loose(one) for one in value]
        case dict():
            return {name: loose(one) for name, one in value.items()}
    return value


def settled(value: Any, place: Schema | None, root: Schema, at: str) -> Any:  # noqa: ANN401 - JSON
    """Return a value as it is sent: each Decimal as its digits where text is taken, else a number.

    Args:
        value: The value; its exact numbers are Decimals.
        place: The schema of what takes it; None where anything is taken.
        root: The whole schema, which references are followed in.
        at: The parameter's name, and the place in it.

    Raises:
        UsageError: A number is infinite or none, or one of other digits would come out; or text
            holds what is no character.
    """
    places = list(_branches(place, root)) if place is not None else []
    taken = {kind for one in places for kind in kinds_of(one)}
    match value:
        case bool() | None:
            return value
        case str():
            refuse_surrogates(value, f"parameter {at}")
            if "number" in taken and "string" not in taken:
                _refuse_infinite_text(value, at)
            return value
        case Decimal() | int() | float():
            return _number(value, taken, at)
        case list() | tuple():
            return [
                settled(one, _joined(_items(places, number)), root, f"{at}[{number}]")
                for number, one in enumerate(value)
            ]
        case dict():
            for name in value:
                refuse_surrogates(str(name), f"a name in parameter {at}")
            return {
                name: settled(one, _joined(_members(places, name)), root, f"{at}.{name}")
                for name, one in value.items()
            }
    return value


def refuse_surrogates(text: str, what: str) -> None:
    """Return when text can be written as UTF-8.

    Raises:
        UsageError: It holds a lone surrogate: it was typed in another encoding, or escaped so.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        msg = f"{what} holds what is no Unicode text"
        raise UsageError(msg, hint="write it in UTF-8, without lone surrogates") from None


def _number(value: Decimal | float, taken: set[str], at: str) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, int) and ("number" not in taken or taken & {"integer", "string"}):
        return value  # as long as it is
    given = value
    if not isinstance(value, Decimal):
        value = Decimal(repr(value))  # of a float what it is written as
    number = float(value) if value.is_finite() else math.inf
    same = math.isfinite(number) and Decimal(repr(number)) == value
    if "string" in taken and value.is_finite():
        written = repr(number) == str(value) and taken & {"number", "integer"}
        return number if written else str(value)
    if "integer" in taken and _is_whole(value) and not (same and "number" in taken):
        return int(value)
    if not math.isfinite(number):
        raise _not_finite(at)
    if same:
        return given if isinstance(given, int) else number
    msg = f"parameter {at} has more digits than a float keeps"
    raise UsageError(msg, hint=_KEPT, parameters=[at])


def _is_whole(value: Decimal) -> bool:
    short = value.is_finite() and value.adjusted() < _LARGEST
    return short and value == value.to_integral_value()


def _refuse_infinite_text(text: str, at: str) -> None:
    with suppress(InvalidOperation):
        if not math.isfinite(float(Decimal(text))):
            raise _not_finite(at)


def _not_finite(at: str) -> UsageError:
    msg = f"parameter {at} is infinite, too large for a float, or no number"
    return UsageError(msg, hint="give a finite number", parameters=[at])


# -- schemas


def resolved(about: Schema, root: Schema) -> Schema:
    """Follow references within the schema; what is written beside one counts as well."""
    seen = 0
    while isinstance(reference := about.get("$ref"), str) and seen < DEEPEST:
        seen += 1
        found: Any = root
        for part in reference.removeprefix("#/").split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        beside = {key: value for key, value in about.items() if key != "$ref"}
        about = {**(found if isinstance(found, dict) else {}), **beside}
    return about


def kinds_of(about: Schema) -> Sequence[str]:
    """Return the types that a schema names itself."""
    found = about.get("type") or ()
    return [found] if isinstance(found, str) else found


def _branches(about: Schema, root: Schema, depth: int = 0) -> Iterator[Schema]:
    """Yield a schema, and those of which it takes one or all."""
    about = resolved(about, root)
    yield about
    for name in ("anyOf", "oneOf", "allOf"):
        for one in about.get(name) or ():
            if isinstance(one, dict) and depth < DEEPEST:
                yield from _branches(one, root, depth + 1)


def _joined(places: Iterator[Any]) -> Schema | None:
    found = [one for one in places if isinstance(one, dict)]
    return {"anyOf": found} if found else None


def _items(places: Sequence[Schema], number: int) -> Iterator[Any]:
    for one in places:
        first = one.get("prefixItems") or ()
        yield first[number] if number < len(first) else one.get("items")


def _members(places: Sequence[Schema], name: str) -> Iterator[Any]:
    for one in places:
        yield (one.get("properties") or {}).get(name, one.get("additionalProperties"))
