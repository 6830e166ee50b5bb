"""The JSON that spanctl prints has a published shape, and the two never drift apart."""

import ast
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import spanctl_cli
from spanctl.errors import KeyReusedError, NotFoundError
from spanctl_cli import schemas
from spanctl_cli.boundary import failure_of
from tests.fixtures.cli import Spanctl
from tests.fixtures.schemas import problems, strict
from tests.guards.test_contract import COMMANDS, NO_DATA

PACKAGE = Path(spanctl_cli.__file__).parent
NOUNS = schemas.nouns()


def written() -> Iterator[tuple[str, bool]]:
    """Yield the nouns that the code names, and whether each stands in a section of another."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {
            id(argument)
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Section"
            for argument in ast.walk(call)
        }
        for call in ast.walk(tree):
            name = getattr(getattr(call, "func", None), "id", "")
            if not isinstance(call, ast.Call) or name not in {"Listing", "Record", "emit_event"}:
                continue
            given = [*call.args[:1], *(one.value for one in call.keywords if one.arg == "schema")]
            for one in given:
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    yield one.value, id(call) in inside


def test_every_document_has_a_schema() -> None:
    """What a command may print as JSON is published in spanctl_cli/schemas/NOUN.v1.json."""
    missing = {noun for noun, inside in written() if not inside} - set(NOUNS)
    sections = {
        "deployments.parameters",
        "runs.transactions",
        "run.sql.sample",
    }
    assert missing - sections == set(), "write spanctl_cli/schemas/NOUN.v1.json for these"


def test_no_schema_is_left_over() -> None:
    """A published shape is one that the code still prints."""
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for noun in NOUNS:
        assert f'"{noun}"' in sources or f'"spanctl.{noun}/v1"' in sources, noun


def test_every_command_that_prints_data_says_in_which_shapes() -> None:
    """Each is named by a schema, and each schema names commands that exist."""
    named = {words for noun in NOUNS for words in (schemas.load(noun) or {})["x-commands"]}
    assert named == set(COMMANDS) - NO_DATA


@pytest.mark.parametrize("noun", NOUNS)
def test_every_schema_is_one(noun: str) -> None:
    """It is valid, names the document it is of, and says what that is."""
    schema = schemas.load(noun)
    assert schema is not None
    Draft202012Validator.check_schema(schema)
    Draft202012Validator.check_schema(strict(schema))
    assert schema["title"] == f"spanctl.{noun}/v1"
    assert f'"const": "spanctl.{noun}/v1"' in (schemas.text(noun) or "")
    assert schema["description"].endswith(".")


def described(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every property at any depth, and where; but those that name the document itself."""
    if isinstance(part, list):
        for one in part:
            yield from described(one, path)
    elif isinstance(part, dict):
        properties = part.get("properties")
        for name, one in properties.items() if isinstance(properties, dict) else ():
            if name not in {"schema", "event"}:
                yield f"{path}/{name}", one
        for name, one in part.items():
            yield from described(one, f"{path}/{name}")


def vague(properties: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    """Yield which properties leave their unit, time zone, null or values open."""
    for path, one in properties:
        kinds = one.get("type", [])
        said = one.get("description", "")
        if path.endswith("/items") and kinds == "array" and not said:
            continue  # the rows of a list, which have a description of their own
        wanted = {"null" if value is None else str(value) for value in one.get("enum", ())}
        wanted |= {"UTC"} if one.get("format") == "date-time" else set()
        wanted |= {"seconds"} if "number" in kinds else set()
        if not said.endswith(".") or any(word not in said for word in wanted):
            yield path


@pytest.mark.parametrize("noun", NOUNS)
def test_every_property_says_what_it_is(noun: str) -> None:
    """Each has a description; with a time's zone, a number's unit, and each value of a set."""
    assert list(vague(described(schemas.load(noun)))) == []


def test_a_vague_property_is_seen() -> None:
    """The control: no description, or one without zone, unit or a value."""
    good = {"type": ["number", "null"], "description": "How long, in seconds; null before."}
    assert list(vague([("/a", good)])) == []
    for bad in (
        {"type": "string"},
        {"type": "number", "description": "How long."},
        {"type": "string", "format": "date-time", "description": "When."},
        {"enum": ["a", None], "description": "a for good."},
    ):
        assert list(vague(described({"properties": {"b": bad}}))) == ["/b"]


def test_help_prints_a_schema_as_it_is(spanctl: Spanctl) -> None:
    """By its name, which each document holds; the list names each of them."""
    listed = spanctl("help", "schemas", "-o", "name").stdout.splitlines()
    assert listed == [f"spanctl.{noun}/v1" for noun in NOUNS]
    for noun in NOUNS:
        name = f"spanctl.{noun}/v1"
        assert json.loads(spanctl("help", name).stdout)["title"] == name


def test_an_error_is_as_its_schema_says(spanctl: Spanctl) -> None:
    """Of whatever kind: usage, ours, or a bug."""
    told = spanctl("context", "show", "--nope", "-o", "json")
    assert problems(json.loads(told.stderr)) == []
    for error in (NotFoundError("gone"), KeyReusedError("x", txn_id="t"), ValueError("bug")):
        assert problems(failure_of(error).document()) == []


@pytest.mark.parametrize(
    "args",
    [
        ("txn", "reopen", "3f2a9c1e", "--reason", "x"),
        ("txn", "resolve", "--all"),
        ("creds", "create", "c", "--impersonate", "a@b.iam.gserviceaccount.com"),
        ("creds", "rotate", "--all"),
        ("run", "import", "nope.csv", "--table", "t"),
        ("runs", "cancel", "bold-fox"),
        ("init",),
        ("audit", "3f2a9c1e"),
    ],
)
def test_unknown_fields_are_refused_before_anything_is_done(
    spanctl: Spanctl, args: tuple[str, ...]
) -> None:
    """A mistake in --fields never costs the answer of a command that wrote."""
    result = spanctl(*args, "--fields", "nope,flow_run")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert result.stderr.startswith("error: unknown fields: nope")
    assert "hint: known are: " in result.stderr
    assert spanctl(*args, "--fields", ",").stderr.startswith("error: --fields names no field")


def test_what_drifts_is_seen() -> None:
    """The check is no rubber stamp: a field that is missing, new, or of another type fails it."""
    good = {"schema": "spanctl.help/v1", "topic": "a", "about": "b"}
    assert problems(good) == []
    for bad in (
        {**good, "new": 1},
        {**good, "about": 3},
        {name: value for name, value in good.items() if name != "about"},
    ):
        assert problems(bad) != []
    assert problems({"schema": "spanctl.help/v1", "topic": "a"}, partial=True) == []
