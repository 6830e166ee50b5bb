"""What is known of an operation that nothing has used: mistyped keys are refused, others told."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from spanctl.errors import NotFoundError, NotPermittedError, UnreachableError, UsageError
from spanctl.ledger import fences
from spanctl.ledger.keys import KEYED, OperationKey, is_txn_id, step_of
from spanctl.orchestration.api import PrefectApi
from spanctl.spanner import fence, receipts, requests
from spanctl.spanner.client import Database
from spanctl.spanner.limbo import OpenLease

_SOME: Final = 500
_SHOWN: Final = 8
_ALMOST_KEYED: Final = re.compile(r"\s*key\s*:\s*", re.IGNORECASE)
_STEP: Final = re.compile(r"(?P<path>.*?)(?:#(?P<ordinal>\d+)|=(?P<named>.+))?", re.DOTALL)


def under_key(idempotency_key: str, step: str) -> OperationKey:
    """Return the operation of a step, as lists show it, under an idempotency key.

    That is ``pay`` for its first call, ``pay#2``, ``pay=alice``, or ``part#0/pay`` in a subflow.

    Raises:
        UsageError: The text names no step.
    """
    *path, last = _split(step)
    match = _STEP.fullmatch(last)
    if match is None or not all(part.strip() for part in (*path, match["path"])):
        msg = f"{step!r} names no step"
        raise UsageError(msg, hint="write --step pay, --step pay#2 or --step pay=alice")
    call = match["named"] if match["named"] is not None else int(match["ordinal"] or 0)
    return OperationKey(f"{KEYED}{idempotency_key}", tuple(path), match["path"], call)


def _split(step: str) -> list[str]:
    """Split a path of subflows at its slashes; those after a ``=`` belong to the caller's key."""
    before, equals, key = step.partition("=")
    *path, last = before.split("/")
    return [*path, f"{last}{equals}{key}"]


def all_under_key(
    database: Database, idempotency_key: str, leases: Iterable[OpenLease]
) -> list[OperationKey]:
    """Return the operations under an idempotency key that are leased and have no receipt.

    Raises:
        NotFoundError: There are none.
        SpanctlError: The database could not be read.
    """
    root = f"{KEYED}{idempotency_key}"
    held = dict.fromkeys(key for lease in leases for key in lease.keys if key.root == root)
    found = [key for key, at in fence.standings(database, held).items() if at.entry is None]
    if not found:
        msg = f"nothing is leased and open under idempotency key {idempotency_key!r}"
        hint = "name the step to fence before it runs: --step STEP"
        raise NotFoundError(msg, hint=hint)
    return found


def strange(
    database: Database, api: PrefectApi | None, key: OperationKey, leases: Sequence[OpenLease]
) -> str:
    """Return why an operation may not be the one that is meant; empty where it has been used.

    Raises:
        UsageError: It is no operation that any run would use, but looks like one of another key.
        SpanctlError: The database could not be read.
    """
    stands = fence.standing(database, key)
    if stands.entry or stands.call.epoch or any(key in lease.keys for lease in leases):
        return ""
    _refuse_blanks(key)
    known = _known(database, key.root, leases)
    _refuse_other_root(database, key, known)
    ours = [one for one in known if one.root == key.root]
    if not ours:
        return f"nothing is known to have run under {key.root!r}: {_what_root(database, api, key)}"
    steps = sorted({_named(one) for one in ours})
    if _named(key) not in steps:
        more = ", ..." if len(steps) > _SHOWN else ""
        told = ", ".join(steps[:_SHOWN]) + more
        return f"no step {_named(key)} is known to have run under {key.root!r}; known are: {told}"
    return f"step {step_of(key)} is not known to have run under {key.root!r} yet"


def _named(key: OperationKey) -> str:
    return "/".join((*key.path, key.step))


def _refuse_blanks(key: OperationKey) -> None:
    parts = (key.root, *key.path, key.step, str(key.call))
    almost = _ALMOST_KEYED.match(key.root)
    if almost is not None and almost.group() != KEYED:
        meant = replace(key, root=f"{KEYED}{key.root[almost.end() :].strip()}")
        msg = f"{key.root!r} is no root of an operation key"
        raise UsageError(msg, hint=f"did you mean {str(meant)!r}?")
    if any(part != part.strip() for part in parts):
        msg = f"operation key {str(key)!r} has blanks at the ends of its parts"
        raise UsageError(msg, hint="nothing has run under it; see: spanctl txn list")


def _refuse_other_root(
    database: Database, key: OperationKey, known: Sequence[OperationKey]
) -> None:
    """Refuse a flow run's id that wrote under a key, and a key without its ``key:``."""
    if (others := {one.root for one in known} - {key.root}) and len(others) == 1:
        meant = replace(key, root=others.pop())
    elif not key.root.startswith(KEYED) and _is_key(database, key.root):
        meant = replace(key, root=f"{KEYED}{key.root}")
    else:
        return
    msg = f"nothing runs under {key.root!r}, but under {meant.root!r}"
    raise UsageError(msg, hint=f"did you mean {str(meant)!r}?")


def _is_key(database: Database, root: str) -> bool:
    if requests.read(database, f"{KEYED}{root}") is not None:
        return True
    return receipts.newest_of_key(database, root) is not None


def _known(database: Database, root: str, leases: Sequence[OpenLease]) -> list[OperationKey]:
    """Return operations of a root, or of a root flow run: some of the newest, and what is open.

    An operator's fence may stand where nothing has run: a mistyped step is known by no such one.
    """
    if root.startswith(KEYED):
        found = receipts.some_of(database, limit=_SOME, key=root.removeprefix(KEYED))
    else:
        found = receipts.some_of(database, limit=_SOME, root_run=root)
    known = [OperationKey.parse(one.operation_key) for one in found if not fences.closes(one)]
    for lease in leases:
        known += [key for key in lease.keys if root in {key.root, lease.root_run}]
    return known


def _what_root(database: Database, api: PrefectApi | None, key: OperationKey) -> str:
    if key.root.startswith(KEYED):
        asked = requests.read(database, key.root) is not None
        return "its run has not come to it" if asked else "nobody has used that idempotency key yet"
    if not is_txn_id(key.root):
        return "it is neither key:K, for an idempotency key K, nor a flow run's id"
    try:
        found = api.flow_run(key.root) if api else None
    except NotFoundError:
        return "Prefect knows no such flow run"
    except (UnreachableError, NotPermittedError):
        found = None
    return f"flow run {found.name} has not come to it" if found else "Prefect can't be asked of it"
