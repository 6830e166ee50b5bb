"""Every part that is looked at, in the order in which they are shown."""

from collections.abc import Callable, Sequence
from functools import partial

from spanctl.errors import UnreachableError
from spanctl.health import access, configuration, database, limbo, network, orchestrator
from spanctl.health.model import Answer, Check
from spanctl.health.surroundings import Surroundings

_ALL: tuple[tuple[str, Callable[[Surroundings], Answer], tuple[str, ...]], ...] = (
    ("settings", configuration.settings, ()),
    ("context", configuration.context, ("settings",)),
    ("files", configuration.files, ("settings",)),
    ("credentials", access.credentials, ("context", "files")),
    ("permissions", access.permissions, ("credentials",)),
    ("audit_logs", access.audit_logs, ("credentials",)),
    ("database", database.database, ("credentials",)),
    ("ledger", database.ledger, ("database",)),
    ("change_stream", database.change_stream, ("ledger",)),
    ("version_retention", database.version_retention, ("database",)),
    ("limbo", limbo.limbo, ("ledger",)),
    ("round_trip", network.round_trip, ("database",)),
    ("clock", network.clock, ("database",)),
    ("prefect", orchestrator.prefect, ("files",)),
    ("prefect_version", orchestrator.version, ("prefect",)),
    ("prefect_clock", network.prefect_clock, ("prefect",)),
    ("workers", orchestrator.workers, ("prefect",)),
)

PARTS: Sequence[str] = (*(part for part, _, _ in _ALL), "dependencies")
"""The ids of the parts, in order."""


def checks(around: Surroundings) -> list[Check]:
    """Return the checks of every part."""
    found = [Check(part, partial(_looked, around, look), needs) for part, look, needs in _ALL]
    return [*found, Check("dependencies", configuration.dependencies)]


def _looked(around: Surroundings, look: Callable[[Surroundings], Answer]) -> Answer:
    """Look at a part; what doesn't answer of the local stack is mended by starting it."""
    try:
        return look(around)
    except UnreachableError as error:
        if around.settings().is_local:
            raise UnreachableError(error.message, hint="run: spanctl local up") from None
        raise
