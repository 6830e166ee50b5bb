"""Check of what may be open: leases without receipts, and whether a run sees to them."""

from spanctl.clock import now
from spanctl.errors import OutcomeUnknownError, SpanctlError
from spanctl.health.model import Answer, fail, ok, warn
from spanctl.health.surroundings import Surroundings


def limbo(around: Surroundings) -> Answer:
    """Say how many operations are in flight, and how many in limbo."""
    from spanctl.audit.settling import survey
    from spanctl.orchestration.api import PrefectApi

    database = around.database()
    try:
        reached = around.prefect()
    except SpanctlError:
        reached = None  # told by the check of Prefect
    if reached is None:
        found = survey(database, None)
    else:
        with PrefectApi(reached, timeout=around.timeout / 2) as api:
            found = survey(database, api)
    open_, flying = len(found.limbo), len(found.operations) - len(found.limbo)
    facts = {
        "limbo": open_,
        "in_flight": flying,
        "leases": len(found.leases),
        "txn_ids": [one.operation.txn_id for one in found.limbo],
    }
    flight = f"{flying:,} in flight"
    if not open_:
        return ok(f"nothing in limbo, {flight}", **facts)
    oldest = min(one.operation.since for one in found.limbo)
    age = int((now() - oldest).total_seconds())
    told = f"{open_:,} operation{'' if open_ == 1 else 's'} may be open, for {age:,} s; {flight}"
    if found.owners.trouble:
        told = f"{told}; whose run is alive can't be told: {found.owners.trouble}"
        return warn(told, "spanctl txn list --unresolved", **facts)
    told, hint = f"{told}; see: spanctl txn list --unresolved", "run: spanctl txn resolve --all"
    return fail(OutcomeUnknownError(told, hint=hint), **facts)
