"""Checks of credentials: are they live, what may they do, and does Google keep a log of it?"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from spanctl.clock import now
from spanctl.errors import NotFoundError, NotPermittedError
from spanctl.health.configuration import unsetting
from spanctl.health.model import Answer, fail, ok, unknown, unsupported, warn
from spanctl.health.surroundings import Surroundings
from spanctl.references import (
    ChainReference,
    CredentialReference,
    ImpersonationReference,
    SecretReference,
    parse_reader,
    parse_reference,
)
from spanctl.settings import Source

if TYPE_CHECKING:
    from spanctl.spanner.rpc import Target

_NO_CREDENTIALS: Final = "the emulator asks nobody for credentials"
_ROTATE: Final = "spanctl creds rotate"
_LOG_IN: Final = "gcloud auth application-default login"
_SOON: Final = timedelta(minutes=10)
_MINUTE: Final = 60
_PROJECTS: Final = "https://cloudresourcemanager.googleapis.com/v1/projects"
_CONSOLE: Final = "https://console.cloud.google.com/iam-admin/audit"


def credentials(around: Surroundings) -> Answer:
    """Say whose the credentials are, until when their token lives, and whether it is a key."""
    target = around.target()
    live = target.live_credentials()
    if live is None:
        return unsupported(_NO_CREDENTIALS)
    from spanctl.credentials.http import Http
    from spanctl.credentials.identity import identify
    from spanctl.credentials.rotation.ports import VersionStateError

    try:
        live.ensure()
    except (NotPermittedError, VersionStateError) as error:
        hint = _renewing(around, target.credentials) if _ROTATE in error.hint else ""
        hint = hint or error.hint
        raise type(error)(error.message, hint=hint, **error.details) from None
    if (token := live.live) is None:
        msg = "there is no live token"
        raise NotPermittedError(msg, hint="run: spanctl creds check")
    who = identify(Http(target.identity), target.identity, token)
    expiry = who.expiry or token.expiry
    left = expiry - now()
    facts: dict[str, Any] = {
        "reference": target.credentials,
        "principal": who.name,
        "standing": who.standing.value,
        "chain": list(who.chain),
        "expires": expiry,
    }
    told = f"{who} ({who.standing.value}), by {target.credentials}; token for {_minutes(left)}"
    reference = parse_reference(target.credentials)
    if not isinstance(reference, SecretReference):
        return ok(told, **facts)
    return _kept_in_secret(reference, target, told, left, facts)


def _renewing(around: Surroundings, text: str) -> str:
    """Return what renews credentials that are refused; empty where that isn't known."""
    reference: CredentialReference = parse_reference(text)
    while isinstance(reference, ImpersonationReference):
        reference = reference.base
    if isinstance(reference, SecretReference):
        return f"run: {_ROTATE} {reference.name.secret}"
    if isinstance(reference, ChainReference):
        return ""
    settings = around.settings()
    named = settings.values["adc_file"]
    if named.source is Source.CONTEXT and settings.context:
        return f"run: {unsetting(settings.context, ['adc_file'])} && {_LOG_IN}"
    names = (named.origin if named.value else "", "GOOGLE_APPLICATION_CREDENTIALS")
    given = [name for name in names if around.environ.get(name)]
    forgotten = f"unset {' '.join(given)} && " if given else ""
    return f"run: {forgotten}{_LOG_IN}"


def _kept_in_secret(
    reference: SecretReference, target: "Target", told: str, left: timedelta, facts: dict[str, Any]
) -> Answer:
    """Look at the secret that the credentials are in, too: is it a key, or due for rotation?"""
    from spanctl.credentials.resolve import resolve_store
    from spanctl.credentials.rotation.status import CredentialState, read_status

    name = reference.name.secret
    store = resolve_store(parse_reader(target.secret_reader), target.identity)
    try:
        status = read_status(store, reference.name)
    except NotPermittedError:
        # Who may access the payload need not be allowed to look at the secret itself.
        rotate = f"spanctl creds rotate {name}"
        return warn(f"{told}: soon over", rotate, **facts) if left < _SOON else ok(told, **facts)
    finally:
        store.close()
    facts |= {"secret": str(reference.name), "state": status.state.value}
    if status.is_key:
        mend = f"spanctl context set credentials=impersonate:{status.principal}"
        return warn(f"{told}; a key, which works for whoever has it", mend, **facts)
    if status.state is not CredentialState.OK:
        resume = " --resume" if status.state is CredentialState.ABANDONED else ""
        mend = f"spanctl creds rotate {name}{resume}"
        return warn(f"{told}; the secret is {status.state.value}", mend, **facts)
    return ok(told, **facts)


