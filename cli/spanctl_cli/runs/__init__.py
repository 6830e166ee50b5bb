"""How ``spanctl run`` runs things: what was asked for, and what is printed of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spanctl.clock import monotonic
from spanctl.errors import UsageError
from spanctl.invocation import RECOVER_TAG
from spanctl.ledger.report import TransactionReport
from spanctl_cli.live import to_event
from spanctl_cli.output import Column, Format, Kind, Listing, Record, text
from spanctl_cli.output.model import Section

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType

    from spanctl.orchestration.model import FlowRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the person asked for.

    Attributes:
        target: The flow or deployment.
        parameters: Its parameters, as JSON values.
        typed: Those of them that were typed, as text: what they are is the deployment's to say.
        tags: Tags of a deployment's run.
        job_variables: What a deployment's run changes of its work pool's job.
        due: When a deployment's run is to start; None for now.
        reason: Why.
        idempotency_key: Stands in for the root flow run in operation keys.
        watch: Whether to wait for the end.
        cancel_on_interrupt: Whether Ctrl-C cancels a run elsewhere.
        timeout: Seconds to wait for a run elsewhere, or that one here may take.
        dry_run: Whether to show the plan only.
        output: The format of the result.
        pairs: Bind parameters of SQL, each as ``name:TYPE=value``.
        fields: The fields to show.
        resume: The run of SQL or of a file to go on with, which was cut off.
        new: Whether a run of the same SQL that was cut off is no reason to ask.
        recover: Whether it is to be run again should its process die.
        if_crashed: Whether to resume it only while it is Crashed.
    """

    target: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    typed: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    due: "datetime | None" = None
    reason: str | None = None
    idempotency_key: str | None = None
    watch: bool = True
    cancel_on_interrupt: bool = False
    timeout: float | None = None
    dry_run: bool = False
    output: Format | None = None
    pairs: Sequence[str] = ()
    fields: str | None = None
    resume: str | None = None
    new: bool = False
    recover: bool = False
    if_crashed: bool = False

    @property
    def all_tags(self) -> tuple[str, ...]:
        """The run's tags, with that which asks for recovery."""
        return (*self.tags, *([RECOVER_TAG] if self.recover else []))

    @property
    def is_deployment(self) -> bool:
        """Whether the target is a deployment: ``flow/name``, with neither a file nor a module."""
        return "/" in self.target and ".py:" not in self.target


def refuse_detached(asked: Asked, what: str, instead: str) -> None:
    """Return when what runs in this process is waited for: there is nobody to leave it to.

    Raises:
        UsageError: ``--detach`` was passed.
    """
    if not asked.watch:
        msg = f"{what} runs in this process, it can't be detached"
        raise UsageError(msg, hint=instead)


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def elapsed(since: float) -> float:
    """Return the seconds since a monotonic time, to the millisecond."""
    return round(monotonic() - since, 3)


def parameters(given: Iterable[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` pairs; a value that is JSON is taken as such, else as text.

    Raises:
        UsageError: A pair has no ``=``, or a name comes twice; or a number can't be kept.
    """
    found = pairs(given)
    if not found:
        return {}
    from spanctl.orchestration.parameters import read

    return read(found, {})


def pairs(given: Iterable[str], what: str = "parameter", option: str = "-p") -> dict[str, str]:
    """Read ``NAME=VALUE`` pairs as text.

    Raises:
        UsageError: A pair has no ``=``, or a name comes twice.
    """
    read: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            msg = f"a {what} without a value"
            raise UsageError(msg, hint=f"write {option} name=value")
        if name in read:
            msg = f"{what} {name} is given twice"
            raise UsageError(msg, hint="give it once")
        read[name] = value
    return read


TRANSACTIONS = (
    Column("txn_id", title="transaction", kind=Kind.ID),
    Column("step"),
    Column("outcome", kind=Kind.STATE),
    Column("commit_timestamp", title="committed", kind=Kind.TIME),
    Column("rows", kind=Kind.NUMBER),
    Column("replayed", kind=Kind.FLAG),
    Column("database", extra=True),
)


def transactions(seen: Sequence[TransactionReport]) -> Section:
    """Return the section that lists a run's transactions."""
    rows = [{key: value for key, value in to_event(one).items() if key != "event"} for one in seen]
    return Section(
        "transactions",
        "Transactions",
        Listing(schema="run.transactions", columns=TRANSACTIONS, rows=rows),
    )


def summary(facts: Mapping[str, Any], seen: Sequence[TransactionReport]) -> Record:
    """Return what is printed of a run that ended, or was accepted."""
    committed = [one for one in seen if one.told == "COMMITTED"]
    rows = sum(one.rows or 0 for one in committed if not one.replayed)
    return Record(
        schema="run",
        columns=(
            Column("flow_run", title="flow run", kind=Kind.ID),
            Column("name"),
            Column("flow"),
            Column("state", kind=Kind.STATE),
            Column("committed", title="transactions", kind=Kind.NUMBER),
            Column("rows", kind=Kind.NUMBER),
            Column("seconds", title="time", kind=Kind.DURATION),
            Column("ledger", kind=Kind.STATE),
        ),
        values={
            "ledger": None,
            **facts,
            "committed": len(committed),
            "rows": rows,
        },
        sections=(transactions(seen),) if seen else (),
        view=lambda: _ending(facts, committed, rows),
    )


def _ending(
    facts: Mapping[str, Any], committed: Sequence[TransactionReport], rows: int
) -> "Iterable[RenderableType]":
    """One line: the transactions themselves went by in the live view."""
    from rich.text import Text

    replayed = sum(one.replayed for one in committed)
    told = [
        f"{len(committed)} transaction{'' if len(committed) == 1 else 's'} committed",
        *([f"{replayed} of them before"] if replayed else []),
        f"{rows:,} row{'' if rows == 1 else 's'} changed",
        *(["as this process saw it"] if facts.get("ledger") == "unreachable" else []),
        *([f"{facts['seconds']:.1f} s"] if "seconds" in facts else []),
    ]
    done = facts.get("state") == "Completed"
    line = Text("✓ " if done else "· ", style="green" if done else "cyan")
    line.append(f"{facts.get('state')} ", style="bold")
    line.append(text(" · ".join(told)))
    yield line


def facts_of(run: "FlowRun", of: str | None) -> dict[str, Any]:
    """Return what is told of a flow run of a deployment, or of a flow."""
    return {
        "flow_run": run.id,
        "name": run.name,
        "flow": of,
        "state": run.state.name if run.state else None,
    }


def plan(facts: Mapping[str, Any]) -> Record:
    """Return what ``--dry-run`` prints of a run that was not started."""
    columns = tuple(Column(name, title=name.replace("_", " ")) for name in facts)
    return Record(schema="run.plan", columns=columns, values=facts)
