"""Trails that never happened, with hostile words wherever a person or a database could put some."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from spanctl.audit.model import (
    Coverage,
    Event,
    EventKind,
    Identity,
    Link,
    Part,
    RunFacts,
    Source,
    SourceName,
    Subject,
    Trail,
)
from spanctl.ledger.receipt import (
    EntryKind,
    Provenance,
    Receipt,
    Standing,
    Statement,
    StatementKind,
)
from spanctl.orchestration.model import FlowRun, State, StateType
from spanctl.spanner.changes import ModType, RowChange
from spanctl.spanner.committed import Changes, StreamState

HOSTILE: Final = (
    """</p><script>alert(1)</script> & &lt; "><img src=x onerror=1> ' \x1b[31m \u202egpj"""
)
RUN: Final = "315aa35c-042c-448f-95df-9d24ceab6466"
TASK_RUN: Final = "01a2031a-a986-7403-b6e2-6e8896fa1aa4"
TXN: Final = "eb18888d-6462-5b29-a00a-a9dd28fe57d8"
OTHER: Final = "121bb951-1e7e-5265-8c95-27fb955113e9"
AT: Final = datetime(2026, 1, 31, 8, 0, 0, 123456, tzinfo=UTC)

_ORIGIN: Final = Provenance(
    initiator="anna@example.com",
    initiator_standing=Standing.CLAIMED,
    initiator_claim="anna@laptop",
    executor="runner@p.iam.gserviceaccount.com",
    executor_standing=Standing.PROVEN,
    executor_chain=("anna@example.com",),
    executor_chain_standing=Standing.PROVEN,
    executor_claim="anna@laptop pid 7",
    root_run=RUN,
    flow_run=RUN,
    flow=f"nightly {HOSTILE}",
    task="load",
    task_run=TASK_RUN,
    attempt=2,
    reason=HOSTILE,
    tag="spanctl-sql",
)


def receipt(txn_id: str = TXN, after: timedelta = timedelta()) -> Receipt:
    """Return a receipt of one statement."""
    statement = Statement(
        kind=StatementKind.UPDATE,
        tables=("accounts",),
        sql="UPDATE accounts SET balance = balance + @more WHERE id < ?",
        rows=2,
        parameters=("more",),
        digest="d" * 64,
    )
    return Receipt(
        txn_id=txn_id,
        kind=EntryKind.COMMITTED,
        commit_timestamp=AT + after,
        operation_key=f"{RUN}/load#0",
        api_transaction_id="3ab",
        provenance=_ORIGIN,
        statements=(statement,),
        client_version="0.0.0",
    )


def _event(kind: EventKind, identifier: str, state: str, seconds: float, **more: Any) -> Event:
    name = f"bold-fox {HOSTILE}"
    return Event(AT + timedelta(seconds=seconds), kind, identifier, name, state, **more)


def _source(name: SourceName, coverage: Coverage, link: Link, note: str = "") -> Source:
    return Source(name, coverage, link, note or f"a note of {name.value}")


def _run() -> FlowRun:
    return FlowRun(
        id=RUN,
        name=f"bold-fox {HOSTILE}",
        flow_id=OTHER,
        state=State(StateType.COMPLETED, "Completed", AT, HOSTILE),
        run_count=2,
        parameters={},
        labels={},
        tags=("a", HOSTILE),
        created=AT - timedelta(seconds=3),
        start_time=AT - timedelta(seconds=2),
        end_time=AT + timedelta(seconds=1),
        created_by=HOSTILE,
    )


def transaction_trail() -> Trail:
    """Return the trail of a transaction that inserted, updated and deleted."""
    source = _source(SourceName.IDENTITY, Coverage.PRESENT, Link.PROVEN)
    rows = (
        RowChange(
            "accounts",
            ModType.UPDATE,
            {"id": HOSTILE},
            {"owner": "Zoë", "balance": 120, HOSTILE: HOSTILE},
            {"owner": "Zoë", "balance": 130, HOSTILE: HOSTILE},
        ),
        RowChange("accounts", ModType.INSERT, {"id": "b"}, None, {"owner": None, "balance": 1}),
        RowChange("accounts", ModType.DELETE, {"id": "c"}, {"owner": "C", "balance": 2}, None),
    )
    return Trail(
        subject=Subject.TRANSACTION,
        id=TXN,
        receipt=receipt(),
        identity=Identity(
            initiator=Standing.CLAIMED,
            executor=Standing.PROVEN,
            contradicted=False,
            source=source,
        ),
        changes=Changes(
            state=StreamState.PRESENT, server_transaction_id="225", rows=rows, counted=True
        ),
        facts=RunFacts(run=_run(), flow="nightly"),
        timeline=(
            _event(EventKind.FLOW_RUN, RUN, "Running", -1.0),
            _event(EventKind.TASK_RUN, TASK_RUN, "Running", -0.5, message=HOSTILE),
            _event(EventKind.COMMIT, TXN, "COMMITTED", 0.0, rows=2),
        ),
        sources=(
            _source(SourceName.LEDGER, Coverage.PRESENT, Link.PROVEN),
            source,
            _source(SourceName.CHANGE_STREAM, Coverage.PRESENT, Link.PROVEN, HOSTILE),
            _source(SourceName.PREFECT, Coverage.PRESENT, Link.CLAIMED),
            _source(SourceName.CLOUD_AUDIT_LOGS, Coverage.UNSUPPORTED, Link.ABSENT),
        ),
    )


def part(one: Receipt) -> Part:
    """Return a transaction of a run, whose asker is claimed, with one row."""
    row = RowChange("accounts", ModType.INSERT, {"id": HOSTILE}, None, {"owner": HOSTILE})
    return Part(
        receipt=one,
        identity=Identity(
            initiator=Standing.CLAIMED,
            executor=Standing.PROVEN,
            contradicted=False,
            source=_source(SourceName.IDENTITY, Coverage.PRESENT, Link.CLAIMED),
        ),
        changes=Changes(state=StreamState.PRESENT, rows=(row,), counted=True),
    )


def run_trail() -> Trail:
    """Return the trail of a run with two transactions."""
    return Trail(
        subject=Subject.RUN,
        id=RUN,
        facts=RunFacts(run=_run(), flow="nightly"),
        parts=(part(receipt()), part(receipt(OTHER, timedelta(seconds=1)))),
        timeline=(_event(EventKind.FLOW_RUN, RUN, "Completed", 1.0, message=HOSTILE),),
        sources=(
            _source(SourceName.LEDGER, Coverage.PRESENT, Link.PROVEN, "2 receipts of this run"),
            _source(SourceName.CHANGE_STREAM, Coverage.PRESENT, Link.ABSENT),
            _source(SourceName.PREFECT, Coverage.UNREACHABLE, Link.ABSENT, HOSTILE),
        ),
    )
