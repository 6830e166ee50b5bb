"""Parameters against a deployment's schema: found out here, named without their values."""

from typing import Any

import pytest

from spanctl.errors import UsageError
from spanctl.orchestration import exact
from spanctl.orchestration.model import Deployment
from spanctl.orchestration.parameters import check, kind_of, read

SECRET = "value-that-must-not-show"  # noqa: S105 - a parameter's value
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "who": {"type": "string", "minLength": 2},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "rate": {"type": "number"},
        "dry": {"type": "boolean"},
        "mode": {"enum": ["fast", "slow"]},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "text": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "many": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
        "place": {"$ref": "#/definitions/Place"},
        "open": {},
    },
    "required": ["who"],
    "definitions": {
        "Place": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "inner": {"$ref": "#/definitions/Place"}},
            "required": ["city"],
            "additionalProperties": False,
        }
    },
}


def deployment(**fields: Any) -> Deployment:
    given = {"parameters": {"who": "all"}, "schema": SCHEMA, **fields}
    return Deployment(id="d", name="f/d", flow_id="f", **given)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"count": 3, "rate": 1, "dry": True, "mode": "slow"},
        {"count": 3.0},
        {"maybe": None, "text": None, "many": [1, 2], "open": {"a": [1]}},
        {"place": {"city": "x", "inner": {"city": "y"}}},
    ],
)
def test_what_fits(given: dict[str, Any]) -> None:
    """Everything that the schema allows passes, also through references that go in circles."""
    check(given, deployment())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"who": 7}, "parameter who of f/d is to be string"),
        ({"who": "x"}, "at least 2 characters"),
        ({"count": SECRET}, "is to be integer"),
        ({"count": True}, "is to be integer"),
        ({"count": 1.5}, "is to be integer"),
        ({"count": 0}, "at least 1"),
        ({"count": 10}, "at most 9"),
        ({"dry": 1}, "is to be boolean"),
        ({"mode": SECRET}, 'one of "fast", "slow"'),
        ({"maybe": SECRET}, "integer or null"),
        ({"many": [1, SECRET]}, r"many\[1\] of f/d is to be integer"),
        ({"many": [1, 2, 3]}, "at most 2 items"),
        ({"place": {}}, r"place\.city"),
        ({"place": {"city": "x", "inner": {"city": 1}}}, r"place\.inner\.city"),
        ({"place": {"city": "x", "extra": 1}}, "no such member"),
        ({"coutn": 1}, "takes no parameter coutn"),
    ],
)
def test_what_does_not(given: dict[str, Any], words: str) -> None:
    """The parameter, the place in it and what was expected are named; the value never is."""
    with pytest.raises(UsageError, match=words) as caught:
        check(given, deployment())
    assert SECRET not in f"{caught.value} {caught.value.hint} {caught.value.details}"


def test_what_is_missing() -> None:
    """A required parameter without a value, its own or the deployment's, is asked for."""
    with pytest.raises(UsageError, match="needs parameter who") as caught:
        check({"count": 1}, deployment(parameters={}))
    assert "-p who=VALUE" in caught.value.hint
    check({"who": "ann"}, deployment(parameters={}))


def test_a_name_that_is_close() -> None:
    """A misspelt parameter is told what it may have been."""
    with pytest.raises(UsageError) as caught:
        check({"coutn": 1}, deployment())
    assert "did you mean count?" in caught.value.hint


def test_names_that_a_flow_collects() -> None:
    """A schema shows ``**more`` as a parameter like others: what to do instead is told."""
    about = {"a": {"position": 0, "default": 1}, "more": {"position": 1, "type": "string"}}
    schema = {"properties": about, "required": ["more"]}
    with pytest.raises(UsageError) as caught:
        check({"extra": 1}, deployment(schema=schema))
    assert "if more is **more in the code, only a run of the file takes" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        check({"extra": 1}, deployment(schema={"properties": about}))
    assert "**" not in caught.value.hint


def test_no_schema() -> None:
    """A deployment without a schema takes anything; one that is open takes other names."""
    check({"anything": 1}, deployment(schema={}))
    check({"anything": 1}, deployment(schema={**SCHEMA, "additionalProperties": True}))


def test_reading_what_was_typed() -> None:
    """Text stays text where the schema wants text, whatever it looks like."""
    typed = {
        "who": "007",
        "count": "7",
        "dry": "true",
        "text": "null",
        "many": "[1, 2]",
        "open": "7",
        "mode": "fast",
        "other": "1",
    }
    assert read(typed, SCHEMA) == {
        "who": "007",
        "count": 7,
        "dry": True,
        "text": None,
        "many": [1, 2],
        "open": 7,
        "mode": "fast",
        "other": 1,
    }
    assert read({"who": "true", "text": "12"}, SCHEMA) == {"who": "true", "text": "12"}


