"""DDL is begun once, awaited as long as it takes, and named while it goes on (scripted server)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import google.cloud.spanner_v1.testing.spanner_database_admin_pb2_grpc as admin_grpc
import grpc
import pytest
from google.cloud.spanner_admin_database_v1.types import UpdateDatabaseDdlMetadata
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import any_pb2

from spanctl.errors import ConflictError, LimitError, PendingError, StatementError, UnreachableError
from spanctl.resources import DatabaseName
from spanctl.spanner import admin
from spanctl.spanner.client import Target

INDEX = ["CREATE INDEX i ON t (a)"]


class Scripted(admin_grpc.DatabaseAdminServicer, operations_pb2_grpc.OperationsServicer):
    """Keeps operations by id; replies, and answers about them, may be lost."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self.lose = 0
        self.silent = 0
        self.polls_left = 0
        self.failing = 0

    def UpdateDatabaseDdl(self, request: Any, context: Any) -> Any:  # noqa: N802 - the RPC's name
        self.ids.append(request.operation_id)
        name = f"{request.database}/operations/{request.operation_id}"
        if name in self.known:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "known")
        self.known[name] = list(request.statements)
        if self.lose:
            self.lose -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the reply is lost")
        return operations_pb2.Operation(name=name)

    def GetOperation(self, request: Any, context: Any) -> Any:  # noqa: N802 - the RPC's name
        if self.silent:
            self.silent -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        metadata = UpdateDatabaseDdlMetadata(statements=self.known[request.name])
        packed = any_pb2.Any()
        packed.Pack(UpdateDatabaseDdlMetadata.pb(metadata))
        found = operations_pb2.Operation(name=request.name, metadata=packed)
        if self.polls_left:
            self.polls_left -= 1
            return found
        found.done = True
        if self.failing:
            found.error.code = self.failing
        return found


@pytest.fixture
def server():
    scripted = Scripted()
    running = grpc.server(ThreadPoolExecutor(4))
    admin_grpc.add_DatabaseAdminServicer_to_server(scripted, running)
    operations_pb2_grpc.add_OperationsServicer_to_server(scripted, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    name = DatabaseName("project-1", "instance-1", "database-1")
    scripted.target = Target(database=name, emulator_host=f"127.0.0.1:{port}")
    yield scripted
    running.stop(None)


def test_it_is_awaited_however_often_that_takes_asking(server) -> None:
    """Its end is the operation's; the name that is returned is the operation's too."""
    server.polls_left, server.silent = 3, 2
    name = admin.execute_ddl(server.target, INDEX, operation_id="ddl_a_0")
    assert name == f"{server.target.database}/operations/ddl_a_0"


def test_it_carries_an_id_of_its_own_otherwise(server) -> None:
    """Two batches are two operations."""
    names = {admin.execute_ddl(server.target, INDEX) for _ in range(2)}
    assert len(names) == len(set(server.ids)) == 2
    assert all(one.startswith("ddl_") for one in server.ids)


def test_what_a_request_cannot_hold_is_not_sent(server) -> None:
    """Neither one long statement nor many that are too much together."""
    long = f"CREATE TABLE t (a STRING(MAX) DEFAULT ('{'x' * 6_000_000}')) PRIMARY KEY (a)"
    with pytest.raises(LimitError, match="the DDL has 12,0") as caught:
        admin.execute_ddl(server.target, [long, long])
    assert caught.value.details["limit"] == "request_bytes"
    assert "fewer" in caught.value.hint
    assert server.ids == []


def test_a_lost_reply_begins_nothing_twice(server) -> None:
    """The batch is sent again under its id, and the one that goes on is attached to."""
    server.lose = 1
    admin.execute_ddl(server.target, INDEX, operation_id="ddl_a_0")
    assert server.ids == ["ddl_a_0", "ddl_a_0"]
    assert len(server.known) == 1


def test_an_id_of_other_statements_is_refused(server) -> None:
    """What is attached to must do the same."""
    admin.execute_ddl(server.target, INDEX, operation_id="ddl_a_0")
    with pytest.raises(ConflictError, match="executes other DDL"):
        admin.execute_ddl(server.target, ["DROP INDEX i"], operation_id="ddl_a_0")


def test_a_refusal_is_the_statements(server) -> None:
    """As it was when it came with the reply."""
    server.failing = grpc.StatusCode.FAILED_PRECONDITION.value[0]
    with pytest.raises(StatementError) as caught:
        admin.execute_ddl(server.target, INDEX)
    assert caught.value.details["status"] == "FAILED_PRECONDITION"


@pytest.mark.parametrize("how", ["slow", "silent"])
def test_what_goes_on_is_named(server, monkeypatch, how) -> None:
    """By its name, with the command that follows it: never a bare timeout."""
    if how == "slow":
        monkeypatch.setattr(admin, "DDL_TIMEOUT", 0)
        server.polls_left = 10**6
    else:
        monkeypatch.setattr(admin, "_PATIENCE", 0)
        server.silent = 10**6
    with pytest.raises(PendingError if how == "slow" else UnreachableError) as caught:
        admin.execute_ddl(server.target, INDEX, operation_id="ddl_a_0")
    assert caught.value.details["operation"].endswith("/operations/ddl_a_0")
    assert "gcloud spanner operations describe ddl_a_0" in caught.value.hint
