"""The JSON Schemas of what spanctl prints: one file a document, part of the interface."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from spanctl.errors import UsageError
from spanctl_cli.output import Column, Kind, Listing

_PREFIX, _VERSION, _SUFFIX = "spanctl.", "/v1", ".v1.json"
_FOLDER: Final = Path(__file__).parent
_COLUMNS: Final = (
    Column("schema", kind=Kind.ID),
    Column("commands"),
    Column("about", extra=True),
)


def nouns() -> list[str]:
    """Return the nouns of all schemas: ``audit.list`` of ``spanctl.audit.list/v1``."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in _FOLDER.glob(f"*{_SUFFIX}"))


def named(name: str) -> str | None:
    """Return the JSON Schema of a document by its whole name; None if it is none."""
    if not (name.startswith(_PREFIX) and name.endswith(_VERSION)):
        return None
    return text(name.removeprefix(_PREFIX).removesuffix(_VERSION))


def text(noun: str) -> str | None:
    """Return the JSON Schema of a noun as it is published; None if it has none."""
    if noun not in nouns():
        return None
    return (_FOLDER / f"{noun}{_SUFFIX}").read_text(encoding="utf-8")


@cache
def load(noun: str) -> dict[str, Any] | None:
    """Return the JSON Schema of a noun as data; None if it has none."""
    found = text(noun)
    return None if found is None else dict(json.loads(found))


def listing() -> Listing:
    """Return all schemas with the commands that print them."""
    rows = []
    for noun in nouns():
        schema = load(noun) or {}
        rows.append(
            {
                "schema": f"{_PREFIX}{noun}{_VERSION}",
                "commands": schema.get("x-commands", []),
                "about": schema.get("description"),
            }
        )
    return Listing("help.schemas", _COLUMNS, rows)


def check_fields(fields: Sequence[str], *, command: str = "", of: Iterable[str] = ()) -> None:
    """Return when each field is one that may be printed: before anything is done.

    Args:
        fields: The names.
        command: The command, whose documents are looked at: ``audit list``.
        of: The nouns of documents to look at instead.

    Raises:
        UsageError: There are none, or one is in no such document; the hint lists those that exist.
    """
    wanted = {*of} or {noun for noun in nouns() if command in (load(noun) or {})["x-commands"]}
    known: dict[str, None] = {}
    patterns: list[str] = []
    for part in (part for noun in wanted for part in _records(load(noun) or {})):
        if part.get("additionalProperties"):
            return  # its columns are those of a query
        known |= dict.fromkeys(part.get("properties", {}))
        patterns += part.get("patternProperties", {})
    for never in ("schema", "event"):
        known.pop(never, None)
    if not known:
        return
    unknown = [
        name
        for name in fields
        if name not in known and not any(re.search(pattern, name) for pattern in patterns)
    ]
    if unknown or not fields:
        msg = f"unknown fields: {', '.join(unknown)}" if unknown else "--fields names no field"
        raise UsageError(msg, hint=f"known are: {', '.join(known)}")


def _records(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what describes one row of a listing, or a record."""
    parts = schema.get("$defs", {})
    if "item" in parts:
        yield parts["item"]
    elif "oneOf" in schema:
        yield from (
            parts[one["$ref"].rpartition("/")[2]] for one in schema["oneOf"] if "$ref" in one
        )
    else:
        yield schema
