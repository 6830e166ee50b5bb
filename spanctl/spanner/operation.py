"""One operation: its name, its bounds, its tag."""

from dataclasses import dataclass
from math import inf
from typing import Final

from spanctl.errors import UsageError
from spanctl.ledger.digests import ModuleNames
from spanctl.ledger.keys import OperationKey, txn_id
from spanctl.ledger.step_identity import StepIdentity

COPY_FIRST: Final = "let the body work on a copy, as in: items = list(items)"
"""Hint for a body that changes what it was given."""

_MAX_TAG: Final = 50


@dataclass(frozen=True, slots=True)
class Call:
    """One operation that may commit: its key, and how often it was reopened. It pickles."""

    key: OperationKey
    epoch: int = 0

    @property
    def txn_id(self) -> str:
        """The txn ID of the operation in this epoch."""
        return txn_id(self.key, self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """Which function an operation is.

    Attributes:
        step: Its identity.
        names: What modules are called, in the identity and in the arguments' digest.
        unnamed: The key under which it was committed, if it was, before its job had a name.
    """

    step: StepIdentity
    names: ModuleNames
    unnamed: OperationKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionOptions:
    """How long to try, and what to keep.

    Attributes:
        deadline: Seconds for the whole operation, its attempts and their resolution.
        rpc_timeout: Longest wait for the reply to one RPC, in seconds; by default what is left of
            the deadline, and half a minute for a Commit, which is then sent again.
        resolve_timeout: Seconds on top of the deadline in which an open outcome is still resolved.
        idle_limit: Seconds for which a body that has begun may send nothing: the server itself
            gives up idle transactions after 10 s.
        keep_result: Whether the receipt keeps what the body returned (JSON, at most 64 KiB).
        undoes: The txn ID that this operation undoes.
    """

    deadline: float = 60.0
    rpc_timeout: float = inf
    resolve_timeout: float = 15.0
    idle_limit: float = 8.0
    keep_result: bool = False
    undoes: str | None = None


def check_tag(tag: str | None) -> None:
    """Refuse a transaction tag that Spanner would refuse.

    Raises:
        UsageError: It is longer than 50 characters or not printable ASCII.
    """
    if tag and (len(tag) > _MAX_TAG or not tag.isascii() or not tag.isprintable()):
        msg = "a transaction tag has at most 50 printable ASCII characters"
        raise UsageError(msg)
