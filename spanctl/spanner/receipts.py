"""Receipts in Spanner: the codec of their rows, and look-ups that never scan and never use SQL.

Every look-up is strong: it sees each receipt that committed before the call began.
"""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from spanctl.errors import SchemaVersionError, UsageError
from spanctl.ledger.keys import is_prefix, keyed_root
from spanctl.ledger.receipt import EntryKind, Provenance, Receipt, Standing, Statement
from spanctl.spanner.keysets import KeyRange, KeySet

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

TABLE = "spanctl_receipts"
BY_TIME = "spanctl_receipts_by_time"
BY_RUN = "spanctl_receipts_by_run"
BY_KEY = "spanctl_receipts_by_key"
SHARDS = 16
COMMIT_TIMESTAMP = "spanner.commit_timestamp()"
"""What a TIMESTAMP column is set to, so that Spanner fills in the commit timestamp."""

COLUMNS: tuple[str, ...] = (
    "txn_id",
    "kind",
    "commit_timestamp",
    "operation_key",
    "epoch",
    "api_transaction_id",
    "initiator",
    "executor",
    "root_run",
    "flow_run",
    "flow",
    "deployment",
    "task_run",
    "task",
    "attempt",
    "reason",
    "tag",
    "statements",
    "arguments_digest",
    "result",
    "undoes",
    "client_version",
    "initiator_standing",
    "initiator_chain",
    "initiator_claim",
    "executor_standing",
    "executor_chain",
    "executor_chain_standing",
    "executor_claim",
    "attestation",
    "step_identity",
)
"""The columns of a receipt's row, in the order of :func:`row` (``shard`` is generated)."""

_PROVENANCE = frozenset(Provenance.__dataclass_fields__)
_STANDINGS = ("initiator_standing", "executor_standing", "executor_chain_standing")
_CHAINS = ("initiator_chain", "executor_chain")
_TIMEOUT = 30.0
_FETCH = 500  # primary keys in one read: well below what a request may hold
_READERS = 4  # threads: the shards are read side by side, without flooding a small server
_MIN_PAGE = 8
_RUN_PAGE = 1000
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_GROUPS = (8, 12, 16, 20)  # where a UUID's text has its hyphens


def row(receipt: Receipt) -> tuple[Any, ...]:
    """Return the values of :data:`COLUMNS` to insert for a receipt.

    The commit timestamp is the sentinel that Spanner replaces: the receipt's own is ignored.
    """
    values: dict[str, Any] = {
        "txn_id": receipt.txn_id,
        "kind": receipt.kind.value,
        "commit_timestamp": COMMIT_TIMESTAMP,
        "operation_key": receipt.operation_key,
        "epoch": receipt.epoch,
        "api_transaction_id": receipt.api_transaction_id,
        "statements": statements_text(receipt.statements),
        "arguments_digest": receipt.arguments_digest,
        "result": receipt.result,
        "undoes": receipt.undoes,
        "client_version": receipt.client_version,
        "step_identity": receipt.step_identity,
    }
    source = receipt.provenance
    values |= {name: getattr(source, name) for name in _PROVENANCE}
    values |= {name: values[name].value for name in _STANDINGS}
    values |= {name: list(values[name]) or None for name in _CHAINS}
    return tuple(values[column] for column in COLUMNS)


def insert(receipt: Receipt) -> dict[str, Any]:
    """Return what to insert for a receipt, by column; what is unset costs no mutation."""
    written = zip(COLUMNS, row(receipt), strict=True)
    return {column: value for column, value in written if value is not None}


def statements_text(statements: Iterable[Statement]) -> str:
    """Return statements as the JSON text that a receipt's row holds."""
    data = [statement.to_json() for statement in statements]
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def receipt(row: Sequence[Any]) -> Receipt:  # noqa: PLR0917, RUF100 - one row
    """Read a row of :data:`COLUMNS`.

    Raises:
        SchemaVersionError: A newer spanctl wrote it in a way that this one doesn't know.
    """
    values: dict[str, Any] = dict.fromkeys(COLUMNS)
    values |= dict(zip(COLUMNS, row, strict=True))
    source = {name: values.pop(name) for name in _PROVENANCE}
    try:
        # Receipts of version 1 have none of these: all that they said was claimed.
        source |= {name: Standing(source[name] or Standing.CLAIMED) for name in _STANDINGS}
        source |= {name: tuple(source[name] or ()) for name in _CHAINS}
        provenance = Provenance(**source)
        kind = EntryKind(values.pop("kind"))
        written = json.loads(values.pop("statements") or "[]")
        statements = tuple(Statement.from_json(item) for item in written)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        msg = f"the receipt {values['txn_id']} is of a form that this version doesn't know"
        raise SchemaVersionError(msg, hint="upgrade spanctl") from error
    values["commit_timestamp"] = _instant(values["commit_timestamp"])
    return Receipt(**values, kind=kind, provenance=provenance, statements=statements)


