"""What is leased and has no receipt: the operations whose outcome may be open."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from spanctl.ledger.keys import OperationKey, txn_id
from spanctl.spanner import receipts
from spanctl.spanner.keysets import KeySet
from spanctl.spanner.leases import TABLE

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_OPEN: Final = "spanctl_intents_open"
_COLUMNS: Final = ("prefix", "first", "last", "keys", "root_run", "host", "pid", "open_since")
_FETCH: Final = 500  # primary keys in one read: well below what a request may hold
_EPOCHS: Final = 3
"""Leases don't tell how often an operation was reopened; more often is looked for nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """An operation under an open lease.

    Attributes:
        txn_id: Its txn ID.
        key: Its operation key.
        root_run: The root flow run's id, if there is one.
        host: The machine that leased it.
        pid: The process there.
        since: When it was leased.
    """

    txn_id: str
    key: OperationKey
    root_run: str | None
    host: str | None
    pid: int | None
    since: datetime

    @property
    def step(self) -> str:
        """The path of subflows and the declared step."""
        return "/".join((*self.key.path, self.key.step))


def find(database: "Database", prefix: str) -> list[Leased]:
    """Return the leased operations without a receipt whose txn ID starts with the prefix.

    Each is listed once, however many executors lease it. Hyphens may be left out. Reads are
    strong: what had committed before the call isn't listed.

    Raises:
        SpanctlError: The database could not be read.
    """
    wanted = prefix.lower().replace("-", "")
    found: dict[str, Leased] = {}
    for row in _open_rows(database):
        for key in _keys(row[0], *row[1:4]):
            for epoch in range(_EPOCHS):
                one = txn_id(key, epoch)
                if one.replace("-", "").startswith(wanted):
                    found[one] = Leased(
                        txn_id=one, key=key, root_run=row[4], host=row[5], pid=row[6], since=row[7]
                    )
    written = receipts.get_many(database, found) if found else {}
    return [leased for one, leased in found.items() if one not in written]


def _open_rows(database: "Database") -> Iterator[Sequence[Any]]:
    ids = [row[0] for row in database.read(TABLE, ["intent_id"], KeySet(all_=True), index=_OPEN)]
    for start in range(0, len(ids), _FETCH):
        keys = KeySet(keys=[[one] for one in ids[start : start + _FETCH]])
        yield from database.read(TABLE, _COLUMNS, keys)


def _keys(
    prefix: str, first: int | None, last: int | None, keys: Sequence[str] | None
) -> Iterator[OperationKey]:
    origin = OperationKey.parse(f"{prefix}#0")
    if first is not None and last is not None:
        yield from (replace(origin, call=ordinal) for ordinal in range(first, last + 1))
    yield from (replace(origin, call=key) for key in keys or ())
