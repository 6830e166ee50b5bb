"""``spanctl runs list`` and ``show``: from Prefect's API and the ledger to results."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from spanctl_cli.output import Column, Kind, Listing, Record
from spanctl_cli.output.model import Section
from spanctl_cli.runs.rows import RUN_COLUMNS, TASK_COLUMNS, run_row, task_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.browsing import Found
    from spanctl.orchestration.model import FlowRun, State
    from spanctl_cli.runs.ledger import Told

_PAGE_COLUMNS: Final = (
    *(column for column in RUN_COLUMNS if column.key != "tags"),
    Column("tags"),
    Column("message"),
    Column("parameters"),
    Column("ledger", kind=Kind.STATE),
    Column("ledger_note", title="ledger note"),
)
_STATE_COLUMNS: Final = (
    Column("state", kind=Kind.STATE),
    Column("at", kind=Kind.TIME),
    Column("message"),
    Column("state_type", kind=Kind.STATE, extra=True),
)
_MOST_MESSAGE: Final = 300


def listing(found: "Found", *, empty: str) -> Listing:
    """Return the list of flow runs."""
    rows = [run_row(one) for one in found.runs]

    def view() -> "Iterable[RenderableType]":
        from spanctl_cli.views import runs

        return runs.listing(rows)

    return Listing("runs.list", RUN_COLUMNS, rows, empty=empty, view=view if rows else None)


def root_of(api: "PrefectApi", run: "FlowRun") -> "FlowRun":
    """Return the root flow run: what receipts are filed under."""
    return api.root_of(run) if run.parent_task_run_id else run


def record(api: "PrefectApi", run: "FlowRun", ledger: "Told", *, parameters: bool) -> Record:
    """Return everything that is known of one flow run.

    Args:
        api: Prefect.
        run: The flow run.
        ledger: What the ledger said of it.
        parameters: Whether to show the values of its parameters, not only their names.
    """
    from spanctl.orchestration.browsing import named

    children = api.subflow_runs(run.id)
    row = run_row(named(api, [run])[0])
    tasks = [task_row(task) for task in api.task_runs(run.id)]
    below = [run_row(one) for one in named(api, children)]
    values: dict[str, Any] = {
        **row,
        "message": _message(run.state),
        "parameters": dict(run.parameters) if parameters else sorted(run.parameters),
        "ledger": ledger.coverage,
        "ledger_note": ledger.note,
    }
    states = [
        {
            "state": state.name,
            "at": state.timestamp,
            "message": _message(state),
            "state_type": state.type,
        }
        for state in api.flow_run_states(run.id)
    ]

    def view() -> "Iterable[RenderableType]":
        from spanctl_cli.views import runs

        return runs.page({**values, "ledger": ledger.note}, tasks, below, ledger.rows)

    return Record(
        "runs.show",
        _PAGE_COLUMNS,
        values,
        sections=_sections(states, tasks, below, ledger),
        view=view,
    )


def _sections(
    states: Sequence[dict[str, Any]],
    tasks: Sequence[dict[str, Any]],
    below: Sequence[dict[str, Any]],
    ledger: "Told",
) -> tuple[Section, ...]:
    return (
        Section("states", "States", Listing("runs.states", _STATE_COLUMNS, states)),
        Section("task_runs", "Task runs", Listing("runs.task_runs", TASK_COLUMNS, tasks)),
        Section("subflow_runs", "Subflow runs", Listing("runs.subflow_runs", RUN_COLUMNS, below)),
        ledger.section,
    )


def _message(state: "State | None") -> str | None:
    """Return what a state says, its first line: it may quote an exception."""
    if state is None or not state.message.strip():
        return None
    from spanctl.credentials.redact import redact

    first = redact(state.message.strip()).splitlines()[0]
    return first if len(first) <= _MOST_MESSAGE else f"{first[:_MOST_MESSAGE]}..."
