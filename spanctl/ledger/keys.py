"""Operation keys and transaction IDs: the names that make a write happen at most once.

An *operation key* names one intended write and is the same however often an orchestrator runs it
again. A *txn ID* is the UUIDv5 (RFC 9562 §5.5) of the key and its epoch: anyone computes the same
ID for the same intent, and IDs spread evenly over Spanner's key space.
"""

import re
import uuid
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from spanctl.errors import UsageError

NAMESPACE = uuid.UUID("5f0c1f0e-3c1b-5d62-9b0c-6b8d2a4c9e11")
"""Namespace of every txn ID. Changing it would make every old key a new one."""

KEYED = "key:"
"""Begins the root of operation keys in which an idempotency key stands in for the root run."""

OUTSIDE = "keyed"
"""Root of the operation keys of calls with ``key=`` that are made outside of any flow."""

JOB = "job:"
"""Begins the root of operation keys of a named job outside of any flow."""

MIN_PREFIX = 8
_MAX_COMPONENT = 512
_PREFIX = re.compile(r"[0-9a-f]{8}(-?[0-9a-f-]*)?")


@dataclass(frozen=True, slots=True)
class OperationKey:
    """One intended write.

    Attributes:
        root: What the whole job is called: the root flow run's id, or the caller's idempotency key.
        path: Names of the subflows down to the call, each with its ordinal; empty at the root.
        step: The declared name of the step.
        call: The ordinal of this call of the step in that path (from 0), or the caller's own key.
    """

    root: str
    path: tuple[str, ...]
    step: str
    call: int | str

    def __post_init__(self) -> None:
        """Refuse parts that are empty or too long for a key.

        Raises:
            UsageError: A part is empty or longer than 512 characters.
        """
        for part in (self.root, *self.path, self.step, str(self.call)):
            if not part or len(part) > _MAX_COMPONENT:
                msg = f"a part of an operation key has {len(part)} characters"
                raise UsageError(msg, hint=f"use 1 to {_MAX_COMPONENT} characters")

    def __str__(self) -> str:
        """Write the key; no two keys are written alike."""
        parts = [self.root, *self.path, self.step]
        mark = f"#{self.call}" if isinstance(self.call, int) else f"={_encode(self.call)}"
        return "/".join(_encode(part) for part in parts) + mark

    @classmethod
    def parse(cls, text: str) -> "OperationKey":
        """Read what ``str()`` wrote.

        Raises:
            UsageError: The text is no operation key.
        """
        match = re.fullmatch(r"([^#=]+)(?:#(\d+)|=([^#=]+))", text)
        parts = [unquote(part) for part in match.group(1).split("/")] if match else []
        if match is None or len(parts) < 2:  # noqa: PLR2004 - a root and a step
            msg = f"{text!r} is no operation key"
            raise UsageError(msg)
        ordinal, named = match.group(2), match.group(3)
        call = int(ordinal) if ordinal is not None else unquote(named)
        return cls(parts[0], tuple(parts[1:-1]), parts[-1], call)

    @property
    def called(self) -> str:
        """The step and which call of it: ``chunk#12``, ``pay=invoice 7``; the first is bare."""
        if isinstance(self.call, str):
            return f"{self.step}={self.call}"
        return f"{self.step}#{self.call}" if self.call else self.step

    @property
    def prefix(self) -> str:
        """The key without its call: what all calls of this step in this path share."""
        return "/".join(_encode(part) for part in (self.root, *self.path, self.step))


def keyed_root(idempotency_key: str) -> str:
    """Return how operation keys begin in which an idempotency key stands in for the root run."""
    return _encode(f"{KEYED}{idempotency_key}")


def _encode(part: str) -> str:
    return quote(part, safe=":@+,;!~*'() ")


@lru_cache(maxsize=256)
def txn_id(key: OperationKey, epoch: int = 0) -> str:
    """Return the txn ID of an operation: a UUID in its usual 36-character form.

    Args:
        key: The operation.
        epoch: How often the operation was reopened after a fence.
    """
    return str(uuid.uuid5(NAMESPACE, f"{epoch}:{key}"))


def step_of(key: OperationKey) -> str:
    """Return an operation's path of subflows, its step, and which call of it: ``part#0/pay#2``.

    The first call is the step's bare name.
    """
    path = "/".join((*key.path, key.step))
    if isinstance(key.call, str):
        return f"{path}={key.call}"
    return f"{path}#{key.call}" if key.call else path


def is_txn_id(text: str) -> bool:
    """Tell whether the text is a whole txn ID."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def is_prefix(text: str) -> bool:
    """Tell whether the text can be a prefix of a txn ID: 8 or more of its characters."""
    return MIN_PREFIX <= len(text) <= 36 and _PREFIX.fullmatch(text.lower()) is not None  # noqa: PLR2004 - a UUID's length
