"""``run sql`` typed again after a lost terminal: the first run is named, nothing applied twice."""

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spanctl import clock
from spanctl.errors import ConflictError, NotFoundError, TypedAgainError, UsageError
from spanctl_cli import prompts
from spanctl_cli.context import AppContext
from spanctl_cli.output.values import duration
from spanctl_cli.runs import Asked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spanctl.audit.twins import Twin
    from spanctl.flows.script import Script
    from spanctl.flows.sqlrunning import Awaiting
    from spanctl.spanner.client import Database


@dataclass(frozen=True, slots=True)
class Dealt:
    """What was found of earlier runs, and what the person wants of them.

    Attributes:
        resumed: The flow run to go on with; None for a new one.
        twins: The runs that are dealt with once this one has ended well.
    """

    resumed: str | None = None
    twins: "Sequence[Twin]" = field(default=())

    def ended(self, app: AppContext, database: "Database") -> None:
        """Note that the run which deals with them has ended well."""
        from spanctl.audit import twins
        from spanctl.errors import SpanctlError

        try:
            twins.dismiss(database, self.twins)
        except SpanctlError as error:
            app.warn(f"{error.message}; the earlier run will be named once more")


@contextmanager
def noted(app: AppContext, awaited: "Awaiting") -> "Iterator[None]":
    """Note where the block fails that its end is told: as the error that it failed with."""
    try:
        yield
    except BaseException:
        told(app, awaited)
        raise


def told(app: AppContext, awaited: "Awaiting") -> None:
    """Note that the person was told what came of what they typed."""
    for name in awaited.told():
        app.warn(
            f"flow run {name} has ended, but its lease could not be closed: when the same is typed"
            " again, that run is named before anything is applied"
        )


def refuse_together(asked: Asked) -> None:
    """Return when what was asked for goes together.

    Raises:
        UsageError: It doesn't.
    """
    given = {
        "--resume": asked.resume is not None,
        "--new": asked.new,
        "--idempotency-key": asked.idempotency_key is not None,
    }
    named = [option for option, is_given in given.items() if is_given]
    if len(named) > 1:
        msg = f"{' and '.join(named)} can't be given together"
        raise UsageError(msg, hint="each says by itself which run this is: pass one of them")
    if asked.resume is not None and asked.dry_run:
        msg = "a dry run has nothing to resume"
        raise UsageError(msg, hint="leave --resume or --dry-run out")


def deal(app: AppContext, asked: Asked, script: "Script", database: "Database") -> Dealt:
    """Look for runs of the same SQL that were cut off, and find out what the person wants.

    Raises:
        TypedAgainError: There is one, and nobody can be asked.
        DeclinedError: The person wants nothing done.
        ConflictError: The run to resume goes on still.
        NotFoundError: It is no run of this SQL that was cut off.
    """
    from spanctl.flows.script import SqlMode

    if asked.dry_run or asked.idempotency_key is not None or script.mode is SqlMode.QUERIES:
        if asked.resume is not None:
            msg = "queries change nothing: there is nothing to resume"
            raise UsageError(msg, hint="leave --resume out")
        return Dealt()
    found = _twins(app, script, database)
    if asked.resume is not None:
        return _resume(app, asked.resume, found)
    cut_off = [one for one in found if not one.is_alive]
    if asked.new or not cut_off:
        for one in [] if asked.new else found:
            app.note(f"the same was typed {_ago(one)} ago: flow run {one.name} {one.told}")
        return Dealt(twins=cut_off)
    _ask(app, cut_off[0])
    return Dealt(twins=cut_off)


def _twins(app: AppContext, script: "Script", database: "Database") -> "list[Twin]":
    from spanctl.audit import twins
    from spanctl.invocation import user_at_host
    from spanctl.ledger.receipt import Provenance
    from spanctl.spanner import requests

    window = app.settings().require("repeat_window")
    claimed = user_at_host()
    person = database.actors.asked(Provenance(initiator=claimed)).initiator or claimed
    digests = [requests.typed(database, one, script.arguments) for one in (person, claimed)]
    return twins.find(database, digests, clock.parse_since(window))


def _resume(app: AppContext, wanted: str, found: "Sequence[Twin]") -> Dealt:
    from spanctl.errors import SpanctlError
    from spanctl_cli.runs.deployments import connect

    run = wanted
    try:
        with connect(app) as api:
            run = api.find_flow_run(wanted).id
    except SpanctlError as error:
        if not isinstance(error, NotFoundError):
            raise
    twin = next((one for one in found if one.lease.root_run == run), None)
    if twin is None:
        msg = f"{wanted} is no run of this SQL by you that was cut off"
        told = ", ".join(one.name for one in found)
        hint = f"these are: {told}" if told else "run it without --resume; it is a new one"
        raise NotFoundError(msg, hint=hint)
    if twin.is_alive:
        msg = f"flow run {twin.name} {twin.told}"
        raise ConflictError(msg, hint="wait for it, or end that process", flow_run=twin.name)
    return Dealt(resumed=run, twins=[twin])


def _ask(app: AppContext, twin: "Twin") -> None:
    msg = f"the same was typed {_ago(twin)} ago: flow run {twin.name} {twin.told}"
    if prompts.can_ask(app):
        app.note(msg)
        app.note(_what_to_do(twin))
        prompts.confirm(app, "Apply it as a new run all the same?", yes=False)
        return
    hint = (
        f"look: spanctl audit {twin.txn_id}; {_what_to_do(twin)}; to apply it once more: --new; a"
        " script passes --idempotency-key"
    )
    phase = {"phase": twin.outside.phase.value} if twin.outside else {}
    raise TypedAgainError(
        msg,
        hint=hint,
        flow_run=twin.name,
        txn_id=twin.txn_id,
        outcome=str(twin.outcome),
        **phase,
    )


def _what_to_do(twin: "Twin") -> str:
    if twin.is_resumable:
        return f"to go on with that run: --resume {twin.name}"
    return "look at the schema, and run only what is missing of it"


def _ago(twin: "Twin") -> str:
    return duration(max(0.0, (clock.now() - twin.lease.since).total_seconds()))
