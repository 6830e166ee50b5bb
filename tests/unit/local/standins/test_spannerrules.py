"""What a reader's requests may hold, read with Google's types."""

from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import spanner_v1
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport

from spanctl.local.standins import spannerrules
from spanctl.local.standins.policy import ROLES

SPANNER = "/google.spanner.v1.Spanner/"
READ_ONLY = {"read_only": {"strong": True}}
READ_WRITE = {"read_write": {}}


def needed(snapshots: spannerrules.Snapshots, method: str, request: dict[str, Any]) -> str | None:
    kind = {"ExecuteStreamingSql": "ExecuteSql", "StreamingRead": "Read"}.get(method, method)
    data = getattr(spanner_v1, f"{kind}Request").serialize(request)
    return snapshots.needed(SPANNER + method, data)


@pytest.mark.parametrize(
    "method",
    [
        "ExecuteSql",
        "ExecuteStreamingSql",
        "Read",
        "StreamingRead",
        "PartitionQuery",
        "PartitionRead",
    ],
)
def test_a_transaction_decides_what_a_read_takes(method: str) -> None:
    """None and read-only take nothing more; to begin a read-write one, or to join one, does."""
    snapshots = spannerrules.Snapshots()

    def asked(**selector: Any) -> str | None:
        return needed(snapshots, method, {"session": "s", "transaction": selector})

    assert needed(snapshots, method, {"session": "s"}) is None
    assert asked(single_use=READ_ONLY) is None
    assert asked(begin=READ_ONLY) is None
    assert asked(begin=READ_WRITE) == "spanner.databases.beginOrRollbackReadWriteTransaction"
    assert (
        asked(begin={"partitioned_dml": {}}) == "spanner.databases.beginPartitionedDmlTransaction"
    )
    assert asked(single_use=READ_WRITE) is not None
    assert asked(begin={}) == spannerrules.WRITE
    assert asked(id=b"1") == spannerrules.WRITE


def test_only_the_reader_s_own_snapshot_is_known() -> None:
    """A learnt transaction is known in its own session, under its own id."""
    snapshots = spannerrules.Snapshots()
    request = {"session": "s", "options": READ_ONLY}
    snapshots.learn(
        f"{SPANNER}BeginTransaction",
        spanner_v1.BeginTransactionRequest.serialize(request),
        spanner_v1.Transaction.serialize({"id": b"7"}),
    )
    for session, transaction, known in (("s", b"7", True), ("t", b"7", False), ("s", b"8", False)):
        read = {"session": session, "transaction": {"id": transaction}}
        assert (needed(snapshots, "ExecuteSql", read) is None) is known


def test_what_can_t_be_read_counts_as_a_write() -> None:
    """A request that Google's types don't parse is not left to the emulator to guess."""
    snapshots = spannerrules.Snapshots()
    assert snapshots.needed(f"{SPANNER}ExecuteSql", b"\xff\xff\xff") == spannerrules.WRITE


def test_unknown_methods_are_for_administrators() -> None:
    """A method that isn't listed takes a permission that neither readers nor users hold."""
    permission = spannerrules.permission("/google.spanner.v1.Spanner/FutureWrite")
    assert permission.startswith("spanner.")
    assert permission not in {
        *ROLES["roles/spanner.databaseReader"],
        *ROLES["roles/spanner.databaseUser"],
    }


def test_every_method_of_the_data_api_is_known() -> None:
    """No method of Google's client falls through to the administrators; streams are known."""
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        transport = SpannerGrpcTransport(channel=channel, credentials=AnonymousCredentials())
        stubs = {
            "".join(part.title() for part in name.split("_")): getattr(transport, name)
            for name, member in vars(SpannerGrpcTransport).items()
            if isinstance(member, property) and name not in {"grpc_channel", "kind"}
        }
    assert "ExecuteStreamingSql" in stubs
    for name, stub in stubs.items():
        assert ".unknown." not in spannerrules.permission(SPANNER + name), name
        is_stream = isinstance(stub, grpc.UnaryStreamMultiCallable)
        assert (SPANNER + name in spannerrules.STREAMS) is is_stream, name