def _minutes(left: timedelta) -> str:
    seconds = max(0, int(left.total_seconds()))
    return f"{seconds // _MINUTE} min" if seconds >= _MINUTE else f"{seconds} s"


def permissions(around: Surroundings) -> Answer:
    """Ask which of the permissions that flows need the credentials have, and which they don't."""
    target = around.target()
    live = target.live_credentials()
    if live is None:
        return unsupported("the emulator has no IAM")
    from spanctl.spanner.admission import READING, Door

    door = Door(
        database=target.database,
        endpoint=target.endpoint,
        ca_file=target.identity.ca_file,
        timeout=around.timeout,
    )
    admission = door.enter(live)
    facts: dict[str, Any] = {
        "permissions": sorted(admission.permissions),
        "reads": admission.reads,
        "writes": admission.writes,
        "enough": admission.enough,
        "excess": list(admission.excess),
    }
    if not admission.reads:
        missing = ", ".join(sorted(set(READING) - admission.permissions))
        msg = f"the credentials lack {missing}"
        hint = "grant roles/spanner.databaseReader at least, databaseUser to write"
        return fail(NotPermittedError(msg, hint=hint), **facts)
    if admission.excess:
        told = f"more than a flow needs: {', '.join(admission.excess)}"
        if target.is_emulated:
            return ok(f"reads and writes; on this local stack {told}", **facts)
        return warn(told, f"grant {admission.enough} instead", **facts)
    if not admission.writes:
        return warn("reads, may not write", "grant roles/spanner.databaseUser to write", **facts)
    return ok(f"reads and writes; {admission.enough} is enough for that", **facts)


def audit_logs(around: Surroundings) -> Answer:
    """Say whether Google logs who commits (Data Access logs, off by default)."""
    target = around.target()
    if target.is_emulated:
        return unsupported("an emulator writes no Cloud Audit Logs")
    live = target.live_credentials()
    if live is None or not target.identity.are_google_s:
        return unsupported("no Cloud Audit Logs where credentials aren't Google's")
    project = target.database.project
    from spanctl.credentials.http import Http, call

    try:
        policy = call(
            Http(target.identity),
            "POST",
            f"{_PROJECTS}/{project}:getIamPolicy",
            "reading the project's audit configuration",
            token=live.ensure(),
            body={"options": {"requestedPolicyVersion": 3}},
        )
    except (NotPermittedError, NotFoundError) as error:
        told = f"the project's policy may not be read: {error.message}"
        return unknown(told, "grant resourcemanager.projects.getIamPolicy")
    return logged(policy, project)


def logged(policy: dict[str, Any], project: str) -> Answer:
    """Say what a project's policy has logged of commits."""
    kinds: set[str] = set()
    exempted: set[str] = set()
    for config in policy.get("auditConfigs", ()):
        if config.get("service") in {"allServices", "spanner.googleapis.com"}:
            for one in config.get("auditLogConfigs", ()):
                kinds.add(str(one.get("logType")))
                if one.get("logType") == "DATA_WRITE":
                    exempted.update(map(str, one.get("exemptedMembers", ())))
    facts = {"log_types": sorted(kinds), "exempted": sorted(exempted)}
    mend = f"switch on DATA_WRITE of Cloud Spanner: {_CONSOLE}?project={project}"
    if "DATA_WRITE" not in kinds:
        told = "off in the project (a folder's policy isn't seen): Google keeps no log of commits"
        return warn(told, mend, **facts)
    if exempted:
        return warn(f"on, but for {', '.join(sorted(exempted))}", mend, **facts)
    return ok("on: Google logs the principal of each commit", **facts)
