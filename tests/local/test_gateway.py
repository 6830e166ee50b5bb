"""The gateway in front of a real emulator: live tokens only, and readers don't write."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.auth.transport.requests import Request
from google.cloud import spanner_v1
from google.cloud.spanner_v1 import TransactionOptions, TransactionSelector
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.oauth2.credentials import Credentials

from spanctl.resources import DatabaseName
from tests.fixtures.cli import child_environment
from tests.local.identity import SCOPE, Keyed, StandIns, environment

TABLE = "CREATE TABLE t (k INT64, v STRING(MAX)) PRIMARY KEY (k)"
INSERT = "INSERT INTO t (k, v) VALUES (1, 'x')"
READ_WRITE = TransactionOptions(read_write={})
READ_ONLY = TransactionOptions(read_only={"strong": True})


@pytest.fixture(scope="module")
def standins(emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    """The module's stand-ins, in front of the session's emulator."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("gateway") / "identity"
    served = StandIns(folder, spanner=emulator).start()
    patch.setenv("REQUESTS_CA_BUNDLE", str(served.places.bundle))
    yield served
    patch.undo()
    assert served.stop() == 0
    assert "Traceback" not in served.log.read_text()


@pytest.fixture
def place(database: Callable[..., DatabaseName]) -> str:
    """A database with one table."""
    return str(database(TABLE))


@pytest.fixture(scope="module")
def runner(standins: StandIns) -> SpannerClient:
    """Google's client, as the account that may write."""
    return standins.spanner_client(standins.acting_as("runner"))


@pytest.fixture(scope="module")
def reader(standins: StandIns) -> SpannerClient:
    """Google's client, as the account that may only read."""
    return standins.spanner_client(standins.acting_as("reader"))


def begin(client: SpannerClient, session: str, options: TransactionOptions) -> bytes:
    return client.begin_transaction(session=session, options=options).id


def commit(client: SpannerClient, session: str, transaction: bytes, key: int) -> Any:
    insert = {"table": "t", "columns": ["k", "v"], "values": [[str(key), "x"]]}
    request = {"session": session, "transaction_id": transaction, "mutations": [{"insert": insert}]}
    return client.commit(request=request, retry=None)


def rows(client: SpannerClient, session: str, **more: Any) -> list[list[str]]:
    request = {"session": session, "sql": "SELECT k FROM t ORDER BY k", **more}
    return [list(row) for row in client.execute_sql(request=request, retry=None).rows]


def test_a_writer_writes_and_reads(runner: SpannerClient, place: str) -> None:
    """Sessions, transactions, streams and batches pass unchanged."""
    session = runner.create_session(database=place).name
    transaction = begin(runner, session, READ_WRITE)
    selector = TransactionSelector(id=transaction)
    batch = {
        "session": session,
        "transaction": selector,
        "statements": [{"sql": INSERT}],
        "seqno": 1,
    }
    assert runner.execute_batch_dml(request=batch).status.code == 0
    assert commit(runner, session, transaction, 2).commit_timestamp
    stream = runner.execute_streaming_sql(request={"session": session, "sql": "SELECT k FROM t"})
    assert sum(len(part.values) for part in stream) == 2
    request = {"session": session, "table": "t", "columns": ["k"], "key_set": {"all_": True}}
    assert sum(len(part.values) for part in runner.streaming_read(request=request)) == 2
    runner.delete_session(name=session)


def test_a_reader_reads_in_every_way(
    runner: SpannerClient, reader: SpannerClient, place: str
) -> None:
    """Single use, begun snapshots, snapshots begun by a read, and partitions all work."""
    other = runner.create_session(database=place).name
    commit(runner, other, begin(runner, other, READ_WRITE), 1)
    session = reader.create_session(database=place).name
    assert rows(reader, session) == [["1"]]
    assert rows(reader, session, transaction={"single_use": READ_ONLY}) == [["1"]]
    snapshot = begin(reader, session, READ_ONLY)
    assert rows(reader, session, transaction={"id": snapshot}) == [["1"]]
    inline = reader.execute_sql(
        request={"session": session, "sql": "SELECT 1", "transaction": {"begin": READ_ONLY}}
    )
    assert rows(reader, session, transaction={"id": inline.metadata.transaction.id}) == [["1"]]
    keys = {"table": "t", "columns": ["k"], "key_set": {"all_": True}}
    stream = reader.streaming_read(
        request={"session": session, **keys, "transaction": {"begin": READ_ONLY}}
    )
    begun = next(iter(stream)).metadata.transaction.id
    assert rows(reader, session, transaction={"id": begun}) == [["1"]]
    parts = reader.partition_read(
        request={"session": session, **keys, "transaction": {"begin": READ_ONLY}}
    )
    assert rows(reader, session, transaction={"id": parts.transaction.id}) == [["1"]]


