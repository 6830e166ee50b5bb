"""Which flow run a signed statement was used in: one statement, one flow run.

A flow run's id can't be chosen, so a statement can't name it; whoever can delete flow runs could
make another one that fits. The first use of a statement is therefore written down.
"""

from typing import TYPE_CHECKING, Final

from spanctl.errors import NotPermittedError
from spanctl.spanner.applying import apply, mutation
from spanctl.spanner.keysets import one
from spanctl.spanner.receipts import COMMIT_TIMESTAMP

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

TABLE: Final = "spanctl_attestations"
_TIMEOUT: Final = 30.0


def use(database: "Database", attestation_id: str, flow_run: str) -> None:
    """Write down that a statement is used in a flow run; again in the same one changes nothing.

    Args:
        database: The database with the ledger.
        attestation_id: Digest of what was signed.
        flow_run: Id of the root flow run.

    Raises:
        NotPermittedError: It was used in another flow run.
        SpanctlError: The database could not be reached, or refused.
    """
    row = {"attestation_id": attestation_id, "flow_run": flow_run, "used_at": COMMIT_TIMESTAMP}
    insert = mutation("insert", TABLE, row)
    if apply(database, [insert], timeout=_TIMEOUT, doing="a statement's use was written down"):
        return
    (used,) = [str(found) for (found,) in database.read(TABLE, ["flow_run"], one(attestation_id))]
    if used != flow_run:
        msg = f"the signed statement in flow run {flow_run} was used before, in flow run {used}"
        hint = "ask for another run: spanctl run"
        raise NotPermittedError(msg, hint=hint, flow_run=flow_run, used_in=used)
