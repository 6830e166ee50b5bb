"""What was asked for under an idempotency key: one request a key, kept with its first lease.

The request's digest lies in a closed row of ``spanctl_intents`` whose id comes from the key alone,
inserted in the commit of a command's first lease under the key: of two requests at once, one finds
the other's. A key that a run used in a ledger that had no place for requests has none, and is
compared by its steps' arguments. Neither a fence nor plain Python's use of a key is a request: the
first command's is kept all the same.

What was asked for is told in lines, one for each version of telling it, the newest first.
"""

import hashlib
import hmac
import uuid
from typing import TYPE_CHECKING, Any, Final

from spanctl.errors import KeyReusedError
from spanctl.ledger.canonical import canonical_bytes
from spanctl.ledger.digests import VERSION, keyed
from spanctl.ledger.keys import KEYED, NAMESPACE, keyed_root
from spanctl.spanner import leases, receipts
from spanctl.spanner.applying import apply, mutation
from spanctl.spanner.identity import requests_since
from spanctl.spanner.keysets import one

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spanctl.ledger.receipt import Receipt
    from spanctl.spanner.client import Database
    from spanctl.spanner.leases import Holder, Intent

COLUMN: Final = "request"
_TYPED: Final = "typed/1"
_TIMEOUT: Final = 30.0


def digest(database: "Database", asked: str) -> str:
    """Return how a request is kept: keyed, so that short parameters can't be guessed."""
    newest, *_ = asked.splitlines()
    return VERSION + keyed(database.ledger.key, newest.encode())


def _is_kept_as(kept: str, database: "Database", asked: str) -> bool:
    """Tell whether what is kept, in whatever version, is this request."""
    if kept.startswith(VERSION):
        return hmac.compare_digest(kept, digest(database, asked))
    _, *older = asked.splitlines()
    key = database.ledger.key
    told = [hmac.new(key, line.encode(), hashlib.sha256).hexdigest() for line in older]
    return any(hmac.compare_digest(kept, one) for one in told)


def typed(database: "Database", person: str, what: "Mapping[str, Any]") -> str:
    """Return how it is kept who typed what.

    Raises:
        SpanctlError: The ledger could not be read.
    """
    told = canonical_bytes([_TYPED, person, what])
    return hmac.new(database.ledger.key, told, hashlib.sha256).hexdigest()


def row_id(root: str) -> str:
    """Return the primary key of the row that keeps what was asked for under a root."""
    return str(uuid.uuid5(NAMESPACE, f"request\n{root}"))


def read(database: "Database", root: str) -> str | None:
    """Return the digest that is kept for a root; None where there is none.

    Raises:
        SpanctlError: The ledger could not be read.
    """
    rows = list(database.read(leases.TABLE, [COLUMN], one(row_id(root))))
    return str(rows[0][0]) if rows else None


def is_new(database: "Database", root: str, asked: str) -> bool:
    """Tell whether a request is the first one under its key, so that it is to be kept.

    It isn't where the same request is kept, or where a run used the key before requests were.

    Raises:
        KeyReusedError: Something else was asked for under the key.
        SpanctlError: The ledger could not be read.
    """
    if (root, asked) in database.requests:
        return False
    key = root.removeprefix(KEYED)
    kept = read(database, root)
    if kept is None:
        return _used_before(database, key) is None
    if not _is_kept_as(kept, database, asked):
        msg = f"idempotency key {key!r} was used for another flow, or with other parameters"
        hint = (
            f"pass the same ones, or use another key; what was done under it: spanctl audit {key}"
        )
        raise KeyReusedError(msg, hint=hint)
    database.requests.add((root, asked))
    return False


def acknowledge(
    database: "Database",
    intents: "Sequence[Intent]",
    root: str,
    asked: str,
    holder: "Holder",
) -> None:
    """Insert the first leases of a run under a key, together with what was asked for.

    Raises:
        KeyReusedError: Something else was asked for under the key; nothing may commit.
        SpanctlError: As :func:`spanctl.spanner.leases.acknowledge` raises.
    """
    if is_new(database, root, asked):
        kept = mutation("insert", leases.TABLE, _row(database, intents[0], root, asked))
        rows = [mutation("insert", leases.TABLE, intent.row()) for intent in intents]
        doing = "a request was written down"
        if holder.apply(database, [*rows, kept], doing):
            database.requests.add((root, asked))
            return
        # Either the request or a lease is there, perhaps from an earlier send of the same commit.
        apply(database, [kept], timeout=_TIMEOUT, doing=doing)
        is_new(database, root, asked)
    leases.acknowledge(database, intents, holder)


def _used_before(database: "Database", key: str) -> "Receipt | None":
    """Return what a run committed under a key before the ledger had a place for requests."""
    since = requests_since(database)
    return receipts.newest_of_key(database, key, until=since, committed=True)


def _row(database: "Database", intent: "Intent", root: str, asked: str) -> dict[str, Any]:
    return {
        **intent.row(),
        "intent_id": row_id(root),
        "prefix": keyed_root(root.removeprefix(KEYED)),
        "first": None,
        "last": None,
        "keys": None,
        COLUMN: digest(database, asked),
        "open_since": None,
        "closed_at": receipts.COMMIT_TIMESTAMP,
    }