@pytest.mark.parametrize(
    "write",
    [
        lambda c, s: c.begin_transaction(session=s, options=READ_WRITE),
        lambda c, s: c.begin_transaction(session=s, options=TransactionOptions(partitioned_dml={})),
        lambda c, s: c.begin_transaction(session=s, options=TransactionOptions()),
        lambda c, s: commit(c, s, b"1", 7),
        lambda c, s: c.commit(
            request={
                "session": s,
                "single_use_transaction": READ_WRITE,
                "mutations": [{"delete": {"table": "t", "key_set": {"all_": True}}}],
            }
        ),
        lambda c, s: c.execute_sql(
            request={"session": s, "sql": INSERT, "transaction": {"begin": READ_WRITE}, "seqno": 1}
        ),
        lambda c, s: list(
            c.execute_streaming_sql(
                request={"session": s, "sql": INSERT, "transaction": {"begin": READ_WRITE}}
            )
        ),
        lambda c, s: list(
            c.streaming_read(
                request={
                    "session": s,
                    "table": "t",
                    "columns": ["k"],
                    "key_set": {"all_": True},
                    "transaction": {"begin": READ_WRITE},
                }
            )
        ),
        lambda c, s: c.execute_batch_dml(
            request={"session": s, "statements": [{"sql": INSERT}], "seqno": 1}
        ),
        lambda c, s: list(c.batch_write(request={"session": s, "mutation_groups": []})),
        lambda c, s: c.rollback(session=s, transaction_id=b"1"),
    ],
    ids=[
        "begin read-write",
        "begin partitioned",
        "begin without a mode",
        "commit",
        "single-use commit",
        "dml that begins",
        "streamed dml that begins",
        "read that begins",
        "batch dml",
        "batch write",
        "rollback",
    ],
)
def test_a_reader_does_not_write(
    runner: SpannerClient,
    reader: SpannerClient,
    place: str,
    write: Callable[[SpannerClient, str], Any],
) -> None:
    """Every way to write is PERMISSION_DENIED for a reader, and the table stays empty."""
    session = reader.create_session(database=place).name
    with pytest.raises(exceptions.PermissionDenied, match="Caller is missing IAM permission"):
        write(reader, session)
    assert rows(runner, runner.create_session(database=place).name) == []


def test_a_reader_can_t_go_on_in_a_writer_s_transaction(
    runner: SpannerClient, reader: SpannerClient, place: str
) -> None:
    """Session and transaction id of somebody else's read-write transaction are no way in."""
    session = runner.create_session(database=place).name
    transaction = begin(runner, session, READ_WRITE)
    request = {
        "session": session,
        "sql": INSERT,
        "transaction": {"id": transaction},
        "seqno": 1,
    }
    with pytest.raises(exceptions.PermissionDenied):
        reader.execute_sql(request=request, retry=None)
    runner.commit(request={"session": session, "transaction_id": transaction})
    assert rows(runner, session) == []


def test_a_reader_s_snapshot_takes_no_dml(reader: SpannerClient, place: str) -> None:
    """What a reader may begin can't be written in: the emulator sees to that."""
    session = reader.create_session(database=place).name
    for selector in ({"single_use": READ_ONLY}, {"id": begin(reader, session, READ_ONLY)}):
        request = {"session": session, "sql": INSERT, "transaction": selector, "seqno": 1}
        with pytest.raises((exceptions.InvalidArgument, exceptions.FailedPrecondition)):
            reader.execute_sql(request=request, retry=None)


