"""Whether an executor is alive, from the strongest evidence that there is, which is named.

The process itself counts first, where it can be looked at: on this machine, in this pid namespace.
Else its heartbeat does, by Spanner's clock. Silence alone is no death: Spanner may have been silent
as well, so one is presumed dead only where a recovery has watched its silence long enough.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from spanctl.processes import Process, look, mark
from spanctl.spanner import executors, observations
from spanctl.spanner.executors import Executor
from spanctl.spanner.limbo import OpenLease
from spanctl.spanner.observations import Observation

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_BEATS: Final = 3
"""Heartbeats that an executor may miss, whatever the bound."""


class Verdict(StrEnum):
    """How an executor is; of several that hold one operation, the first of these counts."""

    ALIVE = "alive"
    NOT_KNOWN = "not_known"
    PRESUMED_DEAD = "presumed_dead"
    GONE = "gone"

    @property
    def is_dead(self) -> bool:
        """Whether it may be superseded, and what it held be settled, by nobody's leave."""
        return self in {Verdict.GONE, Verdict.PRESUMED_DEAD}


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of an executor.

    Attributes:
        verdict: How it is.
        evidence: How that is known, in a few words.
        is_seen: Whether its process was looked at: a heartbeat says only that it was alive then.
    """

    verdict: Verdict
    evidence: str
    is_seen: bool = False


@dataclass(slots=True, kw_only=True)
class Judge:
    """Judges executors by what was read at one time.

    Attributes:
        executors: Their rows, by id.
        seen: What recoveries have seen of silent ones, by id.
        now: Spanner's time at that reading.
        bound: Seconds of silence after which one counts as dead.
        is_emulated: Whether an emulator keeps heartbeats back while a transaction is open.
        look: Tells whether a process runs; see :func:`spanctl.processes.look`.
    """

    executors: Mapping[str, Executor] = field(default_factory=dict)
    seen: Mapping[str, Observation] = field(default_factory=dict)
    now: datetime = _NEVER
    bound: float = 60.0
    is_emulated: bool = False
    look: Callable[..., Process] = look

    def of_lease(self, lease: OpenLease) -> Judged:
        """Return how the executor of a lease is."""
        found = self.executors.get(lease.executor)
        if found is not None:
            return self.of(found)
        where = f"process {lease.pid} on {lease.host}"
        process = self.look(lease.host, lease.pid, lease.since, lease.mark)
        if process is Process.ELSEWHERE:
            return Judged(Verdict.NOT_KNOWN, f"{where} can't be looked at from here")
        return _by_process(process, where)

    def of(self, executor: Executor) -> Judged:
        """Return how an executor is."""
        if executor.superseded_at is not None:
            return Judged(Verdict.GONE, f"superseded by {executor.superseded_by}")
        where = f"process {executor.pid} on {executor.host}"
        if executor.ended_at is not None:
            return Judged(Verdict.GONE, f"{where} ended and left it open")
        process = self._process(executor)
        if process is not Process.ELSEWHERE:
            return _by_process(process, where)
        silent = max(0.0, (self.now - executor.heartbeat).total_seconds())
        limit = self._limit(executor)
        if silent <= limit:
            return Judged(Verdict.ALIVE, f"{where} was heard from {silent:.0f} s ago")
        told = f"{where} has been silent for {silent:,.0f} s"
        before = self.seen.get(executor.executor_id)
        if before is not None and before.silence_of(executor) >= timedelta(seconds=limit):
            watched = before.silence_of(executor).total_seconds()
            return Judged(Verdict.PRESUMED_DEAD, f"{told}, and was watched for {watched:,.0f} s")
        return Judged(Verdict.NOT_KNOWN, told)

    def alive(self, root_run: str) -> Executor | None:
        """Return a root flow run's executor that is alive; None where none is known to be.

        What it has started for parts of the run, as the processes of a pool, doesn't speak for it.
        """
        rows = self.executors.values()
        mine = (one for one in rows if one.root_run == root_run and one.parent is None)
        return next((one for one in mine if self.of(one).verdict is Verdict.ALIVE), None)

    def silent(self) -> list[Executor]:
        """Return the executors that have nothing but their heartbeat to be judged by."""
        return [
            one
            for one in self.executors.values()
            if one.superseded_at is None
            and one.ended_at is None
            and self._process(one) is Process.ELSEWHERE
        ]

    def _process(self, executor: Executor) -> Process:
        """Return how the process of an executor is, which marks its row wherever it can."""
        if executor.mark is None and mark() is not None:
            return Process.ELSEWHERE  # its number counts in a namespace that tells no mark
        return self.look(executor.host, executor.pid, executor.started_at, executor.mark)

    def _limit(self, executor: Executor) -> float:
        limit = max(self.bound, _BEATS * executor.interval)
        return limit + executor.deadline if self.is_emulated else limit


def _by_process(process: Process, where: str) -> Judged:
    if process is Process.RUNNING:
        return Judged(Verdict.ALIVE, f"{where} runs", is_seen=True)
    return Judged(Verdict.GONE, f"{where} is gone", is_seen=True)


def judge(database: "Database", found: Iterable[Executor] | None = None) -> Judge:
    """Return a judge of a database's executors, by what is in the ledger now.

    Args:
        database: The database with the ledger.
        found: Their rows, where they were read before.

    Raises:
        SpanctlError: The database could not be read.
    """
    rows = list(executors.read(database) if found is None else found)
    made = Judge(
        executors={one.executor_id: one for one in rows},
        bound=database.target.presumed_dead_after,
        is_emulated=database.target.is_emulated,
    )
    if made.silent():
        made.seen = observations.read(database)
        ((made.now,),) = database.query("SELECT CURRENT_TIMESTAMP()")
    return made


def observe(database: "Database") -> Judge:
    """Write down which executors are silent still, and return a judge that knows it.

    Raises:
        SpanctlError: The database could not be read or written.
    """
    made = judge(database)
    if silent := made.silent():
        observations.note(database, silent, made.seen, made.now)
        return judge(database)
    return made
