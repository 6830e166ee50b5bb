"""``spanctl creds rotate``: who mints, what was planned, and how it ended."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from spanctl.clock import now, rfc3339
from spanctl.errors import (
    ConfigurationError,
    ConflictError,
    PendingError,
    UsageError,
    VerificationError,
)
from spanctl_cli.context import AppContext
from spanctl_cli.creds.access import Access, keyless
from spanctl_cli.creds.facts import Facts
from spanctl_cli.output import Column, Kind, Record

if TYPE_CHECKING:
    from spanctl.credentials.document import CredentialDocument
    from spanctl.credentials.reference import ImpersonationReference
    from spanctl.credentials.rotation.driver import RotationResult, Rotator
    from spanctl.credentials.rotation.ports import Minter

_KEYS_SETTLE = timedelta(seconds=90)
_COLUMNS = (
    Column("name", kind=Kind.ID),
    Column("outcome", kind=Kind.STATE),
    Column("version"),
    Column("current"),
    Column("steps"),
    Column("until", title="next step on old versions", kind=Kind.TIME),
)
_PLAN = (
    Column("name", kind=Kind.ID),
    Column("mints"),
    Column("replaces"),
    Column("expires", kind=Kind.TIME),
    Column("tested_on", title="tested on"),
    Column("under_way", title="under way"),
    Column("steps"),
)


def impersonation(target: str, delegates: list[str]) -> "ImpersonationReference":
    """Read whose tokens to mint.

    Raises:
        UsageError: An address is none.
    """
    from spanctl.credentials.reference import ImpersonationReference, parse_reference

    via = f"@via:{'+'.join(delegates)}" if delegates else ""
    try:
        parsed = parse_reference(f"impersonate:{target}{via}")
    except UsageError:
        parsed = None
    if not isinstance(parsed, ImpersonationReference) or parsed.target != target:
        msg = "what was given is no service account"
        raise UsageError(msg, hint="write --impersonate NAME@PROJECT.iam.gserviceaccount.com")
    return parsed


def rotator(app: AppContext, access: Access, facts: Facts) -> "Rotator":
    """Return who rotates a secret, with the mint that fits what is in it.

    Raises:
        ConflictError: The secret doesn't say whose credential it holds, or holds nothing secret.
        ConfigurationError: There is no database to try credentials on.
    """
    from spanctl.credentials.rotation.driver import Rotator
    from spanctl.credentials.rotation.minters import KeyMinter
    from spanctl.spanner.admission import SpannerTester

    made = minter(access, facts)
    return Rotator(
        store=access.store,
        name=facts.name,
        minter=made,
        tester=SpannerTester(access.door, access.endpoints),
        settle=_KEYS_SETTLE if isinstance(made, KeyMinter) else timedelta(0),
        report=app.note,
    )


def minter(access: Access, facts: Facts) -> "Minter":
    """Return the mint for a secret: the one it was created with, else the one of what is in it."""
    from spanctl.credentials.document import DocumentKind
    from spanctl.credentials.rotation.minters import KeyMinter, TokenMinter

    document, said = facts.document, _said(facts)
    if said is not None:
        _agree(facts, document, said.target)
        return TokenMinter(
            access.endpoints, access.credentials, said.target, delegates=said.delegates
        )
    if document is None or document.principal is None:
        msg = f"nothing says whose credential {facts.name} holds"
        raise ConflictError(msg, hint="make another: spanctl creds create NAME --impersonate EMAIL")
    if document.kind is DocumentKind.SERVICE_ACCOUNT_KEY:
        return KeyMinter(access.endpoints, access.credentials, document.principal)
    if document.kind.is_keyless:
        raise keyless(document.kind)
    return TokenMinter(
        access.endpoints,
        access.credentials,
        document.principal,
        delegates=document.delegates,
        scopes=document.scopes,
    )


def _said(facts: Facts) -> "ImpersonationReference | None":
    from spanctl.credentials.inventory import MINTS
    from spanctl.credentials.reference import ImpersonationReference, parse_reference

    text = facts.annotations.get(MINTS)
    if not text:
        return None
    try:
        parsed = parse_reference(text)
    except UsageError:
        parsed = None
    if not isinstance(parsed, ImpersonationReference):
        msg = f"the annotation {MINTS} of {facts.name} is no impersonate: reference"
        raise ConfigurationError(msg, hint="write impersonate:EMAIL there, or remove it")
    return parsed


def _agree(facts: Facts, document: "CredentialDocument | None", target: str) -> None:
    """Refuse a rotation that would put somebody else's credential in the place of the old one."""
    if document is None or document.principal in {None, target}:
        return
    msg = f"{facts.name} holds a credential of {document.principal} and would get one of {target}"
    raise ConflictError(msg, hint="correct the secret's annotation spanctl-mints")


