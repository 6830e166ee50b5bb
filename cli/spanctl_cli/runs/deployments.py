"""A deployment's run on its workers, asked for and watched from here."""

import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from spanctl.clock import monotonic, rfc3339
from spanctl.errors import ConfigurationError, NotFoundError, PendingError, SpanctlError
from spanctl_cli import live
from spanctl_cli.context import AppContext
from spanctl_cli.output import emit
from spanctl_cli.runs import Asked, elapsed, facts_of, ledger, plan, summary, watching

if TYPE_CHECKING:
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import Deployment, FlowRun
    from spanctl.settings import Settings

_RUNS_END_WITHIN: Final = 60.0
_LOOK_AGAIN: Final = 0.5


def connect(app: AppContext) -> "PrefectApi":
    """Return the Prefect API of the context.

    Raises:
        ConfigurationError: None is set.
    """
    return reached_api(app.settings())


def reached_api(settings: "Settings") -> "PrefectApi":
    """Return the Prefect API that settings name.

    Raises:
        ConfigurationError: None is set.
    """
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.keys import reach

    found = reach(settings)
    if found is None:
        from pathlib import Path

        from spanctl.orchestration.strays import remedy

        msg = "no Prefect API is set"
        raise ConfigurationError(msg, hint=remedy(Path.cwd()))
    return PrefectApi(found)


def end_schedule(app: AppContext, name: str) -> None:
    """End the schedule of a deployment of spanctl's own, and delete it once nothing of it runs.

    That there is none is fine.

    Raises:
        PendingError: A run of it goes on; no other begins.
    """
    with connect(app) as api:
        try:
            deployment = api.deployment(name)
        except NotFoundError:
            app.note("there is no schedule")
            return
        api.pause(deployment)
        _await_runs(app, api, deployment)
        api.delete_deployment(deployment)
    app.note(f"removed the deployment {name}")


def _await_runs(app: AppContext, api: "PrefectApi", deployment: "Deployment") -> None:
    """Wait for what is under way.

    Prefect ends no run of a limited deployment that is gone before the run's place in it expires.
    """
    deadline = monotonic() + _RUNS_END_WITHIN
    told = False
    while run := unended(api, deployment):
        if monotonic() >= deadline:
            msg = f"flow run {run.id} of {deployment.name} goes on; no other begins"
            hint = f"once it has ended (spanctl runs wait {run.id}), repeat this command"
            raise PendingError(msg, hint=hint, flow_run=run.id)
        if not told:
            app.note(f"waiting for flow run {run.id}, which is under way")
            told = True
        time.sleep(_LOOK_AGAIN)


def unended(api: "PrefectApi", deployment: "Deployment") -> "FlowRun | None":
    """Return a run of a deployment that is under way, None if none is; those that died are ended.

    Each of these would keep the next runs of a limited deployment from running.
    """
    from spanctl.audit import deaths

    under_way = None
    for run in api.unended_runs():
        if run.deployment_id != deployment.id:
            continue
        if dead := deaths.of((), api, run):
            deaths.close(api, dead)
        else:
            under_way = run
    return under_way


def run(app: AppContext, asked: Asked) -> None:
    """Ask for a run of a deployment; watch it unless detached; print what came of it.

    Raises:
        NotFoundError: There is no such deployment.
        UsageError: It doesn't take these parameters; nothing was sent.
        ConflictError: The idempotency key was used with other parameters.
        OutcomeUnknownError: The outcome of one of its transactions is open.
        SpanctlError: The run failed; of the kind that its last failed step ended with.
        FlowFailedError: It failed for another reason.
        FlowCancelledError: The run was cancelled or crashed.
        PendingError: It had not ended when ``--timeout`` was over.
    """
    from spanctl.audit import ending

    with ExitStack() as stack:
        api = stack.enter_context(connect(app))
        deployment, parameters = prepared(api, asked)
        if asked.dry_run:
            emit(plan(_plan(app, deployment, asked, parameters)), asked.output)
            return
        started = monotonic()
        run = ask(app, api, deployment, asked, parameters)
        if not asked.watch:
            emit(summary(facts_of(run, deployment.name), ()), asked.output)
            when = f" for {rfc3339(asked.due)}" if asked.due else ""
            app.note(f"accepted{when}; next: spanctl runs watch {run.id}")
            return
        view = stack.enter_context(live.view(asked.output, quiet=app.quiet))
        ended, seen = watching.watch(app, api, run, deployment.name, asked, view)
        found = ledger.completed(app, api, ended.id, seen, view, root=ended)
        is_whole = found.coverage in {"present", "untouched"}
        ending.check(api, ended, found.transactions, is_whole=is_whole)
    facts = {**facts_of(ended, deployment.name), "seconds": elapsed(started)}
    emit(summary({**facts, "ledger": found.coverage}, found.transactions), asked.output)
    app.note(f"next: spanctl audit {ended.id}")


