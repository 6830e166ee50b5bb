"""The transactions of one run, each with who is behind it and the rows that it changed."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from spanctl.audit.identity import identities
from spanctl.audit.model import Coverage, Link, Part, Source, SourceName
from spanctl.errors import NotPermittedError, SpanctlError, UnreachableError
from spanctl.ledger.receipt import Receipt
from spanctl.spanner.client import Database
from spanctl.spanner.committed import Changes, StreamState, for_transactions

SHOWN: Final = 50
"""So many transactions of a run have their rows read; the others show them one by one."""
_NAMED: Final = 5


def parts_of(database: Database, entries: Sequence[Receipt]) -> tuple[tuple[Part, ...], Source]:
    """Return a run's transactions in their order, and what came of the change stream."""
    read = entries[:SHOWN]
    changes, source = _changes(database, read)
    behind = identities(entries, database.target)
    parts = tuple(
        Part(receipt=one, identity=behind[one.txn_id], changes=changes.get(one.txn_id))
        for one in entries
    )
    if left := len(entries) - len(read):
        note = f"{source.note}; of the last {left:,} no rows are read: spanctl audit TXN_ID"
        source = replace(source, note=note)
    return parts, source


def _changes(database: Database, entries: Sequence[Receipt]) -> tuple[dict[str, Changes], Source]:
    name = SourceName.CHANGE_STREAM
    if not entries:
        return {}, Source(
            name, Coverage.PRESENT, Link.ABSENT, "there is no transaction to look for"
        )
    try:
        found = for_transactions(database, entries)
    except NotPermittedError as error:
        return {}, Source(name, Coverage.DENIED, Link.ABSENT, error.message)
    except UnreachableError as error:
        return {}, Source(name, Coverage.UNREACHABLE, Link.ABSENT, error.message)
    except SpanctlError as error:
        return {}, Source(name, Coverage.UNSUPPORTED, Link.ABSENT, error.message)
    return found, _told(name, list(found.values()))


def _told(name: SourceName, found: Sequence[Changes]) -> Source:
    states = {one.state for one in found}
    if states == {StreamState.EXPIRED}:
        note = "the stream doesn't reach back to these commits: too old, or made later"
        return Source(name, Coverage.EXPIRED, Link.ABSENT, note)
    if StreamState.PRESENT not in states:
        note = "no change stream holds these receipts; run: spanctl init --table TABLE"
        return Source(name, Coverage.DISABLED, Link.ABSENT, note)
    partly = [one for one in found if not one.complete]
    if not partly:
        return Source(name, Coverage.PRESENT, Link.PROVEN, "complete")
    note = f"not complete: {len(partly):,} of {len(found):,} transactions"
    if reasons := "; ".join(_reasons(partly)):
        note = f"{note}: {reasons}"
    return Source(name, Coverage.PRESENT, Link.PROVEN, note)


def _reasons(partly: Iterable[Changes]) -> list[str]:
    """Return why they aren't complete, each reason once, and not too many."""
    reasons = list(dict.fromkeys(str(gap) for one in partly for gap in one.gaps))
    more = len(reasons) - _NAMED
    return [*reasons[:_NAMED], *([f"{more:,} more reasons"] if more > 0 else [])]
