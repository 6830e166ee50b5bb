"""What a trail's transactions come to: who is behind them, and the rows that changed."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from spanctl.audit.model import Part, Trail, told_of
from spanctl.ledger.phases import step_of
from spanctl.ledger.receipt import Receipt
from spanctl.spanner.changes import RowChange
from spanctl.spanner.committed import Changes
from spanctl.spanner.completeness import Gap
from spanctl_cli.views.standing import least, words


def rows_changed(receipt: Receipt, changes: Changes | None) -> int:
    """Return how many rows changed: counted where all are known, else as the receipt says."""
    return len(changes.rows) if changes and changes.complete else receipt.rows


def is_complete(trail: Trail) -> bool:
    """Tell whether it is proven that the trail shows every row that changed."""
    known = [one.changes for one in trail.parts] or [trail.changes]
    return all(one is not None and one.complete for one in known)


def gaps_of(part: Part) -> Sequence[Gap]:
    """Return what is not known of the rows of a transaction."""
    return part.changes.gaps if part.changes else ()


def behind(parts: Sequence[Part]) -> dict[str, Any]:
    """Return who asked for a run's transactions, who wrote them and why: each name once.

    What they all share is as sure as the least sure of them.
    """

    def each(names: Iterable[str | None]) -> str | None:
        return ", ".join(dict.fromkeys(name for name in names if name)) or None

    origins = [one.receipt.provenance for one in parts]
    asked = least(one.identity.initiator for one in parts)
    signers = [name for one in origins for name in one.initiator_chain]
    return {
        "initiator": each(one.initiator for one in origins),
        "initiator_standing": words(asked, signers) if asked else None,
        "executor": each(one.executor for one in origins),
        "executor_standing": least(one.identity.executor for one in parts),
        "reason": each(one.reason for one in origins),
    }


def changed(trail: Trail) -> Iterator[tuple[str, RowChange]]:
    """Yield the rows that changed, of a run as of a transaction, each with its txn ID."""
    if trail.changes:
        yield from ((trail.id, row) for row in trail.changes.rows)
    for one in trail.parts:
        yield from ((one.receipt.txn_id, row) for row in (one.changes.rows if one.changes else ()))


def part_values(part: Part) -> dict[str, Any]:
    """Return a transaction of a run, by column."""
    receipt, origin = part.receipt, part.receipt.provenance
    return {
        "txn_id": receipt.txn_id,
        "commit_timestamp": receipt.commit_timestamp,
        "outcome": told_of(receipt),
        "rows": rows_changed(receipt, part.changes),
        "rows_at_least": receipt.rows_at_least,
        "task": origin.task,
        "step": step_of(receipt),
        "operation_key": receipt.operation_key,
        "flow_run": origin.flow_run,
        "attempt": origin.attempt,
        "initiator": origin.initiator,
        "initiator_standing": words(part.identity.initiator, origin.initiator_chain),
        "executor": origin.executor,
        "executor_standing": part.identity.executor,
        "reason": origin.reason,
        "changes_complete": bool(part.changes and part.changes.complete),
    }
