"""The JSON Schemas of what spanctl prints: one file a document, part of the interface."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from spanctl_cli.output import Column, Kind, Listing

_PREFIX, _VERSION = "spanctl.", "/v1"
_COLUMNS = (
    Column("schema", kind=Kind.ID),
    Column("commands"),
    Column("about", extra=True),
)


def nouns() -> list[str]:
    """Return the nouns of all schemas: ``audit.list`` of ``spanctl.audit.list/v1``."""
    suffix = ".v1.json"
    found = (one.name for one in files(__name__).iterdir() if one.name.endswith(suffix))
    return sorted(name.removesuffix(suffix) for name in found)


def named(name: str) -> str | None:
    """Return the JSON Schema of a document by its whole name; None if it is none."""
    if not (name.startswith(_PREFIX) and name.endswith(_VERSION)):
        return None
    return text(name.removeprefix(_PREFIX).removesuffix(_VERSION))


def text(noun: str) -> str | None:
    """Return the JSON Schema of a noun as it is published; None if it has none."""
    if noun not in nouns():
        return None
    return files(__name__).joinpath(f"{noun}.v1.json").read_text(encoding="utf-8")


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
