"""Who asked for a run, why, and on which database: what the call of a step doesn't say itself."""

import getpass
import os
import shlex
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Union

from spanctl.errors import UsageError

if TYPE_CHECKING:
    from spanctl.flows.blocks import SpannerDatabase
    from spanctl.spanner.rpc import Target

LABEL_PREFIX = "spanctl."
IDEMPOTENCY_KEY_LABEL = f"{LABEL_PREFIX}idempotency_key"
INITIATOR_LABEL = f"{LABEL_PREFIX}initiator"
REASON_LABEL = f"{LABEL_PREFIX}reason"
LEDGER_LABEL = f"{LABEL_PREFIX}ledger_id"
ATTESTATION_LABEL = f"{LABEL_PREFIX}attestation"
SALT_LABEL = f"{LABEL_PREFIX}attestation_salt"
PROCESS_LABEL = f"{LABEL_PREFIX}process"
"""The process that a flow run is in the hands of: its worker's, then its engine's."""
DATABASE_LABEL = f"{LABEL_PREFIX}database"
"""The database of the context that the process runs in; a run may write to others."""
USER_LABEL = f"{LABEL_PREFIX}user"
TARGET_LABEL = f"{LABEL_PREFIX}target"
FOLDER_LABEL = f"{LABEL_PREFIX}folder"
HOST_LABEL = f"{LABEL_PREFIX}host"
CODE_LABEL = f"{LABEL_PREFIX}code"
UPKEEP_TAG = "spanctl.upkeep"
"""The tag of what spanctl does by itself: the next run makes up for one that died."""
SETTLED_LABEL = f"{LABEL_PREFIX}settled"
"""Who has ended a flow run for good: it is not run again by itself until a person has it run."""
RECOVER_TAG = "spanctl.recover"
"""The tag of flow runs that are to be run again should their process die."""

FLOW_KEY_LABEL = f"{LABEL_PREFIX}flow_key"
"""The idempotency key that a flow's code names, where a statement tells what the run was asked for
with: it says under which key to look, and makes none."""
_KEPT_BY_EXECUTORS = frozenset(
    {
        PROCESS_LABEL,
        DATABASE_LABEL,
        SETTLED_LABEL,
        FLOW_KEY_LABEL,
        ATTESTATION_LABEL,
        SALT_LABEL,
    }
)

DatabaseLike = Union["Target", "SpannerDatabase", str]
"""A database: a target, a block, a block's name, or ``projects/P/instances/I/databases/D``."""


def key_of(labels: Mapping[str, object]) -> str | None:
    """Return the idempotency key that a root flow run has written under; None for none."""
    key = labels.get(IDEMPOTENCY_KEY_LABEL, labels.get(FLOW_KEY_LABEL))
    return None if key is None else str(key)


def asked_with(labels: Mapping[str, object]) -> dict[str, str]:
    """Return the labels of spanctl's that a flow run was asked for with.

    Left out are those that whoever executes it puts on it; none of them enters a key or a receipt.
    """
    return {
        name: str(value)
        for name, value in labels.items()
        if name.startswith(LABEL_PREFIX)
        and name not in _KEPT_BY_EXECUTORS
        and not name.startswith(f"{LEDGER_LABEL}.")
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What applies to every step called within :func:`using`. Initiator and reason are *claimed*.

    Attributes:
        database: The database of steps that name none themselves.
        initiator: Who asked; ``user@host`` of this process when nothing is said.
        reason: Why, in the person's words.
        idempotency_key: Stands in for the root flow run's id in operation keys, so that another
            flow run with the same key is the same job.
        job: Names the job that calls outside of flows belong to: the root of their operation keys.
    """

    database: DatabaseLike | None = None
    initiator: str | None = None
    reason: str | None = None
    idempotency_key: str | None = None
    job: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        """The flow-run labels that carry it to whichever process executes or retries the run."""
        data = {
            IDEMPOTENCY_KEY_LABEL: self.idempotency_key,
            INITIATOR_LABEL: self.initiator,
            REASON_LABEL: self.reason,
        }
        return {label: value for label, value in data.items() if value is not None}

    @classmethod
    def from_labels(cls, labels: Mapping[str, object]) -> "Invocation":
        """Read the labels of a root flow run."""

        def text(label: str) -> str | None:
            value = labels.get(label)
            return None if value is None else str(value)

        return cls(
            initiator=text(INITIATOR_LABEL),
            reason=text(REASON_LABEL),
            idempotency_key=text(IDEMPOTENCY_KEY_LABEL),
        )

    def over(self, other: "Invocation") -> "Invocation":
        """Return this one, with what it leaves open taken from ``other``."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(other, **{name: value for name, value in given.items() if value is not None})


def typed_again(key: str | None, committed: int | None = None) -> str:
    """Say what a run that has ended does when the command that ran it is typed again.

    Args:
        key: Its idempotency key.
        committed: How many of its transactions committed; None where that isn't known here.
    """
    if key is not None:
        return f"the same command with --idempotency-key {shlex.quote(key)} goes on"
    if committed is None:
        return "it had no idempotency key: typed again, what it committed is done once more"
    if committed == 0:
        return "it had no idempotency key: typed again, it begins anew"
    what = "committed transaction is" if committed == 1 else "committed transactions are"
    return f"it had no idempotency key: typed again, its {committed:,} {what} done once more"


_current: ContextVar[Invocation] = ContextVar("spanctl_invocation", default=Invocation())  # noqa: B039 - frozen


def current() -> Invocation:
    """Return what :func:`using` has set for this thread or asyncio task."""
    return _current.get()


@contextmanager
def using(
    *,
    database: DatabaseLike | None = None,
    initiator: str | None = None,
    reason: str | None = None,
    idempotency_key: str | None = None,
    job: str | None = None,
) -> Iterator[Invocation]:
    """Apply a database, an initiator, a reason or an idempotency key to every step called inside.

    What is left out stays as it was. The root flow run gets initiator, reason and key as labels at
    its first step, so that a later retry in another process is still the same job.

    A job's name is for calls outside of flows: two programs whose steps share a name and a key each
    write under the name of their own job. Inside a flow the flow run is the job.

    Raises:
        UsageError: The idempotency key or the job's name is empty; or a text is no Unicode, which
            no receipt could hold.
    """
    for what, text in (("an idempotency key", idempotency_key), ("a job's name", job)):
        if text is not None and not text.strip():
            msg = f"{what} can't be empty"
            raise UsageError(msg)
    for what, text in {"initiator": initiator, "reason": reason, "key": idempotency_key}.items():
        try:
            (text or "").encode()
        except UnicodeEncodeError:
            msg = f"the {what} holds what is no Unicode text"
            raise UsageError(msg, hint="write it in UTF-8, without lone surrogates") from None
    given = Invocation(
        database=database,
        initiator=initiator,
        reason=reason,
        idempotency_key=idempotency_key,
        job=job,
    )
    token = _current.set(given.over(_current.get()))
    try:
        yield _current.get()
    finally:
        _current.reset(token)


@cache
def user_at_host() -> str:
    """Return ``user@host`` of this process: a claim, nothing more."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid, as in many containers
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def executor() -> str:
    """Return who executes: ``user@host pid N``."""
    return f"{user_at_host()} pid {os.getpid()}"
