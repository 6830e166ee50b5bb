"""Every part that is looked at, in the order in which they are shown."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from spanctl.errors import SpanctlError
from spanctl.health import access, configuration, database, limbo, network, orchestrator, stack
from spanctl.health.model import Answer, Check, fail, skipped
from spanctl.health.surroundings import Surroundings
from spanctl.settings import Settings, Source

_ALL: tuple[tuple[str, Callable[[Surroundings], Answer], tuple[str, ...]], ...] = (
    ("settings", configuration.settings, ()),
    ("context", configuration.context, ("settings",)),
    ("files", configuration.files, ("settings",)),
    ("stack", stack.stack, ("files",)),
    ("credentials", access.credentials, ("context", "files")),
    ("permissions", access.permissions, ("database",)),
    ("audit_logs", access.audit_logs, ("credentials",)),
    ("database", database.database, ("credentials",)),
    ("ledger", database.ledger, ("database",)),
    ("change_stream", database.change_stream, ("ledger",)),
    ("version_retention", database.version_retention, ("database",)),
    ("limbo", limbo.limbo, ("ledger",)),
    ("round_trip", network.round_trip, ("database",)),
    ("clock", network.clock, ("database",)),
    ("folder", orchestrator.folder, ("settings",)),
    ("prefect", orchestrator.prefect, ("files",)),
    ("prefect_version", orchestrator.version, ("prefect",)),
    ("prefect_clock", network.prefect_clock, ("prefect",)),
    ("workers", orchestrator.workers, ("prefect",)),
)

_OF_CONTEXTS = tuple(f"spanctl {one}" for one in ("init", "creds", "txn", "context set", "doctor"))
"""How commands begin that work on the context in use."""

PARTS: Sequence[str] = (*(part for part, _, _ in _ALL), "dependencies")
"""The ids of the parts, in order."""


def checks(around: Surroundings) -> list[Check]:
    """Return the checks of every part."""
    found = [Check(part, partial(_looked, around, part, look), needs) for part, look, needs in _ALL]
    return [*found, Check("dependencies", configuration.dependencies)]


def _looked(around: Surroundings, part: str, look: Callable[[Surroundings], Answer]) -> Answer:
    """Look at a part; what is only down because the local stack is, is told by the stack alone."""
    if stack.is_in_trouble(around, part):
        return skipped("see stack", because="stack")
    try:
        found = look(around)
    except SpanctlError as error:
        found = fail(error)
    if part == "settings":
        return found
    if found.error is not None:
        found = fail(stack.explained(around, part, found.error), **found.facts)
    return replace(found, mend=_in_context(around.settings(), found.mend))


def _in_context(settings: Settings, mend: str) -> str:
    """Return what mends, with the context that a flag names: else it would mend another one."""
    if settings.context is None or settings.context_source is not Source.FLAG:
        return mend
    flag = f"spanctl --context {shlex.quote(settings.context)}"
    return " && ".join(
        command.replace("spanctl", flag, 1) if command.startswith(_OF_CONTEXTS) else command
        for command in mend.split(" && ")
    )
