"""What was seen of silent executors: the same heartbeat twice, while Spanner answered in between.

A recovery looks again and again, and writes down since when it has seen a heartbeat that does not
change. Where it looked away for long, it begins anew: meanwhile Spanner may not have answered the
executor either.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from spanctl.spanner import ddl, executors
from spanctl.spanner.applying import apply, mutation
from spanctl.spanner.executors import Executor
from spanctl.spanner.keysets import KeySet
from spanctl.spanner.receipts import COMMIT_TIMESTAMP

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

TABLE: Final = ddl.OBSERVATIONS
LONGEST_GAP: Final = timedelta(seconds=20)
"""How long a recovery may look away, and still count as having looked."""
_COLUMNS: Final = ("executor_id", "heartbeat", "first_seen", "last_seen")
_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Observation:
    """Since when, and until when, one heartbeat of an executor was seen to be its last.

    Attributes:
        executor_id: The executor.
        heartbeat: The heartbeat.
        first_seen: When it was first seen.
        last_seen: When it was last seen, with no long gap in between.
    """

    executor_id: str
    heartbeat: datetime
    first_seen: datetime
    last_seen: datetime

    def silence_of(self, executor: Executor) -> timedelta:
        """Return for how long an executor was watched and said nothing."""
        if executor.heartbeat != self.heartbeat:
            return timedelta()
        return self.last_seen - self.first_seen


def read(database: "Database", *, timeout: float = _TIMEOUT) -> dict[str, Observation]:
    """Return what was seen of executors, by their ids.

    Raises:
        SpanctlError: The database could not be read.
    """
    if database.ledger.schema_version < executors.SINCE:
        return {}
    rows = database.read(TABLE, _COLUMNS, KeySet(all_=True), timeout=timeout)
    return {row[0]: Observation(*row) for row in rows}


def note(
    database: "Database",
    silent: Iterable[Executor],
    known: Mapping[str, Observation],
    now: datetime,
) -> None:
    """Write down that executors are still silent.

    Args:
        database: Where.
        silent: Executors that can't be looked at, as they were just read.
        known: What was seen before.
        now: Spanner's time.

    Raises:
        SpanctlError: Spanner could not be reached or refused.
    """
    rows = []
    for one in silent:
        before = known.get(one.executor_id)
        goes_on = (
            before is not None
            and before.heartbeat == one.heartbeat
            and now - before.last_seen <= LONGEST_GAP
        )
        row = {
            "executor_id": one.executor_id,
            "heartbeat": one.heartbeat,
            "first_seen": before.first_seen if before and goes_on else COMMIT_TIMESTAMP,
            "last_seen": COMMIT_TIMESTAMP,
        }
        rows.append(mutation("insert_or_update", TABLE, row))
    if rows:
        apply(database, rows, timeout=_TIMEOUT, doing="silent executors were written down")