def test_only_a_live_token_is_admitted(standins: StandIns, place: str) -> None:
    """Missing, foreign and expired tokens are UNAUTHENTICATED; nothing reaches the emulator."""
    target = f"127.0.0.1:{standins.ports['gateway']}"
    request = spanner_v1.CreateSessionRequest.serialize({"database": place})
    short = standins.acting_as("runner", lifetime=1)
    short.refresh(Request())
    threading.Event().wait(1.1)
    with grpc.secure_channel(target, standins.roots()) as channel:
        call = channel.unary_unary("/google.spanner.v1.Spanner/CreateSession")
        for header in (None, "Bearer ya29.c.forged", "Basic eDp5", f"Bearer {short.token}"):
            metadata = [("authorization", header)] if header else []
            with pytest.raises(grpc.RpcError) as refused:
                call(request, metadata=metadata, timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_of_other_stand_ins_is_foreign(
    standins: StandIns, place: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live token of another stack is nobody's here, though the same CA vouches for both."""
    others = StandIns(tmp_path / "other")
    others.use_authority_of(standins.places)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(standins.places.bundle))
    others.start()
    try:
        foreign = others.acting_as("runner")
        foreign.refresh(Request())
        keyed = Keyed.from_service_account_info(others.new_key("runner"), scopes=[SCOPE])
    finally:
        assert others.stop() == 0
    for credentials in (Credentials(str(foreign.token)), keyed):
        client = standins.spanner_client(credentials)
        with pytest.raises(exceptions.Unauthenticated):
            client.create_session(database=place, retry=None)


def test_a_disabled_account_is_cut_off_in_mid_transaction(
    standins: StandIns, runner: SpannerClient, place: str
) -> None:
    """The commit after the account was disabled is refused, and once enabled it goes through."""
    session = runner.create_session(database=place).name
    transaction = begin(runner, session, READ_WRITE)
    path = f"/v1/projects/-/serviceAccounts/{standins.email('runner')}"
    token = standins.user_token()
    try:
        assert standins.http("POST", f"{path}:disable", {}, token).status == 200
        with pytest.raises(exceptions.Unauthenticated):
            commit(runner, session, transaction, 1)
    finally:
        assert standins.http("POST", f"{path}:enable", {}, token).status == 200
    assert commit(runner, session, transaction, 1).commit_timestamp
    assert rows(runner, session) == [["1"]]


def test_a_key_s_own_tokens_are_admitted(standins: StandIns, place: str) -> None:
    """Google's client with a key signs its own token, for the scope or for the service."""
    document = standins.new_key("runner")
    for scopes in ([SCOPE], None):
        client = standins.spanner_client(Keyed.from_service_account_info(document, scopes=scopes))
        assert client.create_session(database=place).name


def test_permissions_can_be_tested(standins: StandIns, place: str) -> None:
    """TestIamPermissions tells what the gateway would let through."""
    asked = ["spanner.databases.select", "spanner.databases.write", "spanner.databases.drop"]
    wanted = {"reader": asked[:1], "runner": asked[:2]}
    from google.iam.v1 import iam_policy_pb2

    target = f"127.0.0.1:{standins.ports['gateway']}"
    request = iam_policy_pb2.TestIamPermissionsRequest(resource=place, permissions=asked)
    with grpc.secure_channel(target, standins.roots()) as channel:
        call = channel.unary_unary(
            "/google.spanner.admin.database.v1.DatabaseAdmin/TestIamPermissions",
            request_serializer=iam_policy_pb2.TestIamPermissionsRequest.SerializeToString,
            response_deserializer=iam_policy_pb2.TestIamPermissionsResponse.FromString,
        )
        for name, permissions in wanted.items():
            credentials = standins.acting_as(name)
            credentials.refresh(Request())
            metadata = [("authorization", f"Bearer {credentials.token}")]
            held = call(request, metadata=metadata, timeout=10).permissions
            assert list(held) == permissions


def test_ddl_takes_its_permission(standins: StandIns, place: str) -> None:
    """A reader changes no schema and sees it; a runner changes it; only the owner drops."""
    program = f"""
import sys
from google.api_core import exceptions
from google.auth.transport.requests import Request
from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient
from tests.local.identity import StandIns
import pathlib
standins = StandIns(pathlib.Path({str(standins.folder)!r}))
standins.ports.update({standins.ports!r})
options = {{"api_endpoint": "127.0.0.1:{standins.ports["gateway"]}"}}
def client(credentials):
    return DatabaseAdminClient(credentials=credentials, client_options=options)
def refused(call):
    try:
        call()
    except exceptions.PermissionDenied:
        return True
    return False
name, ddl = {place!r}, ["CREATE TABLE u (k INT64) PRIMARY KEY (k)"]
reader, runner = (client(standins.acting_as(who)) for who in ("reader", "runner"))
print(len(reader.get_database_ddl(database=name).statements))
print(refused(lambda: reader.update_database_ddl(database=name, statements=ddl)))
runner.update_database_ddl(database=name, statements=ddl).result(30)
print(len(reader.get_database_ddl(database=name).statements))
print(refused(lambda: reader.drop_database(database=name)))
print(refused(lambda: runner.drop_database(database=name)))
print(refused(lambda: runner.create_database(parent=name.rpartition("/databases/")[0],
    create_statement="CREATE DATABASE other1")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=child_environment(environment(standins)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["1", "True", "2", "True", "True", "True"], done.stderr


COUNTERS = """
import sys, threading
from google.cloud import spanner
from tests.local.identity import StandIns
import pathlib
folder, ports, place, endpoint = {told!r}
standins = StandIns(pathlib.Path(folder))
standins.ports.update(ports)
_, project, _, instance, _, name = place.split("/")
client = spanner.Client(project=project, credentials=standins.acting_as("runner"),
                        client_options={{"api_endpoint": endpoint}})
database = client.instance(instance).database(name)
with database.batch() as batch:
    batch.insert("t", ["k", "v"], [[1, "0"]])
def add(transaction):
    ((value,),) = transaction.execute_sql("SELECT v FROM t WHERE k = 1")
    transaction.execute_update("UPDATE t SET v = @v WHERE k = 1",
        params={{"v": str(int(value) + 1)}}, param_types={{"v": spanner.param_types.STRING}})
def work():
    for _ in range(5):
        database.run_in_transaction(add, timeout_secs=60)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with database.snapshot() as snapshot:
    print(*[row[0] for row in snapshot.execute_sql("SELECT v FROM t")])
"""


def test_the_whole_client_works_through_the_gateway(standins: StandIns, place: str) -> None:
    """Google's full client, unchanged: four threads of five increments each make twenty."""
    endpoint = f"127.0.0.1:{standins.ports['gateway']}"
    told = (str(standins.folder), standins.ports, place, endpoint)
    done = subprocess.run(
        [sys.executable, "-c", COUNTERS.format(told=told)],
        env=child_environment(environment(standins)),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout == "20\n", done.stderr


def test_refusals_of_the_emulator_arrive_whole(runner: SpannerClient, place: str) -> None:
    """Status, text and trailing metadata of the emulator are handed on."""
    with pytest.raises(exceptions.NotFound, match=r"(?i)session not found"):
        runner.get_session(name=f"{place}/sessions/absent")
    session = runner.create_session(database=place).name
    with pytest.raises(exceptions.InvalidArgument, match="Syntax error"):
        rows(runner, session, sql="SELEC 1")


def test_large_requests_and_answers_pass(runner: SpannerClient, place: str) -> None:
    """Messages beyond gRPC's usual 4 MiB are forwarded, both ways."""
    session = runner.create_session(database=place).name
    for key in range(3):
        insert = {"table": "t", "columns": ["k", "v"], "values": [[str(key), "x" * 2_500_000]]}
        transaction = begin(runner, session, READ_WRITE)
        request = {
            "session": session,
            "transaction_id": transaction,
            "mutations": [{"insert": insert}],
        }
        assert runner.commit(request=request).commit_timestamp
    found = runner.execute_sql(request={"session": session, "sql": "SELECT v FROM t"})
    assert sum(len(row[0]) for row in found.rows) == 7_500_000


def test_a_stream_that_is_cancelled_ends(runner: SpannerClient, place: str) -> None:
    """Who leaves in the middle of a stream harms neither the gateway nor the session."""
    session = runner.create_session(database=place).name
    sql = "SELECT a, REPEAT('x', 10000) FROM UNNEST(GENERATE_ARRAY(1, 2000)) AS a"
    for _ in range(3):
        stream = runner.execute_streaming_sql(request={"session": session, "sql": sql})
        assert next(iter(stream)).values
        stream.cancel()
    stream = runner.execute_streaming_sql(request={"session": session, "sql": sql})
    assert sum(len(part.values) - part.chunked_value for part in stream) == 4000


def test_a_deadline_travels_with_the_request(standins: StandIns, place: str) -> None:
    """A client's deadline bounds the gateway's own call: a silent emulator holds nobody."""
    assert place
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        stuck = StandIns(standins.folder.with_name("stuck"), spanner=f"{host}:{port}")
        stuck.use_authority_of(standins.places)
        stuck.start()
        try:
            client = stuck.spanner_client(stuck.acting_as("runner"))
            with pytest.raises((exceptions.DeadlineExceeded, exceptions.ServiceUnavailable)):
                client.create_session(database=place, timeout=1.0, retry=None)
        finally:
            assert stuck.stop() == 0


def test_an_emulator_that_is_away_is_unavailable(standins: StandIns, place: str) -> None:
    """Without an emulator the gateway says UNAVAILABLE, and only to those whom it admits."""
    away = StandIns(standins.folder.with_name("away"))
    away.use_authority_of(standins.places)
    away.start()
    try:
        client = away.spanner_client(away.acting_as("runner"))
        with pytest.raises(exceptions.ServiceUnavailable):
            client.create_session(database=place, timeout=5, retry=None)
        with pytest.raises(exceptions.Unauthenticated):
            away.spanner_client(Credentials("ya29.c.forged")).create_session(
                database=place, retry=None
            )
    finally:
        assert away.stop() == 0
