"""``spanctl runs wait``: until flow runs are in a state, each told apart."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from spanctl.clock import monotonic
from spanctl.errors import ConflictError, SpanctlError, UnreachableError
from spanctl_cli import exit_codes, talk
from spanctl_cli.context import AppContext
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.output import Column, Kind, Listing
from spanctl_cli.runs import ledger

if TYPE_CHECKING:
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import FlowRun, State

_POLL: Final = 0.4
_PATIENCE: Final = 60.0
_LOOK: Final = 5.0
"""Seconds after which it is looked at again whether the runs' executors are alive."""
_COLUMNS: Final = (
    Column("flow_run", title="flow run", kind=Kind.ID),
    Column("name"),
    Column("state", kind=Kind.STATE),
    Column("exit_code", title="exit code", kind=Kind.NUMBER),
    Column("error"),
    Column("message"),
)
_TARGET: Final = Column("target", extra=True)


@dataclass(frozen=True, slots=True)
class Waited:
    """What became of one target.

    Attributes:
        run: The flow run; None where there is none.
        error: Why it is not as it was asked for; None when it is.
        target: What the person named.
    """

    run: "FlowRun | None"
    error: SpanctlError | None = None
    target: str = ""

    @property
    def code(self) -> ExitCode:
        """The exit code of this target."""
        return exit_codes.of(self.error) if self.error else ExitCode.DONE


def settle(
    done: Sequence[Waited], schema: str, *, first: Column | None = None
) -> tuple[Listing, ExitCode]:
    """Return the list of several targets, and the worst exit code; what failed is said as well.

    Args:
        done: What became of each.
        schema: The document's name.
        first: The column of the targets, where they are more than other words for the runs.

    Raises:
        SpanctlError: There is one target only, and this is its error.
    """
    if len(done) == 1 and done[0].error is not None:
        raise done[0].error
    for one in done:
        if one.error is not None:
            talk.say(one.error.message, label="error")
    columns = (first, *_COLUMNS) if first is not None else (*_COLUMNS, _TARGET)
    rows = [_row(one) for one in done]
    return Listing(schema, columns, rows), exit_codes.worst(one.code for one in done)


def _row(one: Waited) -> dict[str, Any]:
    run = one.run
    return {
        "flow_run": run.id if run else None,
        "name": run.name if run else None,
        "state": run.state.name if run and run.state else None,
        "exit_code": int(one.code),
        "error": one.error.code if one.error else None,
        "message": one.error.message if one.error else None,
        "target": one.target or (run.id if run else None),
    }


def find(api: "PrefectApi", wanted: Sequence[str]) -> list[Waited]:
    """Return the flow runs that ids or names stand for; what is not found has its error."""
    found: list[Waited] = []
    for text in dict.fromkeys(wanted):
        try:
            found.append(Waited(api.find_flow_run(text), target=text))
        except SpanctlError as error:
            if isinstance(error, UnreachableError):
                raise
            found.append(Waited(None, error, text))
    return found


def wait(
    app: AppContext,
    api: "PrefectApi",
    targets: Sequence[Waited],
    words: Sequence[str],
    timeout: float | None,
) -> list[Waited]:
    """Wait until each flow run is in one of the states, or has ended, or the time is over.

    Without states, until each has ended, and then each run's own outcome counts.

    Raises:
        UsageError: There is no such state.
        UnreachableError: Prefect did not answer for a minute; the runs go on.
    """
    from spanctl.orchestration.browsing import states_of

    types, names = states_of(words)
    deadline = monotonic() + timeout if timeout is not None else None
    runs = {one.run.id: one.run for one in targets if one.run is not None}
    open_still = set(runs)
    answered = looked = monotonic()
    died: dict[str, SpanctlError] = {}
    dead: dict[str, SpanctlError] = {}
    while open_still:
        try:
            runs |= {run.id: run for run in api.flow_runs(sorted(open_still))}
            answered = monotonic()
        except UnreachableError:
            if monotonic() - answered > _PATIENCE:
                raise
        open_still = {one for one in open_still if not _is_there(runs[one].state, types, names)}
        if monotonic() >= looked:
            looked = monotonic() + _LOOK
            before, dead = dead, _deaths(app, api, [runs[one] for one in sorted(open_still)])
            died |= {one: dead[one] for one in dead.keys() & before}  # else a worker may end it yet
            open_still -= died.keys()
        if not open_still or (deadline is not None and monotonic() >= deadline):
            break
        time.sleep(_POLL)
    wanted = (types, names)
    return [
        Waited(runs[one.run.id], died[one.run.id], one.target)
        if one.run is not None and one.run.id in died
        else _judged(app, api, one, runs, wanted)
        for one in targets
    ]


def _deaths(
    app: AppContext, api: "PrefectApi", waiting: "Sequence[FlowRun]"
) -> dict[str, SpanctlError]:
    """Return those of the runs that are dead, and what is said of each."""
    from spanctl.audit import deaths

    dead = {run.id: ledger.dead(app, api, run) for run in waiting}
    return {name: deaths.error(one) for name, one in dead.items() if one is not None}


def _is_there(state: "State | None", types: Sequence[str], names: Sequence[str]) -> bool:
    return state is not None and (
        state.type.is_final or state.type.value in types or state.name in names
    )


def _judged(
    app: AppContext,
    api: "PrefectApi",
    one: Waited,
    runs: "Mapping[str, FlowRun]",
    wanted: tuple[Sequence[str], Sequence[str]],
) -> Waited:
    if one.run is None:
        return one
    from spanctl.audit import ending, watch

    run = runs[one.run.id]
    types, names = wanted
    if not _is_there(run.state, types, names):
        return Waited(run, watch.pending(run), one.target)
    if run.state is not None and (run.state.type.value in types or run.state.name in names):
        return Waited(run, None, one.target)
    try:
        if (types or names) and not _went_through(api, run, types, names):
            ending.check(api, run, ledger.opened(app, run))
            word = run.state.name if run.state else "unknown"
            msg = f"flow run {run.id} ended as {word}, not as it was waited for"
            hint = f"look: spanctl runs show {run.id}"
            raise ConflictError(msg, hint=hint, flow_run=run.id)
        if not types and not names:
            ending.check(api, run, ledger.opened(app, run))
    except SpanctlError as error:
        return Waited(run, error, one.target)
    return Waited(run, None, one.target)


def _went_through(
    api: "PrefectApi", run: "FlowRun", types: Sequence[str], names: Sequence[str]
) -> bool:
    """Whether a run that has ended was in a state meanwhile, too shortly to be seen in it."""
    return any(
        (state.type.value in types or state.name in names) and not state.type.is_final
        for state in api.flow_run_states(run.id)
    )
