"""The parameters of a flow or a deployment, read and checked by their JSON schema.

Messages name parameters, places in them and what was expected, never the value that was given.
"""

import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any, Final

from spanctl.errors import UsageError
from spanctl.orchestration import exact
from spanctl.orchestration.exact import DEEPEST, Schema, kinds_of, resolved
from spanctl.orchestration.model import Deployment

_SHOWN: Final = 5
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}
_Holds = Callable[[Any, Any], bool]
_WORDS: Final = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
"""What pydantic takes for a boolean."""
_BOUNDS: Final[dict[str, tuple[str, _Holds]]] = {
    "minimum": ("at least", operator.ge),
    "maximum": ("at most", operator.le),
    "exclusiveMinimum": ("more than", operator.gt),
    "exclusiveMaximum": ("less than", operator.lt),
}
_LENGTHS: Final[dict[str, tuple[type[Sized], str, _Holds]]] = {
    "minLength": (str, "at least {} characters", operator.ge),
    "maxLength": (str, "at most {} characters", operator.le),
    "minItems": (list, "at least {} items", operator.ge),
    "maxItems": (list, "at most {} items", operator.le),
}


def read(
    texts: Mapping[str, str], schema: Schema, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read values that were typed, by the JSON schema of what takes them.

    A value is JSON where the schema takes what it says, else text: ``007``, ``4711`` and ``true``
    are text for a string. What Python's converters take for a boolean or a number (``yes``,
    ``+5``, ``.5``) is taken as well; without a type, a value is JSON if it can be. No digit is lost
    anywhere in a value: where text is taken a number is given as text.

    Args:
        texts: What was typed.
        schema: The schema of all parameters.
        given: Values from elsewhere, exact numbers as Decimals; what was typed goes over them.

    Raises:
        UsageError: A number is not finite, or can't be kept; or text is no Unicode.
    """
    for name, text in [*texts.items(), *((name, "") for name in given or ())]:
        exact.refuse_surrogates(name, "a parameter's name")
        exact.refuse_surrogates(text, f"parameter {name}")
    values = {
        name: exact.settled(value, _property(schema, name), schema, name)
        for name, value in (given or {}).items()
        if name not in texts
    }
    typed = {
        name: _read(text, _property(schema, name), schema, name) for name, text in texts.items()
    }
    return {**values, **typed}


def _read(text: str, about: Schema | None, root: Schema, name: str) -> Any:  # noqa: ANN401 - JSON
    value = _json(text)
    if about is None:
        return exact.settled(value, None, root, name)
    if not _fault(exact.loose(value), about, root):
        found = exact.settled(value, about, root, name)
        return text if isinstance(value, Decimal) and isinstance(found, str) else found
    if _takes_text(about, root):
        seconds = isinstance(value, int | Decimal) and resolved(about, root).get("format")
        return f"PT{text}S" if seconds == "duration" else text
    fitting = (one for one in _converted(text) if not _fault(exact.loose(one), about, root))
    return exact.settled(next(fitting, value), about, root, name)


def _json(text: str) -> Any:  # noqa: ANN401 - JSON, or text
    try:
        return exact.load(text)
    except ValueError:
        return text


def _takes_text(about: Schema, root: Schema, depth: int = 0) -> bool:
    """Tell whether a schema has room for text, be it too long or too short."""
    about = resolved(about, root)
    branches = [one for name in ("anyOf", "oneOf") for one in about.get(name) or ()]
    if branches and depth < DEEPEST:
        return any(_takes_text(one, root, depth + 1) for one in branches if isinstance(one, dict))
    choices = [about["const"]] if "const" in about else about.get("enum")
    if choices is not None:
        return any(isinstance(one, str) for one in choices)
    return "string" in kinds_of(about)


def _converted(text: str) -> Iterator[object]:
    word = text.strip().lower()
    if word in _WORDS:
        yield _WORDS[word]
    with suppress(ValueError):
        yield int(text)
    with suppress(InvalidOperation):
        if math.isfinite(float(number := Decimal(text))):
            yield number


def check(given: Mapping[str, Any], deployment: Deployment) -> None:
    """Return when a deployment takes these parameters, over its own.

    Args:
        given: JSON values.
        deployment: Whose schema counts; one without a schema takes anything.

    Raises:
        UsageError: One is unknown, missing, or not of the form that the schema asks for.
    """
    schema = deployment.schema
    if not schema:
        return
    known = list(schema.get("properties") or ())
    if not schema.get("additionalProperties"):
        _refuse_unknown(given, known, deployment)
    merged = {**deployment.parameters, **given}
    hint = f"see: spanctl deployments show {deployment.name}"
    if missing := [name for name in schema.get("required") or () if name not in merged]:
        msg = f"{deployment.name} needs parameter {', '.join(missing)}"
        raise UsageError(msg, hint=f"pass -p {missing[0]}=VALUE; {hint}", parameters=missing)
    for name, value in given.items():
        about = _property(schema, name)
        if about is not None and (fault := _fault(value, about, schema)):
            place, wanted = fault
            msg = f"parameter {name}{place} of {deployment.name} is to be {wanted}"
            raise UsageError(msg, hint=hint, parameters=[name])


def kind_of(about: Schema, root: Schema) -> str:
    """Return in words what a schema allows: ``integer``, ``array of string``."""
    return _words(about, root, 0)


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], deployment: Deployment) -> None:
    extra = sorted(set(given) - set(known))
    if not extra:
        return
    near = get_close_matches(extra[0], known, n=1)
    msg = f"{deployment.name} takes no parameter {', '.join(extra)}"
    takes = f"it takes: {', '.join(known)}" if known else "it takes none"
    hint = f"did you mean {near[0]}? {takes}" if near else takes
    if (last := _perhaps_collecting(deployment.schema)) is not None:
        # The schema doesn't tell them apart from a parameter that must be given.
        hint += f"; if {last} is **{last} in the code, only a run of the file takes other names"
    raise UsageError(msg, hint=hint, parameters=extra)


def _perhaps_collecting(schema: Schema) -> str | None:
    """Return the last parameter, if it may be one that collects others, as ``**others`` does."""

    def place(name: str) -> int:
        return int((_property(schema, name) or {}).get("position") or 0)

    last = max(schema.get("properties") or (), key=place, default=None)
    return last if last in (schema.get("required") or ()) else None


def _property(schema: Schema, name: str) -> Schema | None:
    found = (schema.get("properties") or {}).get(name)
    return found if isinstance(found, dict) else None


def _fault(value: Any, about: Schema, root: Schema, depth: int = 0) -> tuple[str, str] | None:  # noqa: ANN401 - JSON
    """Return where a value is not as it should be, and what it should be; None when it is fine."""
    about = resolved(about, root)
    if depth > DEEPEST:
        return None
    for name in ("anyOf", "oneOf"):
        choices = [one for one in about.get(name) or () if isinstance(one, dict)]
        if choices and all(_fault(value, one, root, depth + 1) for one in choices):
            return "", _words(about, root, 0)
    for one in about.get("allOf") or ():
        if isinstance(one, dict) and (fault := _fault(value, one, root, depth + 1)):
            return fault
    if not _is_of_type(value, about) or not _is_chosen(value, about):
        return "", _words(about, root, 0)
    if wanted := _bounded(value, about):
        return "", wanted
    return next(_inside(value, about, root, depth), None)


def _is_of_type(value: Any, about: Schema) -> bool:  # noqa: ANN401 - JSON
    kinds = kinds_of(about)
    return not kinds or any(_is_a(value, kind) for kind in kinds)


def _is_a(value: Any, kind: str) -> bool:  # noqa: ANN401 - JSON
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return kind not in _TYPES or isinstance(value, _TYPES[kind])


def _is_chosen(value: Any, about: Schema) -> bool:  # noqa: ANN401 - JSON
    choices = [about["const"]] if "const" in about else about.get("enum")
    return choices is None or any(
        value == one and isinstance(value, bool) == isinstance(one, bool) for one in choices
    )


def _bounded(value: Any, about: Schema) -> str | None:  # noqa: ANN401 - JSON
    if isinstance(value, int | float) and not isinstance(value, bool):
        for name, (words, holds) in _BOUNDS.items():
            if isinstance(bound := about.get(name), int | float) and not holds(value, bound):
                return f"{words} {bound}"
    for name, (kind, words, holds) in _LENGTHS.items():
        bound = about.get(name)
        if isinstance(bound, int) and isinstance(value, kind) and not holds(len(value), bound):
            return words.format(bound)
    return None


def _inside(
    value: Any,  # noqa: ANN401 - JSON
    about: Schema,
    root: Schema,
    depth: int,
) -> Iterator[tuple[str, str]]:
    items = about.get("items")
    if isinstance(value, list) and isinstance(items, dict):
        for number, item in enumerate(value):
            if fault := _fault(item, items, root, depth + 1):
                yield f"[{number}]{fault[0]}", fault[1]
    if not isinstance(value, dict):
        return
    for name in about.get("required") or ():
        if name not in value:
            yield f".{name}", "there"
    properties = about.get("properties") or {}
    others = about.get("additionalProperties")
    for name, item in value.items():
        inner = properties.get(name, others if isinstance(others, dict) else None)
        if inner is None and others is False:
            yield f".{name}", "left out: there is no such member"
        elif isinstance(inner, dict) and (fault := _fault(item, inner, root, depth + 1)):
            yield f".{name}{fault[0]}", fault[1]


def _words(about: Schema, root: Schema, depth: int) -> str:
    about = resolved(about, root)
    if depth > _SHOWN:
        return "anything"
    choices = [about["const"]] if "const" in about else about.get("enum")
    if choices is not None:
        shown = ", ".join(json.dumps(one, ensure_ascii=False) for one in choices)
        return shown if len(choices) == 1 else f"one of {shown}"
    several = about.get("anyOf") or about.get("oneOf") or ()
    if several:
        words = (_words(one, root, depth + 1) for one in several if isinstance(one, dict))
        return " or ".join(dict.fromkeys(words))
    kinds = about.get("type") or "anything"
    if isinstance(kinds, list):
        return " or ".join(kinds)
    if kinds == "array" and isinstance(about.get("items"), dict):
        return f"array of {_words(about['items'], root, depth + 1)}"
    return f"{kinds} ({about['format']})" if about.get("format") else str(kinds)
