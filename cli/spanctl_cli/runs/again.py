"""A flow run that exists already: watched to its end, or run again."""

from typing import TYPE_CHECKING

from spanctl.clock import monotonic
from spanctl.errors import ConfigurationError
from spanctl_cli import live
from spanctl_cli.context import AppContext
from spanctl_cli.output import Record, emit
from spanctl_cli.runs import Asked, elapsed, facts_of, ledger, summary, watching

if TYPE_CHECKING:
    from spanctl.audit.watch import Past
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import FlowRun


def retry(app: AppContext, api: "PrefectApi", run: "FlowRun", why: str, asked: Asked) -> None:
    """Have a flow run that has ended be run again, watch it, and print what came of this attempt.

    Raises:
        ConflictError: It can't be run again.
        SpanctlError: As :func:`watch` does.
    """
    before = _past(app, api, run)
    api.retry(run, why)
    watch(app, api, api.flow_run(run.id), asked, after=before)


def accept(api: "PrefectApi", run: "FlowRun", why: str) -> Record:
    """Have a flow run that has ended be run again; return what is printed of it.

    Raises:
        ConflictError: It can't be run again.
    """
    api.retry(run, why)
    return accepted(api, api.flow_run(run.id))


def ended(app: AppContext, api: "PrefectApi", run: "FlowRun") -> "FlowRun":
    """Return a flow run as it ended, which can be run again; one that is dead is ended for that.

    Raises:
        ConflictError: It can't be run again.
    """
    dead = ledger.dead(app, api, run) if run.deployment_id is not None else None
    found = run if dead is None else ledger.end_dead(app, api, dead)
    api.refuse_retry(found)
    return found


def watch(
    app: AppContext,
    api: "PrefectApi",
    run: "FlowRun",
    asked: Asked,
    *,
    after: "Past | None" = None,
) -> None:
    """Watch a flow run to its end, and print what came of it, or of it ``after`` that.

    Raises:
        PendingError: It had not ended when the time was over.
        OutcomeUnknownError: The outcome of one of its transactions is open.
        SpanctlError: The run failed; of the kind that its last failed step ended with.
        FlowCancelledError: It was cancelled or crashed.
    """
    from spanctl.audit import ending

    of = _of(api, run)
    began = monotonic()
    with live.view(asked.output, quiet=app.quiet) as view:
        ended, seen = watching.watch(app, api, run, of, asked, view, after=after)
    ending.check(api, ended, ledger.opened(app, ended))
    emit(summary({**facts_of(ended, of), "seconds": elapsed(began)}, seen), asked.output)
    app.note(f"next: spanctl audit {ended.id}")


def accepted(api: "PrefectApi", run: "FlowRun") -> Record:
    """Return what is printed of a run that was accepted, and is not waited for."""
    return summary(facts_of(run, _of(api, run)), ())


def _past(app: AppContext, api: "PrefectApi", run: "FlowRun") -> "Past":
    from spanctl.audit.watch import past
    from spanctl.spanner.client import Database, Target

    try:
        target = Target.from_settings(app.settings())
    except ConfigurationError:
        return past(api, None, run)  # who watches is told
    with Database(target) as database:
        return past(api, database, run)


def _of(api: "PrefectApi", run: "FlowRun") -> str | None:
    from spanctl.orchestration.browsing import named

    found = named(api, [run])[0]
    return found.deployment or found.flow
