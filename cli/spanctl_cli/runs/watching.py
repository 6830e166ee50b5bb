"""Watching a flow run that goes on elsewhere, to its end."""

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

from spanctl.errors import ConfigurationError, SpanctlError, UnreachableError
from spanctl.ledger.report import TransactionReport
from spanctl_cli.context import AppContext
from spanctl_cli.live import View
from spanctl_cli.runs import Asked, facts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanctl.audit.watch import Follower, Past
    from spanctl.ledger.receipt import Receipt
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import FlowRun, Log
    from spanctl.spanner.client import Database

_USERS = frozenset({"prefect.flow_runs", "prefect.task_runs"})
_TRACEBACK = "Traceback (most recent call last):"
_ENGINE = ("Beginning flow run", "Finished in state", "Running hook ", "Hook '", "Created task run")
_WORKER = (
    "Running 1 deployment pull step",
    "Executing deployment step",
    "Deployment step '",
    "All deployment steps completed",
)


def watch(  # noqa: PLR0913, PLR0917 - what is watched, and where it is shown
    app: AppContext,
    api: "PrefectApi",
    run: "FlowRun",
    of: str | None,
    asked: Asked,
    view: View,
    *,
    after: "Past | None" = None,
) -> "tuple[FlowRun, list[TransactionReport]]":
    """Watch a flow run to its end, and return it as it ended, with its transactions.

    Ctrl-C leaves it to itself, or cancels it where that was asked for, and says which. Of a run
    that is run again only what comes ``after`` its earlier attempts is told.

    Raises:
        PendingError: It had not ended when ``--timeout`` was over.
        UnreachableError: Prefect did not answer for a minute; the run goes on.
    """
    from spanctl.audit import watch as watcher

    seen: list[TransactionReport] = []
    view.run(facts_of(run, of))
    with ExitStack() as stack:
        database = ledger(app, stack)
        told = follower(app, database, view, seen)
        try:
            ended = watcher.follow(api, database, run.id, told, timeout=asked.timeout, after=after)
        except KeyboardInterrupt:
            interrupted(app, api, [run], cancel=asked.cancel_on_interrupt)
            raise
        except UnreachableError as error:
            raise unwatched(app, database, run, seen, error) from None
    return ended, seen


def unwatched(
    app: AppContext,
    database: "Database | None",
    run: "FlowRun",
    seen: "Sequence[TransactionReport]",
    error: UnreachableError,
) -> UnreachableError:
    """Return what is told of a run that goes on where Prefect no longer tells of it."""
    found = list(seen)
    try:
        if database is not None:
            from spanctl.audit.runtransactions import in_ledger
            from spanctl.ledger.report import merged

            found = merged(seen, in_ledger(database, run, seen))
    except SpanctlError as other:
        app.warn(f"the ledger was not asked: {other.message}")
    committed = [one.txn_id for one in found if one.told == "COMMITTED"]
    so_far = f"{len(committed)} transaction{'' if len(committed) == 1 else 's'} committed so far"
    msg = f"{error.message}; flow run {run.id} goes on unwatched: {so_far}"
    hint = (
        f"when it answers again: spanctl runs watch {run.id};"
        f" what is committed: spanctl audit list --flow-run {run.id}"
    )
    details = {**error.details, "flow_run": run.id, "committed": committed}
    return UnreachableError(msg, hint=hint, **details)


def ledger(app: AppContext, stack: ExitStack) -> "Database | None":
    """Open the context's database; None, with a warning, where the context names none."""
    from spanctl.spanner.client import Database, Target

    try:
        target = Target.from_settings(app.settings())
    except ConfigurationError as error:
        app.warn(f"transactions are not told: {error.message}")
        return None
    return stack.enter_context(Database(target))


def follower(
    app: AppContext, database: "Database | None", view: View, seen: list[TransactionReport]
) -> "Follower":
    """Return who passes on to a view what happens to a run, and keeps its transactions."""
    from spanctl.audit.watch import Follower
    from spanctl.orchestration.resultlines import explained

    name = str(database.target.database) if database else None

    def receipt(found: "Receipt") -> None:
        one = TransactionReport.of(found, name)
        seen.append(one)
        view.transaction(one)

    told: set[str] = set()

    def log(line: "Log") -> None:
        if (meaning := explained(line.message)) is not None:
            if meaning not in told:
                view.log("WARNING", meaning)
            told.add(meaning)
        elif not _chatter(line):
            view.log(logging.getLevelName(line.level), _brief(line.message))

    return Follower(state=view.state, log=log, receipt=receipt, note=app.warn)


def interrupted(app: AppContext, api: "PrefectApi", runs: "list[FlowRun]", *, cancel: bool) -> None:
    """Say what Ctrl-C means for runs that go on elsewhere: they are cancelled, or left alone."""
    for run in runs:
        if cancel:
            api.cancel(run.id, "cancelled by Ctrl-C in spanctl")
            app.note(f"cancelling flow run {run.id}; look: spanctl runs wait {run.id}")
        else:
            app.note(f"detached, the run goes on; follow it: spanctl runs watch {run.id}")


def _brief(message: str) -> str:
    """Return of a message that carries a traceback its first line, or else its last."""
    before, found, after = message.partition(_TRACEBACK)
    if not found:
        return message
    return next(iter([*before.strip().splitlines(), *reversed(after.strip().splitlines())]), found)


def _chatter(line: "Log") -> bool:
    """Whether Prefect's worker and engine talk of themselves; their warnings are passed on."""
    if line.level >= logging.WARNING:
        return False
    return line.logger not in _USERS or line.message.startswith((*_ENGINE, *_WORKER))
