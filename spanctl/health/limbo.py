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
    dead = [one.run.id for one in found.dead_runs]
    facts = {
        "limbo": open_,
        "in_flight": flying,
        "leases": len(found.leases),
        "txn_ids": [one.operation.txn_id for one in found.limbo],
        "dead_runs": dead,
    }
    flight = f"{flying:,} in flight"
    hint = f"run: spanctl {'runs recover' if dead else 'txn resolve'} --all"
    if found.owners.hides_dead_runs and not open_:
        told = f"a flow run may have died: {found.owners.trouble}; {flight}"
        return warn(told, "spanctl txn list --unresolved", **facts)
    if dead and not open_:
        runs = "a flow run is" if len(dead) == 1 else f"{len(dead):,} flow runs are"
        told = f"{runs} dead and not ended: {', '.join(dead[:3])}; {flight}"
        return fail(OutcomeUnknownError(told, hint=hint), **facts)
    if not open_:
        return ok(f"nothing in limbo, {flight}", **facts)
    oldest = min(one.operation.since for one in found.limbo)
    age = int((now() - oldest).total_seconds())
    told = f"{open_:,} operation{'' if open_ == 1 else 's'} may be open, for {age:,} s; {flight}"
    if found.owners.trouble:
        told = f"{told}; which runs have ended can't be told: {found.owners.trouble}"
        return warn(told, "spanctl txn list --unresolved", **facts)
    if dead:
        told = f"{told}; {len(dead):,} dead flow run{'' if len(dead) == 1 else 's'}"
    told = f"{told}; see: spanctl txn list --unresolved"
    return fail(OutcomeUnknownError(told, hint=hint), **facts)
