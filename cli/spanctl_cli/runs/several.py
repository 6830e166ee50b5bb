"""Several deployments at once: each is asked for, followed and told apart."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import typer

from spanctl.errors import SpanctlError, UnreachableError, UsageError
from spanctl_cli import live
from spanctl_cli.context import AppContext
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.output import Column, emit
from spanctl_cli.runs import Asked, facts_of, ledger, watching
from spanctl_cli.runs.deployments import ask, connect, prepared
from spanctl_cli.runs.waiting import Waited, settle

if TYPE_CHECKING:
    from spanctl.ledger.report import TransactionReport
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import Deployment, FlowRun

_DEPLOYMENT: Final = Column("target", title="deployment")
_Prepared = list[tuple[Asked, "Deployment", dict[str, Any]]]


def run(app: AppContext, asked: Sequence[Asked]) -> None:
    """Ask for a run of each deployment, follow them together, and print what became of each.

    A mistake in one of them (its name, its parameters) is found before anything is sent, and then
    nothing is.

    Raises:
        UsageError: They can't have one idempotency key, or a plan; or one takes no such parameters.
        NotFoundError: One of them doesn't exist.
        typer.Exit: With the worst of their exit codes, unless all is done.
    """
    first = asked[0]
    if first.idempotency_key is not None:
        msg = "one idempotency key names one run, not several"
        raise UsageError(msg, hint="run them one by one, each with its own key")
    if first.dry_run:
        msg = "--dry-run shows the plan of one target"
        raise UsageError(msg, hint="ask for one after the other")
    with ExitStack() as stack:
        api = stack.enter_context(connect(app))
        ready: _Prepared = [(one, *prepared(api, one)) for one in asked]
        started = [_started(app, api, *one) for one in ready]
        done = _followed(app, api, started, first, stack) if first.watch else started
    listing, code = settle(done, "run.several", first=_DEPLOYMENT)
    emit(listing, first.output)
    accepted = [one.run.id for one in started if one.run is not None]
    if accepted and not first.watch:
        app.note(f"accepted; next: spanctl runs wait {' '.join(accepted)}")
    if code is not ExitCode.DONE:
        raise typer.Exit(code)


def _started(
    app: AppContext,
    api: "PrefectApi",
    asked: Asked,
    deployment: "Deployment",
    parameters: dict[str, Any],
) -> Waited:
    try:
        return Waited(ask(app, api, deployment, asked, parameters), None, deployment.name)
    except SpanctlError as error:
        return Waited(None, error, deployment.name)


def _followed(
    app: AppContext,
    api: "PrefectApi",
    started: Sequence[Waited],
    asked: Asked,
    stack: ExitStack,
) -> list[Waited]:
    from spanctl.audit import watch

    runs = {one.run.id: one.run for one in started if one.run is not None}
    database = watching.ledger(app, stack)
    with live.view(asked.output, quiet=app.quiet) as view:
        followings = {}
        seen: dict[str, list[TransactionReport]] = {}
        silent: UnreachableError | None = None
        for one in started:
            if one.run is not None:
                part = live.one_of_several(view, one.run.id, f"{one.target} {one.run.name}")
                part.run(facts_of(one.run, one.target))
                told = watching.follower(app, database, part, seen.setdefault(one.run.id, []))
                followings[one.run.id] = watch.Following(api, database, one.run, told)
        try:
            watch.follow_all(list(followings.values()), timeout=asked.timeout)
        except KeyboardInterrupt:
            going = [runs[key] for key, one in followings.items() if not one.has_ended]
            watching.interrupted(app, api, going, cancel=asked.cancel_on_interrupt)
            raise
        except UnreachableError as error:
            silent = error

    def judged(one: Waited) -> Waited:
        following = followings.get(one.run.id) if one.run else None
        if silent is None or following is None or following.has_ended:
            return _judged(app, api, one, following)
        run = following.run
        told = watching.unwatched(app, database, run, seen[run.id], silent)
        return Waited(run, told, one.target)

    return [judged(one) for one in started]


def _judged(app: AppContext, api: "PrefectApi", one: Waited, following: Any) -> Waited:  # noqa: ANN401 - a Following
    from spanctl.audit import ending, watch

    if following is None:
        return one
    run: FlowRun = following.run
    if not following.has_ended:
        return Waited(run, watch.pending(run), one.target)
    try:
        ending.check(api, run, ledger.opened(app, run))
    except SpanctlError as error:
        return Waited(run, error, one.target)
    return Waited(run, None, one.target)
