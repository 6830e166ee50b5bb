"""Which ledger a flow run belongs to: the one in the database when its first step ran.

A database that was made anew (an emulator that died) or restored has another ledger, in which
nothing of an earlier attempt is found: run again there, its writes would pass for new ones.
"""

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from uuid import UUID

from spanctl.errors import ConflictError
from spanctl.flows.place import put_labels, read_labels
from spanctl.invocation import LEDGER_LABEL

if TYPE_CHECKING:
    from spanctl.spanner.rpc import Target


_settling: Final = threading.Lock()


def ledger_label(target: "Target") -> str:
    """Return the label that says which ledger a run found in a database: a run may use several."""
    return f"{LEDGER_LABEL}.{target.database}"


def refuse_other_ledger(root_run: str | None, target: "Target", known: str | None) -> None:
    """Return when a run belongs to the ledger that its database holds now.

    Args:
        root_run: Id of the root flow run; None outside of flows, where nothing is refused.
        target: The database.
        known: The ledger's id in the run's labels, as they were when the step was called.

    Raises:
        ConflictError: An earlier attempt of the run wrote to another ledger.
        UnreachableError: Prefect's API or Spanner did not answer.
        SchemaVersionError: The database has no ledger.
    """
    from spanctl.spanner.client import shared

    if root_run is None:
        return
    found = shared(target).ledger.ledger_id
    belongs = known or _agreed(root_run, ledger_label(target), found)
    if belongs != found:
        msg = f"flow run {root_run} belongs to ledger {belongs}, {target.database} holds {found}"
        hint = "the database was made anew or restored since: start another run"
        raise ConflictError(msg, hint=hint, flow_run=root_run, ledger=belongs, found=found)


def _agreed(root_run: str, label: str, found: str) -> str:
    with _settling:  # steps that begin side by side ask once
        return _settled(root_run, label, found)


@lru_cache(maxsize=64)
def _settled(root_run: str, label: str, found: str) -> str:
    """Return the ledger of a run; if nobody has said it yet, it is the one that was found."""
    run = UUID(root_run)
    if (known := read_labels(run).get(label)) is not None:
        return str(known)
    put_labels(run, {label: found})
    return found
