"""From what a person has in hand to what it names: a txn ID, a prefix of one, or a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from spanctl.errors import (
    AmbiguousIdError,
    NotFoundError,
    NotPermittedError,
    OutcomeUnknownError,
    SpanctlError,
    UnreachableError,
)
from spanctl.ledger.keys import KEYED, is_prefix, is_txn_id
from spanctl.ledger.receipt import Receipt
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.model import FlowRun
from spanctl.spanner import limbo, receipts
from spanctl.spanner.client import Database

_CANDIDATES = 10
_HINT = "run: spanctl audit list"
_LONGEST = 512
"""Characters: no operation key, and so no name of a run, is longer."""
_QUOTED = 60


@dataclass(frozen=True, slots=True)
class Named:
    """What an ID names.

    Attributes:
        id: The txn ID, the idempotency key, or what receipts call the run: the flow run's id.
        receipt: The receipt, if it names a transaction.
        run: The flow run, if it names one that Prefect knows.
        root: The root flow run of that one.
        receipts: The receipts of the run, or under the key, oldest first.
        keyed: Whether it names an idempotency key.
    """

    id: str
    receipt: Receipt | None = None
    run: FlowRun | None = None
    root: FlowRun | None = None
    receipts: tuple[Receipt, ...] = ()
    keyed: bool = False


def resolve(database: Database, api: PrefectApi | None, text: str) -> Named:
    """Find what ``text`` names: transactions first, then idempotency keys, then runs.

    Raises:
        OutcomeUnknownError: It is leased and has no receipt: it may be in limbo.
        NotFoundError: Neither the ledger nor Prefect knows it.
        AmbiguousIdError: It fits several; ``details["candidates"]`` lists them.
        UnreachableError: The ledger doesn't know it, and Prefect, which may, did not answer.
        NotPermittedError: Likewise, Prefect refused the credentials.
    """
    text = possible(text)
    if is_prefix(text):
        found = receipts.find(database, text, limit=_CANDIDATES + 1)
        if len(found) == 1:
            return Named(found[0].txn_id, receipt=found[0])
        if found:
            raise ambiguous(text, found)
    name = text.lower() if is_txn_id(text) else text
    ours = tuple(receipts.of_run(database, name))
    if not ours and (keyed := _under_key(database, text)):
        return Named(text, receipts=keyed, run=_only_run(api, keyed), keyed=True)
    try:
        run = api.find_flow_run(name) if api else None
    except (NotFoundError, UnreachableError, NotPermittedError) as error:
        if ours:
            return Named(name, receipts=ours)
        raise _open(database, text) or _unknown(text, error) from None
    if run is None:
        if ours:
            return Named(name, receipts=ours)
        raise _open(database, text) or _unknown(text, None)
    return _of_flow_run(database, api, run, ours)


def _under_key(database: Database, text: str) -> tuple[Receipt, ...]:
    """Return the receipts under an idempotency key, also as operation keys begin with it."""
    found = receipts.of_key(database, text)
    if not found and text.startswith(KEYED):
        found = receipts.of_key(database, text.removeprefix(KEYED))
    return tuple(found)


def _only_run(api: PrefectApi | None, keyed: tuple[Receipt, ...]) -> FlowRun | None:
    """Return the flow run that wrote all of them, if one did and Prefect tells of it."""
    roots = {one.provenance.root_run for one in keyed}
    root = roots.pop() if len(roots) == 1 else None
    if api is None or root is None:
        return None
    try:
        return api.flow_run(root)
    except (NotFoundError, UnreachableError, NotPermittedError):
        return None


def possible(text: str) -> str:
    """Return an ID without the blanks around it.

    Raises:
        NotFoundError: It is empty, or longer than anything's ID.
    """
    text = text.strip()
    if text and len(text) <= _LONGEST:
        return text
    msg = (
        f"an ID of {len(text):,} characters names nothing" if text else "an empty ID names nothing"
    )
    raise NotFoundError(msg, hint=_HINT)


def _of_flow_run(
    database: Database, api: PrefectApi | None, run: FlowRun, ours: tuple[Receipt, ...]
) -> Named:
    root = api.root_of(run) if api and run.parent_task_run_id else run
    if not ours:
        everything = receipts.of_run(database, root.id)
        ours = tuple(one for one in everything if run.id in {root.id, one.provenance.flow_run})
    return Named(run.id, run=run, root=root, receipts=ours)


def _open(database: Database, text: str) -> SpanctlError | None:
    """Return what to tell of a transaction that may be in limbo; None where there is none."""
    found = limbo.find(database, text) if is_prefix(text) else []
    if not found:
        return None
    if len(found) > 1:
        return ambiguous(text, found)
    (leased,) = found
    run = leased.root_run or leased.key.root
    msg = (
        f"the outcome of transaction {leased.txn_id} is UNKNOWN: step {leased.step} of run {run}"
        " is leased, no receipt: it may still be in limbo"
    )
    hint = (
        f"to make it final, run: spanctl txn resolve {leased.txn_id};"
        " or run the same operation again, it commits at most once"
    )
    return OutcomeUnknownError(
        msg,
        hint=hint,
        txn_id=leased.txn_id,
        run=run,
        step=leased.step,
        operation_key=str(leased.key),
        host=leased.leases[0].host,
        pid=leased.leases[0].pid,
    )


def ambiguous(prefix: str, found: Sequence[Receipt] | Sequence[limbo.Leased]) -> AmbiguousIdError:
    """Return what to raise of a prefix that fits several transactions."""
    ids = [one.txn_id for one in found]
    more = len(ids) > _CANDIDATES
    shown = ", ".join(ids[:_CANDIDATES]) + (", ..." if more else "")
    count = f"more than {_CANDIDATES}" if more else str(len(ids))
    msg = f"{count} transactions begin with {prefix!r}"
    return AmbiguousIdError(msg, hint=f"give more of it: {shown}", candidates=ids)


def _unknown(text: str, error: SpanctlError | None) -> SpanctlError:
    shown = repr(text) if len(text) <= _QUOTED else f"{text[:_QUOTED]!r}..."
    if error is not None and not isinstance(error, NotFoundError):
        msg = f"the ledger doesn't know {shown}, and Prefect can't be asked: {error.message}"
        return type(error)(msg, hint=error.hint, **error.details)
    where = "the ledger" if error is None else "the ledger and Prefect"
    msg = f"{where} {'know' if error else 'knows'} no transaction and no run {shown}"
    hint = f"{_HINT}; a txn ID may be cut to its first 8 characters, not fewer"
    return NotFoundError(msg, hint=_HINT if is_prefix(text) else hint)
