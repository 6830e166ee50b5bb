"""What is leased and has no receipt: the operations whose outcome may be open."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from spanctl import processes
from spanctl.ledger.keys import OperationKey, step_of, txn_id
from spanctl.processes import Mark
from spanctl.spanner import fence
from spanctl.spanner.keysets import KeyRange, KeySet
from spanctl.spanner.leases import BY_REQUEST, TABLE

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_OPEN: Final = "spanctl_intents_open"
_COLUMNS: Final = (
    "intent_id",
    "executor",
    "prefix",
    "first",
    "last",
    "keys",
    "root_run",
    "host",
    "pid",
    "open_since",
)
_TIMEOUT: Final = 30.0
_FETCH: Final = 500  # primary keys in one read: well below what a request may hold
_EPOCHS: Final = 8
"""Leases don't tell how often an operation was fenced; an ID of a later epoch isn't recognised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLease:
    """A row that leases operations and is not closed.

    Attributes:
        intent_id: Its primary key.
        executor: Id of the execution that holds it.
        keys: What it leases.
        root_run: The root flow run's id, if there is one.
        host: The machine that leased it.
        pid: The process there.
        since: When it was leased.
        mark: Which process of that number it is; None in older rows, and where nobody told.
    """

    intent_id: str
    executor: str
    keys: tuple[OperationKey, ...]
    root_run: str | None
    host: str | None
    pid: int | None
    since: datetime
    mark: Mark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """An operation under an open lease, without a receipt.

    Attributes:
        txn_id: Its txn ID, in the epoch that counts.
        key: Its operation key.
        epoch: How often it was fenced and went on.
        leases: The leases that hold it, the oldest first: one for each executor.
    """

    txn_id: str
    key: OperationKey
    epoch: int
    leases: tuple[OpenLease, ...]

    @property
    def step(self) -> str:
        """The path of subflows, the declared step, and which call of it."""
        return step_of(self.key)

    @property
    def root_run(self) -> str | None:
        """The root flow run's id, if there is one."""
        return self.leases[0].root_run

    @property
    def since(self) -> datetime:
        """When it was first leased."""
        return self.leases[0].since


def open_leases(database: "Database", *, timeout: float = _TIMEOUT) -> list[OpenLease]:
    """Return every open lease, the oldest first; each read takes at most ``timeout`` seconds.

    Raises:
        SpanctlError: The database could not be read.
    """
    found = [_lease(row) for row in _open_rows(database, timeout)]
    return sorted(found, key=lambda lease: (lease.since, lease.intent_id))


def unsettled(database: "Database", leases: Iterable[OpenLease]) -> list[Leased]:
    """Return the operations of these leases that have no receipt, in the leases' order.

    Each is listed once, however many executors lease it. Reads are strong: what had committed
    before the call isn't listed. Nor is what an operator closed and opened again, until somebody
    runs it: a lease from before holds nothing of it.

    Raises:
        SpanctlError: The database could not be read.
    """
    holders: dict[OperationKey, list[OpenLease]] = {}
    for lease in leases:
        for key in lease.keys:
            holders.setdefault(key, []).append(lease)
    listed = []
    for key, stands in fence.standings(database, holders).items():
        held = tuple(one for one in holders[key] if _holds(one, stands))
        if stands.entry is None and held:
            call = stands.call
            listed.append(Leased(txn_id=call.txn_id, key=key, epoch=call.epoch, leases=held))
    return listed


def _holds(lease: OpenLease, stands: fence.Standing) -> bool:
    """Tell whether something can commit under a lease: who goes on once reopened leases anew."""
    return stands.reopened is None or lease.since > stands.reopened


def find(database: "Database", prefix: str) -> list[Leased]:
    """Return the leased operations without a receipt whose txn ID starts with the prefix.

    Each is listed once. Hyphens may be left out.

    Raises:
        SpanctlError: The database could not be read.
    """
    wanted = prefix.lower().replace("-", "")

    def fits(identifier: str) -> bool:
        return identifier.replace("-", "").startswith(wanted)

    fitting = []
    for lease in open_leases(database):
        keys = tuple(
            key for key in lease.keys if any(fits(txn_id(key, epoch)) for epoch in range(_EPOCHS))
        )
        if keys:
            fitting.append(replace(lease, keys=keys))
    return [one for one in unsettled(database, fitting) if fits(one.txn_id)]


def typed(database: "Database", digests: Sequence[str], since: datetime) -> list[OpenLease]:
    """Return the leases that keep one of these digests of what was typed, the newest first.

    They need not be open: whoever closed them, their own executor did not see its end.

    Args:
        database: Where.
        digests: What was typed.
        since: How far to look back.

    Raises:
        SpanctlError: The database could not be read.
    """
    spans = [KeyRange(start_closed=[digest], end_closed=[digest]) for digest in digests]
    index = ("leased_at", "intent_id")
    rows = database.read(TABLE, index, KeySet(ranges=spans), index=BY_REQUEST)
    ids = [[intent_id] for leased_at, intent_id in rows if leased_at >= since]
    if not ids:
        return []
    columns = (*_COLUMNS[:-1], "leased_at")
    found = [_lease(row) for row in database.read(TABLE, columns, KeySet(keys=ids))]
    return sorted(found, key=lambda lease: lease.since, reverse=True)


def _open_rows(database: "Database", timeout: float) -> Iterator[Sequence[Any]]:
    listed = database.read(TABLE, ["intent_id"], KeySet(all_=True), index=_OPEN, timeout=timeout)
    ids = [row[0] for row in listed]
    for start in range(0, len(ids), _FETCH):
        keys = KeySet(keys=[[one] for one in ids[start : start + _FETCH]])
        yield from database.read(TABLE, _COLUMNS, keys, timeout=timeout)


def _lease(row: Sequence[Any]) -> OpenLease:
    intent_id, executor, prefix, first, last, keys, root_run, kept, pid, since = row
    host, mark = processes.parse(kept)
    return OpenLease(
        intent_id=intent_id,
        executor=executor,
        keys=tuple(_keys(prefix, first, last, keys)),
        root_run=root_run,
        host=host,
        pid=pid,
        since=since,
        mark=mark,
    )


def _keys(
    prefix: str, first: int | None, last: int | None, keys: Sequence[str] | None
) -> Iterator[OperationKey]:
    if first is None and not keys:
        return  # what was asked for under a key: it leases nothing
    origin = OperationKey.parse(f"{prefix}#0")
    if first is not None and last is not None:
        yield from (replace(origin, call=ordinal) for ordinal in range(first, last + 1))
    yield from (replace(origin, call=key) for key in keys or ())
