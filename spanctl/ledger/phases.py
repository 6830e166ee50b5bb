"""What is outside of every transaction (DDL, partitioned DML): a pair of entries tells of it.

The first says *started*, the second *finished*, *failed*, or that the end is *unknown*. Both are
transactions that commit; what they tell of is applied "at least once".
"""

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from spanctl.errors import UsageError
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import Receipt, StatementKind

_OUTSIDE = frozenset({StatementKind.DDL, StatementKind.PARTITIONED_DML})
CHECKED, ASSUMED = "checked", "assumed"
"""How it is known that partitioned DML may be applied twice."""

AT_LEAST_ONCE: Final = "AT_LEAST_ONCE"
"""What stands for the outcome of such entries: that they committed says nothing of the rest."""

_STARTED, _FINISHED = "-started", "-finished"


class Phase(StrEnum):
    """What an entry of a pair says."""

    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def words(self) -> str:
        """The phase as a person reads it behind its statement's kind."""
        return "end unknown" if self is Phase.UNKNOWN else self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What one entry of a pair says.

    Attributes:
        kind: DDL or partitioned DML.
        phase: What it says.
        started: The txn ID of the entry that said *started*; None for that one itself.
        status: The gRPC status with which it failed; None when it did not.
        operation: The name of DDL's long-running operation, once it is known.
        assumed: Whether a person has said that it may be applied twice, which was not checked then.
    """

    kind: StatementKind
    phase: Phase
    started: str | None = None
    status: str | None = None
    operation: str | None = None
    assumed: bool = False

    @property
    def words(self) -> str:
        """The step as a person reads it: ``ddl failed``."""
        return step_words(self.kind, self.phase)


def step_words(kind: StatementKind, phase: Phase) -> str:
    """Return what an entry is called: ``ddl started``, ``partitioned dml failed``."""
    return f"{kind.value.replace('_', ' ')} {phase.words}"


def noted(receipt: Receipt) -> Noted | None:
    """Return what an entry says of DDL or partitioned DML; None when it is no such entry."""
    kinds = {statement.kind for statement in receipt.statements} & _OUTSIDE
    if len(kinds) != 1 or not receipt.result:
        return None
    try:
        kept = json.loads(receipt.result)
        phase = Phase(kept["phase"])
    except (ValueError, KeyError, TypeError):
        return None
    return Noted(
        kind=kinds.pop(),
        phase=phase,
        started=kept.get("started"),
        status=kept.get("status"),
        operation=kept.get("operation"),
        assumed=kept.get("idempotent") == ASSUMED,
    )


def end_key(receipt: Receipt) -> OperationKey | None:
    """Return the operation key of the entry that ends what this one says has started."""
    try:
        key = OperationKey.parse(receipt.operation_key)
    except UsageError:
        return None
    if not key.step.endswith(_STARTED):
        return None
    return replace(key, step=key.step.removesuffix(_STARTED) + _FINISHED)


def step_of(receipt: Receipt) -> str:
    """Return the step of a transaction and which call of it: ``chunk#12``, ``pay=invoice 7``.

    The first call is the step's bare name; an entry of a pair is ``ddl failed``.
    """
    if pair := noted(receipt):
        return pair.words
    try:
        return OperationKey.parse(receipt.operation_key).called
    except UsageError:
        return receipt.provenance.task or receipt.operation_key
