"""A flow in a file or a module, run in this process."""

import contextlib
import io
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spanctl.clock import monotonic
from spanctl.errors import FlowCancelledError, SpanctlError, UnreachableError
from spanctl.invocation import typed_again
from spanctl.ledger.report import Place, TransactionReport
from spanctl_cli import live, signals, talk
from spanctl_cli.boundary import notes_of
from spanctl_cli.context import AppContext
from spanctl_cli.live import View
from spanctl_cli.output import emit, stdout
from spanctl_cli.output.values import duration
from spanctl_cli.runs import Asked, elapsed, ledger, plan, refuse_detached, summary
from spanctl_cli.runs.limit import TimedOut, limited

_TOLD = 20
"""So many transactions are told one by one when a run is interrupted."""
_INSTEAD = "make it a deployment, or put nohup before it and & behind it"

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.flows import Flow

    from spanctl.flows.launch import Finished
    from spanctl.invocation import Invocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """How a run begins.

    Attributes:
        resumed: The run to go on with; None for a new one.
        labels: The labels of a new one.
        tags: Its tags.
    """

    resumed: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()


_ANEW = Begin()


def prepare(app: AppContext) -> None:
    """Point Prefect at the context's API; before anything imports Prefect.

    Raises:
        ConfigurationError: No API is set.
        SpanctlError: What opens it is in a secret, which could not be read.
    """
    settings = app.settings()
    if url := settings.get("prefect_api_url"):
        os.environ["PREFECT_API_URL"] = url
    # Prefect would else start a temporary server, whose runs nobody finds again.
    os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
    # Its five retries, each after twice the pause, take minutes when the server has gone.
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "2")
    # And it waits a minute for each of them: a server that hangs held up the end for five.
    os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", "20")
    from spanctl.orchestration import keys, strays

    if unread := strays.note(Path.cwd(), url):
        app.note(unread)
    kept = keys.read(settings)
    from spanctl.flows.launch import require_server
    from spanctl.flows.opening import open_api

    require_server()
    open_api(kept)


def invocation(app: AppContext, asked: Asked) -> "Invocation":
    """Return who asks, why, and for which database."""
    from spanctl.invocation import Invocation, user_at_host
    from spanctl.spanner.client import Target

    return Invocation(
        database=Target.from_settings(app.settings()),
        initiator=user_at_host(),
        reason=asked.reason,
        idempotency_key=asked.idempotency_key,
    )


def run(app: AppContext, asked: Asked) -> None:
    """Load the flow, run it to its end, print what came of it.

    Raises:
        SpanctlError: The flow can't be loaded or did not complete; its kind is the exit code's.
        FlowCancelledError: ``--timeout`` was over.
    """
    refuse_detached(asked, "a flow in a file or a module", _INSTEAD)
    prepare(app)
    from spanctl.flows import launch
    from spanctl.orchestration.filerun import FileRun

    asking = invocation(app, asked)
    flow = launch.load(asked.target)
    bound = launch.bind(flow, launch.read(flow, asked.typed, asked.parameters))
    if asked.dry_run:
        emit(plan(_plan(app, flow, bound, asking)), asked.output)
        return
    kept = FileRun.here(asked.target, launch.file_of(flow))
    begin = Begin(labels=kept.labels, tags=asked.all_tags)
    run_to_end(app, flow, bound, asking, asked, begin)


def run_to_end(  # noqa: PLR0913, PLR0917 - what is run, and how
    app: AppContext,
    flow: "Flow[..., Any]",
    bound: dict[str, Any],
    asking: "Invocation",
    asked: Asked,
    begin: Begin,
) -> None:
    """Run a flow to its end, and print what came of it.

    Raises:
        SpanctlError: The flow did not complete; its kind is the exit code's.
        FlowCancelledError: ``--timeout`` was over.
    """
    from spanctl.audit import ending

    started = monotonic()
    with live.view(asked.output, quiet=app.quiet) as view:
        finished, seen = execute(app, flow, bound, asking, view, timeout=asked.timeout, begin=begin)
        found = _asked(app, asking, str(finished.flow_run), seen, view)
    ending.refuse_open(found.transactions)
    try:
        finished.check()
    except UnreachableError as error:
        raise _with_outcomes(error, found.transactions) from None
    facts = {**facts_of(finished), "seconds": elapsed(started), "ledger": found.coverage}
    emit(summary(facts, found.transactions), asked.output)
    next_step(app, finished)


