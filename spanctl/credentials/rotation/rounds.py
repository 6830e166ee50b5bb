"""A round over several secrets: each rotated by itself, whatever became of the others."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from spanctl.credentials.rotation.driver import Rotator
from spanctl.credentials.rotation.planning import refusal
from spanctl.credentials.rotation.ports import SecretStore
from spanctl.credentials.rotation.results import RotationResult
from spanctl.credentials.rotation.status import CredentialState, SecretStatus, read_status
from spanctl.errors import NotPermittedError, SpanctlError
from spanctl.references import SecretName

NOT_DUE: Final = "not due"
KEYLESS: Final = "keyless"
FAILED: Final = "failed"
PLANNED: Final = "planned"

Act = Callable[[Rotator], RotationResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What became of one secret.

    Attributes:
        name: The secret.
        outcome: How it ended: an :class:`~spanctl.credentials.rotation.actions.Ending`, or one of
            ``not due``, ``keyless``, ``failed``, ``planned``.
        why: Why it was its turn; empty when it wasn't due.
        version: The version that was promoted; None when none was.
        current: The version that is current.
        until: When the next step on old versions is due; None when none is left.
        error: Why it failed; None when it didn't.
    """

    name: SecretName
    outcome: str
    why: str = ""
    version: int | None = None
    current: int | None = None
    until: datetime | None = None
    error: SpanctlError | None = None


def run(  # noqa: PLR0913 - a round, told in full
    store: SecretStore,
    names: Iterable[SecretName],
    rotator: Callable[[SecretStatus], Rotator],
    *,
    act: Act = Rotator.rotate,
    due_only: bool = False,
    dry: bool = False,
) -> Iterator[Turn]:
    """Yield each secret's turn as it ends. An error of one is told in its turn, not raised.

    Args:
        store: Secret Manager.
        names: The secrets.
        rotator: Returns who rotates a secret.
        act: What is asked of each rotator.
        due_only: Leave those alone that are not due; where only old versions are, end these.
        dry: Say what would be done, and do nothing.
    """
    for name in names:
        try:
            yield _turn(store, name, rotator, act=act, due_only=due_only, dry=dry)
        except SpanctlError as error:
            yield Turn(name=name, outcome=FAILED, error=error)


def _turn(  # noqa: PLR0913 - as above
    store: SecretStore,
    name: SecretName,
    rotator: Callable[[SecretStatus], Rotator],
    *,
    act: Act,
    due_only: bool,
    dry: bool,
) -> Turn:
    status = read_status(store, name)
    if status.trouble is CredentialState.UNREADABLE:
        # What can't be read might well be what is to be replaced, but by somebody who may know.
        raise NotPermittedError(status.problem, hint="grant roles/secretmanager.secretAccessor")
    why = status.why_due()
    if status.kind is not None and status.kind.is_keyless:
        return Turn(name=name, outcome=KEYLESS, current=status.current)
    if due_only and not why:
        return Turn(name=name, outcome=NOT_DUE, current=status.current)
    chosen = rotator(status)
    if dry:
        return Turn(name=name, outcome=PLANNED, why=why, current=status.current)
    only_old = due_only and not status.rotation and not status.problem and not status.expires_soon
    result = chosen.tidy() if only_old else act(chosen)
    return Turn(
        name=name,
        outcome=result.ending,
        why=why,
        version=result.version,
        current=result.current,
        until=result.until,
        error=refusal(name, result),
    )
