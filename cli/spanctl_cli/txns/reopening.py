"""Operations that were closed by hand, opened again; and how their runs go on then."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from spanctl.errors import SpanctlError
from spanctl_cli.txns import facts

if TYPE_CHECKING:
    from spanctl.ledger.keys import OperationKey
    from spanctl.ledger.receipt import Provenance
    from spanctl.orchestration.api import PrefectApi
    from spanctl.spanner.client import Database


def closed_of_run(database: "Database", root: str) -> "list[OperationKey]":
    """Return the operations of a root flow run that are closed by hand.

    Raises:
        SpanctlError: The database could not be read.
    """
    from spanctl.audit.operations import closed_in
    from spanctl.spanner.fence import standings

    keys = closed_in(database, root)
    return [key for key, stands in standings(database, keys).items() if stands.is_closed]


def reopen(database: "Database", key: "OperationKey", reason: str) -> dict[str, Any]:
    """Open an operation, and return what is printed of it.

    Raises:
        ConflictError: It is not closed.
        SpanctlError: The database could not be read or written.
    """
    from spanctl.spanner import fence

    closed = fence.standing(database, key).entry
    root_run = closed.provenance.root_run if closed else None
    fenced, entry = fence.reopen(database, key, provenance=claimed(root_run, reason))
    return {**facts.reopened(key, fenced, entry), "root_run": root_run}


def claimed(root_run: str | None, reason: str) -> "Provenance":
    """Return the provenance of what a person does by hand."""
    from spanctl import invocation
    from spanctl.ledger.receipt import Provenance

    return Provenance(
        initiator=invocation.user_at_host(),
        executor=invocation.executor(),
        root_run=root_run,
        reason=reason,
    )


def next_steps(api: "PrefectApi | None", root_runs: Iterable[str | None]) -> list[str]:
    """Return how each run whose operations were opened goes on."""
    from spanctl.invocation import key_of, typed_again
    from spanctl.orchestration.filerun import FileRun

    wanted = sorted(set(filter(None, root_runs)))
    try:
        runs = api.flow_runs(wanted) if api is not None and wanted else []
    except SpanctlError:
        runs = []
    found = []
    for run in runs:
        kept = FileRun.from_labels(run.labels)
        key = key_of(run.labels)
        if run.deployment_id is not None:
            found.append(f"spanctl runs retry {run.id}")
        elif kept is not None:
            found.append(f"on {kept.host}: {kept.command(run.id)}")
        elif key is not None:
            found.append(typed_again(key))
    return found or ["run the job again; it goes on with these"]