@pytest.mark.parametrize(
    ("about", "text", "value"),
    [
        ({"type": "string"}, "4711", "4711"),
        ({"type": "string"}, "4711.50", "4711.50"),
        ({"type": "string"}, "null", "null"),
        ({"type": "string"}, "[1, 2]", "[1, 2]"),
        ({"type": "string"}, '{"a": 1}', '{"a": 1}'),
        ({"type": "string"}, "NaN", "NaN"),
        ({"type": "string"}, "a=b", "a=b"),
        ({"type": "string"}, "", ""),
        ({"type": "string", "minLength": 9}, "4711", "4711"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "true", "true"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "null", None),
        ({"type": ["string", "null"]}, "4711", "4711"),
        ({"enum": ["1", "2"]}, "1", "1"),
        ({"enum": [1, 2]}, "1", 1),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, "0.10", "0.10"),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, "0.1", 0.1),
        (
            {"anyOf": [{"type": "number"}, {"type": "string"}]},
            "1.00000000000000000000000000001",
            "1.00000000000000000000000000001",
        ),
        ({"type": "integer"}, "007", 7),
        ({"type": "integer"}, "+5", 5),
        ({"type": "integer"}, "five", "five"),
        ({"type": "number"}, ".5", 0.5),
        ({"type": "boolean"}, "yes", True),
        ({"type": "boolean"}, "0", False),
        ({"type": "string", "format": "duration"}, "90", "PT90S"),
        ({"type": "string", "format": "date"}, "20260101", "20260101"),
        ({"type": "string", "format": "binary"}, "12", "12"),
        ({"type": "array", "items": {"type": "string"}}, '["007"]', ["007"]),
        ({}, "4711", 4711),
    ],
)
def test_a_value_is_read_as_its_type_says(about: dict[str, Any], text: str, value: object) -> None:
    """Text for a string is as it was typed; what else it might be counts only for other types."""
    found = read({"p": text}, {"properties": {"p": about}})["p"]
    assert (found, type(found)) == (value, type(value))


DECIMAL = {"anyOf": [{"type": "number"}, {"type": "string"}]}
DIGITS = "0.12345678901234567890"


@pytest.mark.parametrize(
    ("about", "text", "value"),
    [
        ({"type": "array", "items": DECIMAL}, f"[{DIGITS}, 0.5, 1]", [DIGITS, 0.5, 1]),
        ({"type": "array", "prefixItems": [DECIMAL]}, f"[{DIGITS}]", [DIGITS]),
        ({"type": "object", "additionalProperties": DECIMAL}, f'{{"a": {DIGITS}}}', {"a": DIGITS}),
        (
            {"anyOf": [{"$ref": "#/definitions/M"}, {"type": "null"}]},
            f'{{"of": [{DIGITS}]}}',
            {"of": [DIGITS]},
        ),
        (DECIMAL, "1e400", "1e400"),
        ({"type": "integer"}, "9007199254740993.0", 9007199254740993),
        ({"type": "integer"}, "+9007199254740993.0", 9007199254740993),
        ({"type": "number"}, "0.30000000000000004", 0.30000000000000004),
        ({"type": "number"}, "1e23", 1e23),
        ({"type": "number"}, "1000000000000000000000", 10**21),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, "5.0", 5.0),
        ({"type": "integer"}, "9" * 500, int("9" * 500)),
        ({"type": "string"}, f"[{DIGITS}]", f"[{DIGITS}]"),
        ({}, "[0.1]", [0.1]),
    ],
)
def test_no_digit_is_lost(about: dict[str, Any], text: str, value: object) -> None:
    """At any depth: as text where text is taken, else as a number that is the same."""
    model = {"type": "object", "properties": {"of": {"type": "array", "items": DECIMAL}}}
    schema = {"properties": {"p": about}, "definitions": {"M": model}}
    found = read({"p": text}, schema)["p"]
    assert (found, type(found)) == (value, type(value))
    given = exact.load(text) if text.startswith(("[", "{")) else text
    if not isinstance(given, str) and about.get("type") != "string":
        assert read({}, schema, {"p": given}) == {"p": value}


@pytest.mark.parametrize(
    ("about", "text", "words"),
    [
        ({"type": "number"}, DIGITS, "p has more digits"),
        ({"type": "number"}, "9007199254740993", "p has more digits"),
        ({"type": "array", "items": {"type": "number"}}, f"[1, {DIGITS}]", r"p\[1\] has more"),
        ({}, f'{{"a": {DIGITS}}}', r"p\.a has more digits"),
        ({"type": "integer"}, "9007199254740993.5", "p has more digits"),
        *(({"type": "number"}, text, "p is infinite") for text in ("1e400", "-inf", "NaN")),
        ({"type": "number"}, "1" + "0" * 400, "p is infinite"),
        ({"type": "integer"}, "1e999999999", "p is infinite"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "Infinity", "p is infinite"),
        ({"type": "array", "items": {"type": "number"}}, '["1e999"]', r"p\[0\] is infinite"),
        ({"type": "string"}, "a\udcff", "p holds what is no Unicode"),
        ({"type": "array", "items": {}}, '["\\ud800"]', r"p\[0\] holds what is no Unicode"),
        ({}, '{"\\ud800": 1}', "a name in parameter p holds"),
    ],
)
def test_what_can_not_be_kept(about: dict[str, Any], text: str, words: str) -> None:
    """A number that would become another one is refused, by the place and not by its digits."""
    with pytest.raises(UsageError, match=words) as caught:
        read({"p": text}, {"properties": {"p": about}})
    assert DIGITS not in f"{caught.value} {caught.value.hint}"


def test_kinds_in_words() -> None:
    """What a parameter may be is told in words, references resolved."""
    properties = SCHEMA["properties"]
    kinds = {name: kind_of(about, SCHEMA) for name, about in properties.items()}
    assert kinds["many"] == "array of integer"
    assert (kinds["place"], kinds["open"]) == ("object", "anything")
    assert kind_of({"type": "string", "format": "date"}, {}) == "string (date)"


def test_a_schema_that_refers_to_itself_or_to_nothing() -> None:
    """A schema that is no good is no reason to fail: Prefect has the last word."""
    broken = {"properties": {"a": {"$ref": "#/definitions/A"}, "b": {"$ref": "#/nowhere"}}}
    broken["definitions"] = {"A": {"$ref": "#/definitions/A"}}  # type: ignore[assignment]
    check({"a": 1, "b": 2}, deployment(schema=broken))