def plan(access: Access, facts: Facts) -> Record:
    """Return what ``--dry-run`` prints: nothing was minted or written.

    Raises:
        ConflictError: It can't be rotated.
        ConfigurationError: There is no database to try credentials on.
    """
    from spanctl.credentials.rotation.minters import KeyMinter

    made, door = minter(access, facts), access.door
    said = _said(facts)
    document, rotation = facts.document, facts.under_way
    whose = said.target if said else (document.principal if document else None)
    kind = "service-account key" if isinstance(made, KeyMinter) else "access token"
    current = facts.seen.promoted[0]
    steps = [
        f"mint one {kind} of {whose}",
        "add it as a new version, alias pending",
        f"read it back by its number and query {door.database} with it",
        "move the alias current to it" + (f", previous to version {current}" if current else ""),
    ]
    if current:
        steps.append(f"disable version {current} once its drain is over, and destroy it a day on")
    values: dict[str, Any] = {
        "name": facts.name.secret,
        "mints": f"{kind} of {whose}",
        "replaces": current,
        "expires": document.expiry if document else None,
        "tested_on": f"{door.database} at {door.endpoint}",
        "under_way": f"{rotation.phase.value}, by {rotation.who}" if rotation else None,
        "steps": steps,
    }
    return Record("creds.plan", _PLAN, values)


def patience(wait: bool, timeout: float | None) -> datetime | None:
    """Return until when to stay for old versions; None not to stay."""
    if not wait:
        return None
    return datetime.max.replace(tzinfo=UTC) if timeout is None else now() + timedelta(0, timeout)


def ended(facts: Facts, result: "RotationResult", *, waited: bool) -> Record:
    """Return what is printed of a rotation.

    Raises:
        VerificationError: The new credential did not work, and was taken back.
        ConflictError: It was refused.
        PendingError: Old versions were to be waited for, and there are some left.
    """
    from spanctl.credentials.rotation.actions import Ending

    if result.ending in {Ending.FAILED, Ending.REFUSED}:
        _refuse(facts, result)
    if waited and result.until is not None:
        msg = f"old versions of {facts.name} are kept until {rfc3339(result.until)} at least"
        hint = f"go on then with: spanctl creds rotate {facts.name.secret} --resume"
        raise PendingError(msg, hint=hint, ending=result.ending.value, current=result.current)
    values = {
        "name": facts.name.secret,
        "outcome": result.ending,
        "version": result.version,
        "current": result.current,
        "steps": list(result.steps),
        "until": result.until,
    }
    return Record("creds.rotation", _COLUMNS, values)


def _refuse(facts: Facts, result: "RotationResult") -> NoReturn:
    from spanctl.credentials.rotation.actions import Ending

    why = result.steps[-1] if result.steps else "it was refused"
    kept = f"version {result.current} is current" if result.current else "no version is current"
    if result.ending is Ending.FAILED:
        msg = f"the new credential of {facts.name} was not let in to Spanner; {kept}"
        raise VerificationError(msg, hint="check the service account's roles, then rotate again")
    hint = f"look: spanctl creds show {facts.name.secret}"
    msg = f"{facts.name} was not rotated: {why}; {kept}"
    raise ConflictError(msg, hint=hint)
