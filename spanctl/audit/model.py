"""The trail as values: what is known, where from, and how sure that is."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from spanctl.audit.fencing import Fencing
from spanctl.audit.outside import Outside
from spanctl.ledger.receipt import Outcome, Receipt, Standing
from spanctl.ledger.report import TransactionReport
from spanctl.orchestration.model import FlowRun, TaskRun
from spanctl.spanner.committed import Changes


class Coverage(StrEnum):
    """Whether a source of the trail could be asked."""

    PRESENT = "present"
    DISABLED = "disabled"
    EXPIRED = "expired"
    DENIED = "denied"
    UNSUPPORTED = "unsupported"
    UNREACHABLE = "unreachable"


class Link(StrEnum):
    """How a source is joined to the transaction."""

    PROVEN = "proven"
    VOUCHED = "vouched"
    CLAIMED = "claimed"
    ABSENT = "absent"


class SourceName(StrEnum):
    """The sources of a trail."""

    LEDGER = "ledger"
    IDENTITY = "identity"
    CHANGE_STREAM = "change_stream"
    PREFECT = "prefect"
    CLOUD_AUDIT_LOGS = "cloud_audit_logs"


@dataclass(frozen=True, slots=True)
class Source:
    """One source of a trail.

    Attributes:
        name: Which one.
        coverage: Whether it could be asked.
        link: How what it says is joined to the rest.
        note: What that means here, in a few words; what to do about a gap.
    """

    name: SourceName
    coverage: Coverage
    link: Link
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """How sure it is, now, who asked for a transaction and who wrote it.

    Attributes:
        initiator: Of who asked: proven where the statement holds and one person alone may sign so,
            or where the token's issuer was asked by the process that was asked for the run; vouched
            for by the account that signed, where several may sign as it.
        executor: Of who wrote: what the writer noted of its issuer's answer.
        contradicted: Whether the receipt says what its own statement doesn't.
        source: The same as one source of the trail.
    """

    initiator: Standing
    executor: Standing
    contradicted: bool
    source: Source


class EventKind(StrEnum):
    """What an event of a timeline is about."""

    FLOW_RUN = "flow_run"
    TASK_RUN = "task_run"
    COMMIT = "commit"
    FENCE = "fence"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        timestamp: When.
        kind: What it is about.
        id: The id of that: a flow run's, a task run's, or the txn ID.
        name: Its name.
        state: The state it went into, as a word.
        message: What was said about it; it may quote the user's data.
        rows: Rows that a commit changed.
    """

    timestamp: datetime
    kind: EventKind
    id: str
    name: str
    state: str
    message: str = ""
    rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What Prefect says of a flow run.

    Attributes:
        run: The flow run.
        flow: Its flow's name.
        task_runs: Its task runs.
    """

    run: FlowRun
    flow: str
    task_runs: tuple[TaskRun, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One transaction of a run.

    Attributes:
        receipt: Its receipt.
        identity: How sure it is who asked and who wrote.
        changes: What it changed; None where that was not read.
    """

    receipt: Receipt
    identity: Identity
    changes: Changes | None = None


class Subject(StrEnum):
    """What a trail is about."""

    TRANSACTION = "transaction"
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """Everything that is known of one transaction or one run.

    Attributes:
        subject: Which of the two.
        id: The txn ID, or what receipts call the run: usually the flow run's id.
        receipt: The transaction's receipt; None for a run.
        identity: How sure it is who asked and who wrote; None for a run.
        outside: The DDL or partitioned DML that the entry tells of; None for a transaction.
        fencing: What a fence means for its operation now; None for any other entry.
        changes: What the transaction changed; None where the stream could not be asked.
        facts: The flow run, as Prefect tells it; None where it doesn't.
        task_run: The transaction's task run, likewise.
        parts: The transactions of the run, oldest first; empty for a transaction.
        timeline: What happened, in order of time.
        sources: What was asked, and what came of it.
    """

    subject: Subject
    id: str
    receipt: Receipt | None = None
    identity: Identity | None = None
    outside: Outside | None = None
    fencing: Fencing | None = None
    changes: Changes | None = None
    facts: RunFacts | None = None
    task_run: TaskRun | None = None
    parts: tuple[Part, ...] = ()
    timeline: tuple[Event, ...] = ()
    sources: tuple[Source, ...] = ()

    @property
    def transactions(self) -> tuple[Receipt, ...]:
        """The receipts of the run, oldest first."""
        return tuple(part.receipt for part in self.parts)

    @property
    def contradicted(self) -> bool:
        """Whether a receipt says what its own statement doesn't."""
        known = [self.identity, *(part.identity for part in self.parts)]
        return any(one.contradicted for one in known if one)

    def source(self, name: SourceName) -> Source:
        """Return what came of one source."""
        return next(source for source in self.sources if source.name is name)


def outcome_of(receipt: Receipt) -> Outcome:
    """Return what a receipt proves: COMMITTED, or for a fence NOT_COMMITTED."""
    return TransactionReport.of(receipt, None).outcome


def told_of(receipt: Receipt) -> str:
    """Return the outcome as it is told: AT_LEAST_ONCE for an entry of DDL or partitioned DML."""
    return TransactionReport.of(receipt, None).told