def prepared(api: "PrefectApi", asked: Asked) -> "tuple[Deployment, dict[str, Any]]":
    """Return a deployment, and the parameters of its run, held against its schema.

    Raises:
        NotFoundError: There is no such deployment.
        UsageError: It doesn't take these parameters, or they lose digits.
    """
    from spanctl.orchestration import parameters

    deployment = api.deployment(asked.target)
    given = parameters.read(asked.typed, deployment.schema, asked.parameters)
    parameters.check(given, deployment)
    return deployment, given


def ask(
    app: AppContext,
    api: "PrefectApi",
    deployment: "Deployment",
    asked: Asked,
    parameters: Mapping[str, Any],
) -> "FlowRun":
    """Ask for a run of a deployment, and return it.

    Raises:
        ConflictError: The idempotency key was used with other parameters.
        SpanctlError: Prefect could not be asked, or refused.
    """
    nonce = asked.idempotency_key or str(uuid.uuid4())
    labels = _labels(asked)
    asking = api.create_flow_run(
        deployment,
        parameters=parameters,
        idempotency_key=asked.idempotency_key,
        nonce=nonce,
        tags=asked.all_tags,
        labels={**labels, **_signed(app, deployment, parameters, nonce, labels)},
        job_variables=asked.job_variables,
        due=asked.due,
    )
    if asking.existed and asked.idempotency_key is not None:
        app.note(f"flow run {asking.run.id} was asked for before with this idempotency key")
    return asking.run


def _labels(asked: Asked) -> dict[str, str]:
    from spanctl.invocation import Invocation, user_at_host

    return Invocation(
        initiator=user_at_host(), reason=asked.reason, idempotency_key=asked.idempotency_key
    ).labels


def _signed(
    app: AppContext,
    deployment: "Deployment",
    parameters: Mapping[str, Any],
    nonce: str,
    labels: Mapping[str, str],
) -> dict[str, str]:
    """Return the labels that prove who asks; none where that can't be signed."""
    from spanctl.references import is_kept, signers

    settings = app.settings()
    reference, reader = settings.require("credentials"), settings.require("secret_reader")
    accounts = signers(reference, settings.get("sign_as"))
    if settings.get("emulator_host") or not accounts:
        return {}
    from spanctl.credentials import signing
    from spanctl.credentials.endpoints import Endpoints
    from spanctl.credentials.resolve import shared

    try:
        endpoints = Endpoints.from_settings(settings)
        signed = signing.attest(
            shared(reader if is_kept(reference) else reference, endpoints, reader),
            endpoints,
            accounts,
            deployment=deployment.id,
            nonce=nonce,
            parameters={**deployment.parameters, **parameters},
            labels=labels,
        )
    except SpanctlError as error:
        app.warn(f"receipts will only claim who asked: {error.message}")
        return {}
    return signed.labels


def _plan(
    app: AppContext, deployment: "Deployment", asked: Asked, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    settings = app.settings()
    merged = {**deployment.parameters, **parameters}
    return {
        "deployment": deployment.name,
        "runs": f"on work pool {deployment.work_pool}",
        "parameters": ", ".join(f"{name}={value!r}" for name, value in merged.items()) or "none",
        "due": rfc3339(asked.due) if asked.due else "now",
        "tags": ", ".join((*deployment.tags, *asked.all_tags)) or None,
        "job_variables": ", ".join(asked.job_variables) or None,
        "prefect_api": settings.get("prefect_api_url"),
        "reason": asked.reason,
        "idempotency_key": asked.idempotency_key,
    }
