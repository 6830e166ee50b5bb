"""Executors: who holds leases, how long ago it was heard from, and whether it may go on.

A row of ``spanctl_executors`` is one process at work on one root. It is inserted in the commit of
its first lease and deleted when its last lease is closed, so the table holds who is at work, or
died at it. A recovery marks a dead executor as superseded. Each lease, heartbeat and *started*
entry is written in a transaction that reads the row, and those of the executors that it was started
by: one that was superseded, or whose row is gone, writes nothing new.
"""

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from spanctl import __version__
from spanctl.errors import SupersededError
from spanctl.processes import Mark, mark
from spanctl.spanner import ddl
from spanctl.spanner.applying import apply, deletion, mutation
from spanctl.spanner.keysets import KeySet, one
from spanctl.spanner.receipts import COMMIT_TIMESTAMP
from spanctl.spanner.transaction import Transaction

if TYPE_CHECKING:
    from google.cloud.spanner_v1.types import Mutation

    from spanctl.spanner.client import Database

TABLE: Final = ddl.EXECUTORS
SINCE: Final = 4
"""The version of the schema that has the table."""
_TIMEOUT: Final = 30.0
_FETCH: Final = 500
_GUARDS: Final = ("executor_id", "superseded_at", "superseded_by")
_COLUMNS: Final = (
    "executor_id",
    "host",
    "boot",
    "pid_namespace",
    "pid",
    "start_ticks",
    "parent",
    "root",
    "root_run",
    "flow_run",
    "version",
    "deadline",
    "heartbeat_interval",
    "started_at",
    "heartbeat",
    "superseded_at",
    "superseded_by",
    "ended_at",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """A row: one process at work on one root.

    Attributes:
        executor_id: Its id, as its leases name it.
        host: The machine.
        pid: The process there.
        mark: Which process of that number it is; None where the system didn't tell.
        parent: The executor that started it; None for one that nobody here started.
        root: First part of its operation keys.
        root_run: The root flow run's id; None outside of flows.
        flow_run: The flow run in which it was first called; None outside of flows.
        version: The spanctl that it runs.
        deadline: The longest time that one of its transactions may take, in seconds.
        interval: Seconds between its heartbeats.
        started_at: When it took its first lease.
        heartbeat: When it was last heard from.
        superseded_at: When it was superseded; None where it was not.
        superseded_by: By whom: an executor's or a flow run's id, or the command's name.
        ended_at: When it ended in order, with operations left whose outcome was open.
    """

    executor_id: str
    host: str | None
    pid: int | None
    mark: Mark | None
    parent: str | None
    root: str | None
    root_run: str | None
    flow_run: str | None
    version: str | None
    deadline: float
    interval: float
    started_at: datetime
    heartbeat: datetime
    superseded_at: datetime | None = None
    superseded_by: str | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What an executor says of itself when it begins.

    Attributes:
        executor_id: Its id.
        ancestors: The executors that it was started by, the nearest first.
        root: First part of its operation keys.
        root_run: The root flow run's id; None outside of flows.
        flow_run: The flow run in which it was first called; None outside of flows.
        deadline: The longest time that one of its transactions may take, in seconds.
        interval: Seconds between its heartbeats.
    """

    executor_id: str
    root: str
    ancestors: tuple[str, ...] = ()
    root_run: str | None = None
    flow_run: str | None = None
    deadline: float
    interval: float

    @property
    def guards(self) -> tuple[str, ...]:
        """The executors of which none may be superseded while it writes: itself first."""
        return (self.executor_id, *self.ancestors)

    def mutation(self) -> "Mutation":
        """Return the insert of its row."""
        mine = mark()
        row = {
            "executor_id": self.executor_id,
            "host": socket.gethostname(),
            "boot": mine.boot if mine else None,
            "pid_namespace": mine.namespace if mine else None,
            "pid": os.getpid(),
            "start_ticks": mine.ticks if mine else None,
            "parent": self.ancestors[0] if self.ancestors else None,
            "root": self.root,
            "root_run": self.root_run,
            "flow_run": self.flow_run,
            "version": __version__,
            "deadline": float(self.deadline),
            "heartbeat_interval": float(self.interval),
            "started_at": COMMIT_TIMESTAMP,
            "heartbeat": COMMIT_TIMESTAMP,
        }
        return mutation("insert", TABLE, row)


def enrol(database: "Database", enrolment: Enrolment) -> None:
    """Insert an executor's row ahead of its first lease: others that it starts will look for it.

    Raises:
        SupersededError: One that it was started by was superseded.
        SpanctlError: Spanner could not be reached or refused.
    """
    doing = "an executor was written down"
    made = [enrolment.mutation()]
    apply(database, made, timeout=_TIMEOUT, doing=doing, admit=_guarded(enrolment.ancestors))


def _guarded(executors: Sequence[str]) -> Callable[[Transaction], None] | None:
    return guard(executors) if executors else None


def beat(database: "Database", executors: Sequence[str], *, timeout: float) -> None:
    """Say that an executor is alive.

    Args:
        database: Where.
        executors: The executor, then those that it was started by.
        timeout: Seconds to try.

    Raises:
        SupersededError: One of them was superseded, or its row is gone.
        SpanctlError: Spanner could not be reached or refused.
    """
    beats = [heartbeat(executors[0])]
    doing = "a heartbeat was written"
    apply(database, beats, timeout=timeout, doing=doing, admit=guard(executors))


def declare(database: "Database", executors: Sequence[str], deadline: float) -> None:
    """Say that a transaction of an executor may take longer than it had said.

    Raises:
        SupersededError: As :func:`beat` raises.
        SpanctlError: As :func:`beat` raises.
    """
    row = {"executor_id": executors[0], "heartbeat": COMMIT_TIMESTAMP, "deadline": float(deadline)}
    doing = "a deadline was written down"
    rows = [mutation("update", TABLE, row)]
    apply(database, rows, timeout=_TIMEOUT, doing=doing, admit=guard(executors))


def end(database: "Database", executor_id: str, *, timeout: float) -> None:
    """Note that an executor has ended in order, though the outcome of an operation is open.

    Raises:
        SpanctlError: Spanner could not be reached or refused; its process is gone soon all the
            same.
    """
    row = {"executor_id": executor_id, "ended_at": COMMIT_TIMESTAMP}
    doing = "the end of an executor was written down"
    apply(database, [mutation("update", TABLE, row)], timeout=timeout, doing=doing, settling=True)


def supersede(database: "Database", dead: Iterable[Executor], *, by: str) -> set[str]:
    """Mark executors as superseded: neither they nor what they have started writes anything new.

    Args:
        database: Where.
        dead: Executors that are dead, as they were judged.
        by: Who says so: an executor's or a flow run's id, or the command's name.

    Returns:
        The ids of those that are superseded now, by whomever: one that was heard from since it was
        judged isn't, nor is one that has ended in order meanwhile.

    Raises:
        SpanctlError: Spanner could not be reached or refused.
    """
    done = set()
    for judged in dead:
        marked = {"superseded_at": COMMIT_TIMESTAMP, "superseded_by": by}
        row = mutation("update", TABLE, {"executor_id": judged.executor_id, **marked})
        admit, doing = _unchanged(judged), "an executor was superseded"
        try:
            apply(database, [row], timeout=_TIMEOUT, doing=doing, settling=True, admit=admit)
        except _ChangedError as found:
            if not found.is_superseded:
                continue
        done.add(judged.executor_id)
    return done


class _ChangedError(Exception):
    """An executor's row isn't as it was when it was judged."""

    def __init__(self, *, is_superseded: bool) -> None:
        super().__init__("the executor's row has changed")
        self.is_superseded = is_superseded


def _unchanged(judged: Executor) -> Callable[[Transaction], None]:
    def admit(transaction: Transaction) -> None:
        columns = ("heartbeat", "superseded_at")
        rows = list(transaction.look(TABLE, columns, one(judged.executor_id)))
        heard, at = rows[0] if rows else (None, None)
        if at is not None or heard != judged.heartbeat:
            raise _ChangedError(is_superseded=at is not None)

    return admit


def heartbeat(executor_id: str) -> "Mutation":
    """Return the update of an executor's row that says that it is alive."""
    return mutation("update", TABLE, {"executor_id": executor_id, "heartbeat": COMMIT_TIMESTAMP})


def forget(executor_id: str) -> "list[Mutation]":
    """Return the deletion of an executor's row, and of what was seen of it."""
    return [deletion(name, [executor_id]) for name in (TABLE, ddl.OBSERVATIONS)]


def read(
    database: "Database",
    executor_ids: Iterable[str] | None = None,
    *,
    timeout: float = _TIMEOUT,
) -> list[Executor]:
    """Return the rows of executors, those that began first first; all of them by default.

    A ledger of an older version has none.

    Raises:
        SpanctlError: The database could not be read.
    """
    if database.ledger.schema_version < SINCE:
        return []
    if executor_ids is None:
        rows = list(database.read(TABLE, _COLUMNS, KeySet(all_=True), timeout=timeout))
    else:
        wanted = list(dict.fromkeys(executor_ids))
        rows = []
        for start in range(0, len(wanted), _FETCH):
            keys = KeySet(keys=[[one] for one in wanted[start : start + _FETCH]])
            rows += database.read(TABLE, _COLUMNS, keys, timeout=timeout)
    found = map(_executor, rows)
    return sorted(found, key=lambda one: (one.started_at, one.executor_id))


def _executor(row: Sequence[Any]) -> Executor:
    values = dict(zip(_COLUMNS, row, strict=True))
    boot, namespace, ticks = (values.pop(name) for name in ("boot", "pid_namespace", "start_ticks"))
    known = None if None in {boot, namespace, ticks} else Mark(boot, namespace, ticks)
    return Executor(interval=values.pop("heartbeat_interval"), **values, mark=known)


def guard(executors: Sequence[str], *, parting: bool = False) -> Callable[[Transaction], None]:
    """Return what refuses a transaction, from within it, once one of these was superseded.

    Args:
        executors: The executor that writes, then those that it was started by.
        parting: Whether the commit deletes its row: sent again, it may find that done.
    """
    sent = False

    def admit(transaction: Transaction) -> None:
        nonlocal sent
        again, sent = sent, True
        keys = KeySet(keys=[[one] for one in executors])
        left = set(executors)
        for executor_id, at, by in transaction.look(TABLE, _GUARDS, keys):
            left.discard(executor_id)
            if at is not None:
                raise _superseded(executor_id, at, by)
        if left and not (parting and again):
            raise _superseded(min(left))

    return admit


def _superseded(
    executor_id: str, at: datetime | None = None, by: str | None = None
) -> SupersededError:
    when = f" at {at:%Y-%m-%dT%H:%M:%SZ}" if at else ""
    who = f" by {by}" if by else ""
    msg = f"executor {executor_id} was superseded{when}{who}: it counts as dead, and writes no more"
    hint = "see where its run goes on: spanctl runs list; what is open: spanctl txn list"
    return SupersededError(msg, hint=hint, executor_id=executor_id)
