"""The sessions that a process has made are gone when it has ended, and nothing else is."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from spanctl.clock import monotonic
from spanctl.spanner import schema
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from spanctl.spanner.transaction import Transaction
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT
from tests.faults.proxy import FaultProxy, black_hole, lose_reply
from tests.fixtures.cli import Ended, child_environment

pytestmark = pytest.mark.emulator

DDL = "CREATE TABLE t (k INT64 NOT NULL, v INT64) PRIMARY KEY (k)"
PROGRAM = """
import multiprocessing, os, sys
from concurrent.futures import ThreadPoolExecutor
from spanctl.spanner.client import Database, shared
from spanctl.spanner.run import Run
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT


def write(number=0):
    database = shared(raw.target(sys.argv[1], sys.argv[2]))
    run = Run(database, f"job-{os.getpid()}-{number}")
    run.step("step", lambda txn: txn.insert_or_update("t", ("k", "v"), [(1, 1)]))
    run.close()


def fork():
    if (child := os.fork()) == 0:
        sys.exit()
    os.waitpid(child, 0)
    print("sessions:", raw.sessions(sys.argv[1], sys.argv[2]))


def spawn(how):
    child = multiprocessing.get_context(how).Process(target=write)
    child.start()
    child.join()
    assert child.exitcode == 0


if __name__ == "__main__":
    end = sys.argv[3]
    if end not in {"spawn", "forkserver"}:
        write()
    if end == "threads":
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(1, 5)))
    elif end == "error":
        raise ZeroDivisionError
    elif end == "exit":
        sys.exit(3)
    elif end == "interrupt":
        os.kill(os.getpid(), 2)
    elif end == "fork":
        fork()
    elif end in {"spawn", "forkserver"}:
        spawn(end)
    elif end == "kept":
        own = Database(raw.target(sys.argv[1], sys.argv[2]))
        Run(own, "own").step("step", lambda txn: txn.insert_or_update("t", ("k",), [(1,)]))
"""
ENDS = {
    "normal": 0,
    "kept": 0,
    "threads": 0,
    "error": 1,
    "exit": 3,
    "interrupt": -signal.SIGINT,
    "fork": 0,
    "spawn": 0,
    "forkserver": 0,
}


@pytest.fixture
def ledger(emulator: str) -> Iterator[str]:
    name = raw.create_database(emulator, [DDL])
    with Database(raw.target(emulator, name)) as database:
        schema.install(database)
    yield name
    raw.drop_database(emulator, name)


@pytest.fixture
def proxy(emulator: str) -> Iterator[FaultProxy]:
    with FaultProxy(emulator) as made:
        yield made


def write(database: Database) -> None:
    with Run(database, "job") as run:
        run.step("step", lambda txn: txn.execute_update("INSERT INTO t (k) VALUES (1)"))


@pytest.mark.parametrize(("end", "code"), ENDS.items())
def test_a_program_leaves_no_session_however_it_ends(
    emulator: str, ledger: str, end: str, code: int, tmp_path
) -> None:
    """Also where it closes nothing; a forked child leaves its parent's alone."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    ended = subprocess.run(
        [sys.executable, script, emulator, ledger, end],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert raw.sessions(emulator, ledger) == []
    if end == "fork":
        assert "sessions: ['projects/" in ended.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("txn", "list"),
        ("audit", "list"),
        ("txn", "fence", "00000000-0000-4000-8000-000000000000", "--reason", "why", "--yes"),
    ],
)
def test_a_command_leaves_no_session(
    emulator: str,
    ledger: str,
    child: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    """Whether it reads, writes or fails."""
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", emulator)
    place = {"PROJECT": PROJECT, "INSTANCE": INSTANCE, "DATABASE": ledger}
    ended = child(*command, env={f"SPANCTL_{key}": value for key, value in place.items()})
    assert "bug" not in ended.stderr
    assert raw.sessions(emulator, ledger) == []


def test_a_session_with_an_open_transaction_is_left_alone(emulator: str, ledger: str) -> None:
    """Deleting it would end an emulator; what is free beside it goes."""
    database = Database(raw.target(emulator, ledger))
    with database.sessions.writer(10) as lease, database.sessions.writer(10):
        transaction = Transaction(
            database.rpc,
            database.target,
            lease.name,
            txn_id="t",
            tag=None,
            deadline=monotonic() + 30,
        )
        transaction.execute_update("INSERT INTO t (k) VALUES (1)")
    database.sessions.close()
    assert raw.sessions(emulator, ledger) == [lease.name]
    transaction.rollback()
    database.close()


def test_a_session_whose_transaction_has_ended_after_all_is_deleted(
    emulator: str, ledger: str, proxy: FaultProxy
) -> None:
    """The reply to its Commit was lost, so it is used no more; its receipt says that it is over."""
    database = Database(raw.target(proxy.address, ledger))
    lost = lose_reply("UNAVAILABLE")
    rule = proxy.add("Commit", lost, count=None, when=lambda p: "spanctl_receipts" in p.writes)
    write(database)
    assert rule.hits > 1
    assert len(raw.sessions(emulator, ledger)) == 3  # to read, to write, and the one that is lost
    database.close()
    assert raw.sessions(emulator, ledger) == []


def test_a_silent_server_is_no_error_at_the_end(
    emulator: str, ledger: str, proxy: FaultProxy
) -> None:
    """Nobody is told, and the sessions are left to the server."""
    database = Database(raw.target(proxy.address, ledger))
    write(database)
    silent = [
        proxy.add(method, black_hole(), count=None) for method in ("GetSession", "DeleteSession")
    ]
    database.close()
    assert silent[0].hits
    assert raw.sessions(emulator, ledger) != []


def test_another_session_of_the_same_name_is_left_alone(emulator: str, ledger: str) -> None:
    """An emulator that was started anew counts from the beginning: the name is somebody else's."""
    database = Database(raw.target(emulator, ledger))
    write(database)
    ((session, _),) = database.sessions._free  # noqa: SLF001 - as an earlier emulator's would be
    session.created.create_time = Timestamp(seconds=1)
    database.close()
    assert raw.sessions(emulator, ledger) == [session.name]