def _asked(
    app: AppContext,
    asking: "Invocation",
    flow_run: str,
    seen: Sequence[TransactionReport],
    view: View,
) -> ledger.Told:
    """Ask the ledger what a run did: its steps may have run in other processes."""
    from spanctl_cli.runs.deployments import connect

    try:
        api = connect(app)
    except SpanctlError as error:  # it takes the place of no outcome
        return ledger.unasked(app, seen, error)
    with api:
        return ledger.completed(app, api, flow_run, seen, view, labels=asking.labels)


def next_step(app: AppContext, finished: "Finished") -> None:
    """Say what to type next."""
    app.note(f"next: spanctl audit {finished.flow_run}")


def facts_of(finished: "Finished") -> dict[str, Any]:
    """Return which run it was, as a result's values."""
    return {
        "flow_run": str(finished.flow_run),
        "name": finished.name,
        "flow": finished.flow,
        "state": finished.state,
    }


def execute(  # noqa: PLR0913 - what is run, and where it is shown
    app: AppContext,
    flow: "Flow[..., Any]",
    bound: dict[str, Any],
    asking: "Invocation",
    view: View,
    *,
    runbook: bool = False,
    heartbeats: bool = True,
    timeout: float | None = None,
    begin: Begin = _ANEW,
) -> "tuple[Finished, list[TransactionReport]]":
    """Run a flow with a view on it; return how it ended and its transactions.

    Raises:
        KeyReusedError: The idempotency key was used for another flow, or with other parameters.
        KeyboardInterrupt: It was interrupted; what became of its transactions was said before.
        FlowCancelledError: It was ended, because ``timeout`` seconds were over; or it crashed.
        FlowFailedError: It reached no final state.
        UnreachableError: Prefect's API failed it.
        OutcomeUnknownError: Whatever ended it so, the outcome of one of its transactions is open.
    """
    from spanctl.flows import keyed, launch
    from spanctl.flows.listening import listening

    seen: dict[Place, TransactionReport] = {}

    def transaction(one: TransactionReport) -> None:
        seen[one.place] = one
        view.transaction(one)

    def log(record: logging.LogRecord) -> None:
        if not runbook:  # it logs nothing itself, and its error is told in full
            view.log(record.levelname, record.getMessage())

    request = keyed.refuse_other_request(flow, None if runbook else bound, asking)
    if begin.resumed is None:
        registered = launch.register(flow, bound, asking, labels=begin.labels, tags=begin.tags)
    else:
        registered = launch.resume(begin.resumed, bound)
    keyed.remember(registered.id, request)
    view.run({"flow_run": str(registered.id), "name": registered.name, "flow": flow.name})
    view.state("Running")
    try:
        with (
            listening(on_transaction=transaction, on_log=log),
            _prints_to(view),
            limited(timeout),
            signals.heard_by_threads(),
        ):
            finished = launch.execute(flow, registered, bound, asking, heartbeats=heartbeats)
    except BaseException as error:
        reports, over = list(seen.values()), isinstance(error, TimedOut)
        if isinstance(error, KeyboardInterrupt) or _is_what_a_signal_became(error):
            _tell_outcomes(app, notes_of(error), reports)
            why = f"{duration(timeout or 0)} were over" if over else "interrupted"
            _settle(app, registered, f"{why}, in the process that ran it")
            if not over:
                app.note(f"interrupted; what became of it: spanctl audit {registered.id}")
                raise
        elif not isinstance(error, Exception):  # of some of them the engine tells Prefect nothing
            _settle(app, registered, f"ended with {type(error).__name__}")
        found = _asked(app, asking, str(registered.id), reports, view).transactions
        failure = (
            _timed_out(registered, timeout or 0, found, asking)
            if over
            else launch.failure_of(registered, error)
        )
        told = _with_outcomes(failure, found)
        raise told.with_traceback(error.__traceback__) from error
    view.state(finished.state)
    return finished, list(seen.values())


