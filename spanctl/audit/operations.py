"""From what a person has in hand to operations: a txn ID, an operation key, a run."""

from spanctl.audit.resolve import ambiguous, possible
from spanctl.errors import NotFoundError, UsageError
from spanctl.ledger import fences
from spanctl.ledger.keys import OperationKey, is_prefix
from spanctl.orchestration.api import PrefectApi
from spanctl.spanner import limbo, receipts
from spanctl.spanner.client import Database
from spanctl.spanner.limbo import Leased

_CANDIDATES = 10


def operation(database: Database, text: str) -> OperationKey:
    """Return the operation that a txn ID, a unique prefix of one, or an operation key names.

    Raises:
        NotFoundError: Neither a receipt nor an open lease has such an ID.
        AmbiguousIdError: Several have.
        SpanctlError: The database could not be read.
    """
    text = possible(text)
    if is_prefix(text):
        found = receipts.find(database, text, limit=_CANDIDATES + 1)
        leased = [] if found else limbo.find(database, text)
        if len(found) + len(leased) > 1:
            raise ambiguous(text, found or leased)
        for one in found:
            return OperationKey.parse(one.operation_key)
        for other in leased:
            return other.key
    try:
        return OperationKey.parse(text)
    except UsageError:
        msg = f"no receipt and no open lease has a txn ID {text!r}"
        hint = "run: spanctl txn list; an operation key is taken as well"
        raise NotFoundError(msg, hint=hint) from None


def root_of(api: PrefectApi | None, text: str) -> str:
    """Return what leases call the root flow run that a person names by its id or name."""
    if api is None:
        return text
    try:
        return api.root_of(api.find_flow_run(text)).id
    except NotFoundError:
        return text  # Prefect may have forgotten what the ledger still names


def is_of_run(one: Leased, root: str) -> bool:
    """Tell whether an operation is of this root flow run, or of this idempotency key."""
    return root in {one.root_run, one.key.root} or one.key.root == f"key:{root}"


def closed_in(database: Database, root: str) -> list[OperationKey]:
    """Return the operations of a run that operators have fenced, reopened or not.

    Raises:
        SpanctlError: The database could not be read.
    """
    entries = receipts.of_run(database, root)
    found = [OperationKey.parse(one.operation_key) for one in entries if fences.closes(one)]
    return list(dict.fromkeys(found))