def _instant(value: datetime) -> datetime:
    """Return a plain UTC datetime for the client library's own subclass."""
    moment = datetime.combine(value.date(), value.time(), value.tzinfo or UTC)
    return moment.astimezone(UTC)


def get(database: "Database", txn_id: str, *, timeout: float = _TIMEOUT) -> Receipt | None:
    """Return the receipt of a transaction, None when the ledger holds none.

    None is no proof that the transaction never commits: only a fence is. It takes at most
    ``timeout`` seconds.
    """
    return get_many(database, [txn_id], timeout=timeout).get(txn_id)


def get_many(
    database: "Database", txn_ids: Iterable[str], *, timeout: float = _TIMEOUT
) -> dict[str, Receipt]:
    """Return the receipts that exist among these txn IDs, by txn ID.

    Each read, of 500 of them, takes at most ``timeout`` seconds.
    """
    wanted = list(dict.fromkeys(txn_ids))
    found = {}
    for start in range(0, len(wanted), _FETCH):
        keys = KeySet(keys=[[txn_id] for txn_id in wanted[start : start + _FETCH]])
        for values in database.read(TABLE, COLUMNS, keys, timeout=timeout):
            one = receipt(values)
            found[one.txn_id] = one
    return found


def find(database: "Database", prefix: str, *, limit: int = 2) -> list[Receipt]:
    """Return up to ``limit`` receipts whose txn ID starts with the prefix, in order of txn ID.

    Hyphens may be left out. Two receipts are enough to tell that a prefix is ambiguous.

    Raises:
        UsageError: The prefix is shorter than 8 characters, or not of the characters of a txn ID.
    """
    if not is_prefix(prefix):
        msg = f"{prefix!r} is no prefix of a txn ID"
        raise UsageError(msg, hint="give 8 or more of its first characters")
    start = _hyphenated(prefix)
    span = KeyRange(start_closed=[start], end_open=[start + "g"])  # g: after every hex digit
    rows = database.read(TABLE, COLUMNS, KeySet(ranges=[span]), limit=limit)
    return [receipt(values) for values in rows]


def _hyphenated(prefix: str) -> str:
    digits = prefix.lower().replace("-", "")
    cuts = [0, *(cut for cut in _GROUPS if cut < len(digits)), len(digits)]
    return "-".join(digits[a:b] for a, b in pairwise(cuts))


def of_run(database: "Database", root_run: str) -> list[Receipt]:
    """Return every receipt of a root flow run, oldest first.

    Those of one commit timestamp are in order of txn ID.
    """
    return _all(database, BY_RUN, root_run)


def of_key(database: "Database", idempotency_key: str) -> list[Receipt]:
    """Return every receipt under an idempotency key, whichever runs wrote them, oldest first.

    Those of one commit timestamp are in order of txn ID.
    """
    return _all(database, BY_KEY, keyed_root(idempotency_key))


def listed_of_run(
    database: "Database", root_run: str, key: str | None = None, *, timeout: float = _TIMEOUT
) -> list[str]:
    """Return the txn IDs of a root flow run, and of its idempotency key, in one read of each index.

    Each read takes at most ``timeout`` seconds.
    """
    wanted = [(BY_RUN, root_run), *([(BY_KEY, keyed_root(key))] if key is not None else [])]
    found: list[_Entry] = []
    for index, root in wanted:
        leads = [[shard, root] for shard in range(SHARDS)]
        keys = KeySet(ranges=[KeyRange(start_closed=lead, end_closed=lead) for lead in leads])
        read = database.read(TABLE, _ENTRY, keys, index=index, timeout=timeout)
        found += [(_instant(stamp), txn_id) for stamp, txn_id in read]
    return list(dict.fromkeys(txn_id for _, txn_id in sorted(found)))


