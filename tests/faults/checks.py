"""What must hold whatever was injected: the row, the receipt and the report tell the same."""

import threading
from collections.abc import Callable
from typing import Any

from tests.faults import raw
from tests.faults.proxy import FaultProxy, Rpc

PROVES_NOT_COMMITTED = {
    "ABORTED",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "OUT_OF_RANGE",
    "PERMISSION_DENIED",
}
_GUARD = 90


def truth(address: str, name: str, txn_id: str) -> tuple[int, int, int]:
    """Return row 1's value, the events written, and the receipts of a transaction."""
    value = raw.rows(address, name, "SELECT v FROM t WHERE k = 1")[0][0]
    events = raw.rows(address, name, "SELECT COUNT(*) FROM events")[0][0]
    receipts = raw.rows(
        address,
        name,
        "SELECT COUNT(*) FROM spanctl_receipts WHERE txn_id = @id AND kind = 'COMMITTED'",
        id=txn_id,
    )[0][0]
    return int(value), int(events), int(receipts)


def rollbacks_are_right(proxy: FaultProxy) -> None:
    """Every transaction was committed or rolled back, and none rolled back while in doubt."""
    for transaction in _begun(proxy.rpcs()):
        mine = [one for one in proxy.rpcs() if one.transaction == transaction]
        commits = [one for one in mine if one.method == "Commit"]
        rollbacks = [one for one in mine if one.method == "Rollback"]
        if any(one.answered == "ABORTED" for one in mine):
            continue  # the server has ended it, so both are right
        if commits and commits[0].answered not in PROVES_NOT_COMMITTED:
            assert not rollbacks, f"rolled back after Commit was answered {commits[0].answered}"
        else:
            assert rollbacks, f"left open after {[(one.method, one.answered) for one in mine]}"


def _begun(log: list[Rpc]) -> list[str]:
    """Return the read-write transactions whose id the client got to know, in order."""
    known = {one.transaction: None for one in log if one.peek.begins and one.answered == "OK"}
    return [transaction for transaction in known if transaction]


def within_reason(work: Callable[[], Any]) -> Any:
    """Run in a thread and return or raise what it did; fail if it hangs."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append((work(), None))
        except BaseException as error:  # noqa: BLE001 - carried to the test's thread
            ended.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_GUARD)
    assert ended, f"still running after {_GUARD} s"
    value, error = ended[0]
    if error is not None:
        raise error
    return value