def _is_what_a_signal_became(error: BaseException) -> bool:
    return signals.heard() is not None and not isinstance(error, SpanctlError)


def _tell_outcomes(
    app: AppContext, notes: "Sequence[str]", seen: Sequence[TransactionReport]
) -> None:
    """Say what became of each transaction when the run was interrupted: the last ones, if many."""
    for note in notes:
        app.note(note)
    # A note names an ID alone, which may be that of two transactions in two databases.
    ids = Counter(one.txn_id for one in seen)
    noted = {one for one, times in ids.items() if times == 1 and any(one in note for note in notes)}
    untold = [one for one in seen if one.txn_id not in noted]
    if len(untold) > _TOLD:
        committed = sum(one.outcome == "COMMITTED" for one in untold[:-_TOLD])
        app.note(f"{committed:,} of {len(untold) - _TOLD:,} earlier transactions: COMMITTED")
    for one in untold[-_TOLD:]:
        app.note(f"transaction {one.txn_id} ({one.step}): {one.outcome}")


def _settle(app: AppContext, run: "FlowRun", why: str) -> None:
    from spanctl.flows import abandoned

    try:
        abandoned.settle(run, why)
    except SpanctlError as error:
        app.warn(f"{error.message}; {error.hint}")


def _timed_out(
    run: "FlowRun", seconds: float, seen: Sequence[TransactionReport], asking: "Invocation"
) -> FlowCancelledError:
    committed = sum(one.outcome == "COMMITTED" for one in seen)
    again = typed_again(asking.idempotency_key, committed)
    msg = f"flow run {run.id} was ended after {duration(seconds)}"
    hint = f"run: spanctl audit {run.id}; {again}"
    return FlowCancelledError(msg, hint=hint, flow_run=str(run.id))


def _with_outcomes(failure: SpanctlError, seen: Sequence[TransactionReport]) -> SpanctlError:
    """Return what ended a run, and what came of its transactions until then.

    Raises:
        OutcomeUnknownError: That of one is open, which is worse than anything that ended the run.
    """
    from spanctl.audit import ending

    ending.refuse_open(seen)
    committed = [one for one in seen if one.told == "COMMITTED"]
    outside = [one for one in seen if one.at_least_once]
    undone = [one for one in seen if one.outcome == "NOT_COMMITTED"]
    told = f"{len(committed)} transaction{'' if len(committed) == 1 else 's'} committed"
    if undone:
        told = f"{told}, {undone[-1].txn_id} ({undone[-1].step}) NOT_COMMITTED"
    if outside:
        told = f"{told}, {outside[-1].line}"
    outcomes = {
        "committed": [one.txn_id for one in committed],
        "not_committed": [one.txn_id for one in undone],
    }
    msg = f"{failure.message}: {told}"
    return type(failure)(msg, hint=failure.hint, **{**failure.details, **outcomes})


class _Printed(io.StringIO):
    """Where a flow's own prints go: stdout is for the result."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self._view = view
        self._rest = ""

    def write(self, text: str) -> int:
        """Pass on whole lines."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._view.log("INFO", line)
        return len(text)

    def close(self) -> None:
        """Pass on what did not end in a new line."""
        if self._rest:
            self.write("\n")
        super().close()


@contextlib.contextmanager
def _prints_to(view: View) -> Iterator[None]:
    printed = _Printed(view)
    silent = not view.is_for_people
    with talk.children_silenced(silent), stdout.diverted(printed):
        try:
            yield
        finally:
            printed.close()


def _plan(
    app: AppContext, flow: "Flow[..., Any]", bound: dict[str, Any], asking: "Invocation"
) -> dict[str, Any]:
    settings = app.settings()
    return {
        "flow": flow.name,
        "runs": "in this process",
        "parameters": ", ".join(f"{name}={value!r}" for name, value in bound.items()) or "none",
        "database": str(settings.database),
        "prefect_api": settings.get("prefect_api_url"),
        "initiator": asking.initiator,
        "reason": asking.reason,
        "idempotency_key": asking.idempotency_key,
    }