def newest_of_key(
    database: "Database",
    idempotency_key: str,
    *,
    until: datetime | None = None,
    committed: bool = False,
) -> Receipt | None:
    """Return the newest receipt under an idempotency key; None when there is none.

    Args:
        database: Where to look.
        idempotency_key: The key.
        until: Only one with ``commit_timestamp <= until``.
        committed: Only one of a transaction that committed: no fence.
    """
    root = keyed_root(idempotency_key)
    entries = _Listing(database, None, until, root, _MIN_PAGE, BY_KEY).entries()
    for _, txn_id in entries:
        found = get(database, txn_id)
        if found and not (committed and found.kind is EntryKind.FENCED):
            return found
    return None


def some_of(
    database: "Database", *, limit: int, key: str | None = None, root_run: str = ""
) -> list[Receipt]:
    """Return the newest receipts under an idempotency key, or else of a root flow run.

    Args:
        database: Where to look.
        limit: At most this many.
        key: The idempotency key.
        root_run: The root flow run, where there is no key.
    """
    if key is not None:
        return _all(database, BY_KEY, keyed_root(key), limit)
    return _all(database, BY_RUN, root_run, limit)


def _all(database: "Database", index: str, root: str, limit: int | None = None) -> list[Receipt]:
    entries = islice(_Listing(database, None, None, root, _RUN_PAGE, index).entries(), limit)
    found = get_many(database, [txn_id for _, txn_id in entries])
    return sorted(found.values(), key=lambda one: (one.commit_timestamp, one.txn_id))


def listing(  # noqa: PLR0913 - the filters
    database: "Database",
    *,
    since: datetime,
    until: datetime | None = None,
    root_run: str | None = None,
    wanted: Callable[[Receipt], bool] | None = None,
    limit: int = 100,
) -> list[Receipt]:
    """Return the newest receipts with ``since <= commit_timestamp <= until``, newest first.

    Those of one commit timestamp are in order of txn ID.

    Args:
        database: Where to look.
        since: The oldest commit timestamp of interest.
        until: The newest; None for now.
        root_run: Only those of this root flow run.
        wanted: Only those of which this says so.
        limit: At most this many.
    """
    if limit <= 0 or (until is not None and until < since):
        return []
    page = max(_MIN_PAGE, limit // 4)
    index = BY_TIME if root_run is None else BY_RUN
    entries = _Listing(database, since, until, root_run, page, index).entries()
    listed: list[Receipt] = []
    while len(listed) < limit and (batch := list(islice(entries, limit))):
        found = get_many(database, [txn_id for _, txn_id in batch])
        receipts = (found[txn_id] for _, txn_id in batch if txn_id in found)
        listed += [one for one in receipts if wanted is None or wanted(one)]
    return listed[:limit]


_Entry = tuple[datetime, str]
_ENTRY = ("commit_timestamp", "txn_id")


def _newest_first(entry: _Entry) -> tuple[timedelta, str]:
    """Order as the indexes do."""
    return _END_OF_TIME - entry[0], entry[1]


@dataclass(frozen=True, slots=True)
class _Listing:
    """Index entries (commit timestamp, txn ID) of all shards, merged, newest first."""

    database: "Database"
    since: datetime | None
    until: datetime | None
    root: str | None
    page: int
    index: str

    def entries(self) -> Iterator[_Entry]:
        with ThreadPoolExecutor(_READERS, thread_name_prefix="spanctl-receipts") as pool:
            firsts = list(pool.map(lambda shard: self._read(shard, []), range(SHARDS)))
        shards = [self._follow(shard, first) for shard, first in enumerate(firsts)]
        yield from heapq.merge(*shards, key=_newest_first)

    def _follow(self, shard: int, entries: list[_Entry]) -> Iterator[_Entry]:
        last: list[_Entry] = []
        while entries:
            yield from entries
            if len(entries) < self.page:
                return
            # A key of the index ends with the timestamp: go on at the last one, past what was seen.
            stamp = entries[-1][0]
            last = [entry for entry in (*last, *entries) if entry[0] == stamp]
            entries = self._read(shard, last)

    def _read(self, shard: int, seen: list[_Entry]) -> list[_Entry]:
        """Read a page of a shard, from the timestamp of ``seen`` on and without these entries."""
        lead = [shard] if self.root is None else [shard, self.root]
        newest = seen[0][0] if seen else self.until
        keys = KeyRange(
            start_closed=[*lead, newest] if newest else lead,
            end_closed=[*lead, self.since] if self.since else lead,
        )
        rows = self.database.read(
            TABLE,
            _ENTRY,
            KeySet(ranges=[keys]),
            index=self.index,
            limit=self.page + len(seen),
        )
        entries = [(_instant(stamp), txn_id) for stamp, txn_id in rows]
        known = set(seen)
        return [entry for entry in entries if entry not in known]
