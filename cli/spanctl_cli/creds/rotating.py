"""``spanctl creds rotate``: who mints, what was planned, and how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from spanctl.clock import now, rfc3339
from spanctl.errors import PendingError, UsageError
from spanctl_cli import exit_codes
from spanctl_cli.context import AppContext
from spanctl_cli.creds.access import Access
from spanctl_cli.output import Column, Format, Kind, Listing, Record, emit
from spanctl_cli.prompts import confirm

if TYPE_CHECKING:
    from spanctl.credentials.reference import ImpersonationReference
    from spanctl.credentials.rotation.driver import RotationResult, Rotator
    from spanctl.credentials.rotation.rounds import Turn
    from spanctl.credentials.rotation.status import SecretStatus

_COLUMNS = (
    Column("name", kind=Kind.ID),
    Column("outcome", kind=Kind.STATE),
    Column("version"),
    Column("current"),
    Column("steps"),
    Column("until", title="next step on old versions", kind=Kind.TIME),
)
_TURNS = (
    Column("name", kind=Kind.ID),
    Column("outcome", kind=Kind.STATE),
    Column("version", kind=Kind.NUMBER),
    Column("current", kind=Kind.NUMBER),
    Column("why"),
    Column("until", title="next step on old versions", kind=Kind.TIME, extra=True),
    Column("error"),
    Column("code", extra=True),
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


def rotator(app: AppContext, access: Access, status: "SecretStatus") -> "Rotator":
    """Return who rotates a secret, tells its steps on stderr, and tries credentials on Spanner.

    Raises:
        ConflictError: The secret doesn't say whose credential it holds, or holds nothing secret.
        ConfigurationError: There is no database to try credentials on.
    """
    from spanctl.credentials.rotation.planning import rotator_for
    from spanctl.spanner.admission import SpannerTester

    return rotator_for(
        status,
        store=access.store,
        endpoints=access.endpoints,
        credentials=access.credentials,
        tester=SpannerTester(access.door, access.endpoints),
        report=app.note,
    )


def plan(access: Access, status: "SecretStatus") -> Record:
    """Return what ``--dry-run`` prints: nothing was minted or written.

    Raises:
        ConflictError: It can't be rotated.
        ConfigurationError: There is no database to try credentials on.
    """
    from spanctl.credentials.rotation.minters import KeyMinter
    from spanctl.credentials.rotation.planning import minted_for, minter_for

    made = minter_for(status, access.endpoints, access.credentials)
    door, said, rotation = access.door, minted_for(status), status.rotation
    whose = said.target if said else status.principal
    kind = "service-account key" if isinstance(made, KeyMinter) else "access token"
    current = status.current
    steps = [
        f"mint one {kind} of {whose}",
        "add it as a new version, alias pending",
        f"read it back by its number and query {door.database} with it",
        "move the alias current to it" + (f", previous to version {current}" if current else ""),
    ]
    if current:
        steps.append(f"disable version {current} once its drain is over, and destroy it a day on")
    values: dict[str, Any] = {
        "name": status.name.secret,
        "mints": f"{kind} of {whose}",
        "replaces": current,
        "expires": status.expiry,
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


def ended(status: "SecretStatus", result: "RotationResult", *, waited: bool) -> Record:
    """Return what is printed of a rotation.

    Raises:
        VerificationError: The new credential did not work, and was taken back.
        ConflictError: It was refused.
        PendingError: Old versions were to be waited for, and there are some left.
    """
    from spanctl.credentials.rotation.planning import refusal

    refused = refusal(status.name, result)
    if refused is not None:
        raise refused
    if waited and result.until is not None:
        msg = f"old versions of {status.name} are kept until {rfc3339(result.until)} at least"
        hint = f"go on then with: spanctl creds rotate {status.name.secret} --resume"
        raise PendingError(msg, hint=hint, ending=result.ending.value, current=result.current)
    values = {
        "name": status.name.secret,
        "outcome": result.ending,
        "version": result.version,
        "current": result.current,
        "steps": list(result.steps),
        "until": result.until,
    }
    return Record("creds.rotation", _COLUMNS, values)


def turns(turns: "Sequence[Turn]") -> Listing:
    """Return what is printed of a round over several secrets."""
    rows = [
        {
            "name": turn.name.secret,
            "outcome": turn.outcome,
            "version": turn.version,
            "current": turn.current,
            "why": turn.why,
            "until": turn.until,
            "error": turn.error.message if turn.error else None,
            "code": turn.error.code if turn.error else None,
        }
        for turn in turns
    ]
    return Listing("creds.rotations", _TURNS, rows, empty="no credentials")


def worst(turns: "Sequence[Turn]") -> int:
    """Return the worst exit code of a round: 0 when every turn went well."""
    return max((int(exit_codes.of(turn.error)) for turn in turns if turn.error), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What was asked of ``creds rotate``."""

    resume: bool
    abort: bool
    wait: bool
    dry_run: bool
    due: bool

    def check(self, names: Sequence[str], *, every: bool, timeout: float | None) -> None:
        """Refuse what excludes each other.

        Raises:
            UsageError: Two options do.
        """
        several = every or self.due or len(names) > 1
        refused = (
            (self.resume and self.abort, "--resume and --abort exclude each other", "give one"),
            (
                timeout is not None and not self.wait,
                "--timeout is for --wait",
                "add --wait, or leave it out",
            ),
            (
                self.dry_run and (self.resume or self.abort),
                "--dry-run shows a new rotation only",
                "what is under way: spanctl creds show",
            ),
            (every and bool(names), "--all and names exclude each other", "give one"),
            (several and self.wait, "--wait is for one credential", "name one, or leave it out"),
            (
                self.due and (self.resume or self.abort),
                "--due does what is due by itself",
                "leave --resume and --abort out",
            ),
        )
        for wrong, message, hint in refused:
            if wrong:
                raise UsageError(message, hint=hint)


def several(  # noqa: PLR0913, PLR0917 - a round, told in full
    app: AppContext,
    access: Access,
    names: Sequence[str],
    chosen: Chosen,
    yes: bool,
    output: Format | None,
    fields: str | None,
) -> int:
    """Rotate several secrets one after the other, print what became of each; return the exit code.

    Without names these are all of the project.
    """
    from spanctl.credentials.rotation import rounds
    from spanctl.credentials.rotation.driver import Rotator

    wanted = [access.name(one) for one in names] or list(access.inventory.names(access.project))
    act = Rotator.abort if chosen.abort else Rotator.resume if chosen.resume else Rotator.rotate
    if chosen.abort:
        confirm(app, f"Take the last rotations of {len(wanted)} credentials back?", yes=yes)
    done = []
    for turn in rounds.run(
        access.store,
        dict.fromkeys(wanted),
        lambda status: rotator(app, access, status),
        act=act,
        due_only=chosen.due,
        dry=chosen.dry_run,
    ):
        done.append(turn)
        if turn.error is not None:
            app.warn(f"{turn.name.secret}: {turn.error.message}")
            app.note(f"hint: {turn.error.hint}")
    emit(turns(done), output, fields=fields)
    return worst(done)
