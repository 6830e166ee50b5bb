"""Processes are started apart from us, known again, and ended whole."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanctl.errors import ConfigurationError
from spanctl.local import processes
from spanctl.local.processes import MARK, end, identity, is_alive, marked, spawn

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    """import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
time.sleep(60)""",
)
RUNAWAY = (
    sys.executable,
    "-c",
    """import subprocess, sys, time
sleep = [sys.executable, '-c', 'import time; time.sleep(60)']
print(subprocess.Popen(sleep, start_new_session=True).pid, flush=True)
time.sleep(60)""",
)


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Start processes that are gone after the test."""
    started = []

    def run(command: tuple[str, ...], mark: str = "") -> int:
        environment = {**os.environ, **({MARK: mark} if mark else {})}
        pid, _ = spawn(command, environment, tmp_path / "log", tmp_path)
        started.append(pid)
        return pid

    yield run
    end(started, 2)


def test_identity_is_stable_and_ends_with_the_process(start: Callable[..., int]) -> None:
    """A process keeps its identity, and has none any more once it has ended."""
    pid = start(SLEEP)
    known = identity(pid)
    assert known is not None
    assert identity(pid) == known
    os.kill(pid, signal.SIGKILL)
    until(lambda: identity(pid) is None)
    assert not is_alive(pid, known)


def test_a_zombie_is_no_process() -> None:
    """A dead child that nobody has reaped counts as ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        until(lambda: identity(child.pid) is None)
        assert Path(f"/proc/{child.pid}").exists(), "reaped too early for this test to say anything"


def test_a_pid_in_other_hands_is_not_the_process(start: Callable[..., int]) -> None:
    """The same pid with another start time is another process."""
    pid = start(SLEEP)
    boot, _, ticks = (identity(pid) or "").partition(":")
    assert not is_alive(pid, f"{boot}:{int(ticks) - 1}")
    assert not is_alive(pid, f"another-boot:{ticks}")


def test_spawn_leads_its_own_session_and_writes_its_log(
    start: Callable[..., int], tmp_path: Path
) -> None:
    """A process outlives our terminal; its log is for the owner alone."""
    pid = start(STUBBORN)
    until((tmp_path / "log").read_text)
    assert os.getsid(pid) == pid
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_program_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    """What can't be started is named."""
    with pytest.raises(ConfigurationError, match="can't start /no/such: No such file"):
        spawn(("/no/such",), {}, tmp_path / "log", tmp_path)


def test_a_log_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    """So is a log that can't be opened."""
    with pytest.raises(ConfigurationError, match=r"can't write .*: Is a directory"):
        spawn(SLEEP, {}, tmp_path, tmp_path)


def test_end_kills_what_ignores_the_request(start: Callable[..., int], tmp_path: Path) -> None:
    """SIGTERM comes first; who ignores it is killed, and reported as such."""
    polite, stubborn = start(SLEEP), start(STUBBORN)
    until((tmp_path / "log").read_text)
    assert end([polite, stubborn], 0.5) == {stubborn}
    assert identity(polite) is None
    assert identity(stubborn) is None


def test_end_of_nothing_is_harmless() -> None:
    """A pid without a process is skipped."""
    assert end([2**22 - 1], 0.1) == set()


def test_marked_finds_children_that_left_and_lost_their_parent(
    start: Callable[..., int], tmp_path: Path
) -> None:
    """A grandchild in a session of its own is found after its parent was killed."""
    mark = str(tmp_path / "stack")
    parent = start(RUNAWAY, mark)
    until((tmp_path / "log").read_text)
    child = int((tmp_path / "log").read_text())
    until(lambda: marked(mark) == {parent, child})
    os.kill(parent, signal.SIGKILL)
    until(lambda: marked(mark) == {child})
    end(marked(mark), 2)
    assert identity(child) is None


def test_marked_leaves_other_stacks_alone(start: Callable[..., int], tmp_path: Path) -> None:
    """A mark that merely begins like ours is another stack's."""
    start(SLEEP, f"{tmp_path}/stack-2")
    assert marked(f"{tmp_path}/stack") == set()


def test_marked_spares_us_and_our_ancestors() -> None:
    """``down`` called from inside the stack does not end itself."""
    code = (
        "import os; from spanctl.local.processes import marked;"
        "assert os.getpid() not in marked('x'), 'ourselves';"
        "assert os.getppid() not in marked('x'), 'our parent'"
    )
    nested = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {code!r}]))"
    environment = {**os.environ, MARK: "x", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", nested], env=environment, check=True)


def test_identity_without_proc(
    start: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no /proc, ``ps`` tells processes apart."""
    pid = start(SLEEP)
    monkeypatch.setattr(processes, "_PROC", tmp_path / "none")
    known = identity(pid)
    assert known
    assert identity(pid) == known
    assert identity(2**22 - 1) is None


def test_a_suspended_process_is_known_and_ends_by_itself(
    start: Callable[..., int], tmp_path: Path
) -> None:
    """It is asked to end, not killed: what it does last it still does."""
    code = """import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye', flush=True)))
print('ready', flush=True)
time.sleep(60)"""
    pid = start((sys.executable, "-c", code))
    until((tmp_path / "log").read_text)
    assert not processes.is_suspended(pid)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: processes.is_suspended(pid))
    assert end([pid], 20) == set()
    assert (tmp_path / "log").read_text() == "ready\nbye\n"


def test_who_keeps_a_file_locked_is_known(start: Callable[..., int], tmp_path: Path) -> None:
    """The process that holds SQLite's lock for writing, and nobody else."""
    database = tmp_path / "a.db"
    sqlite3.connect(database).execute("PRAGMA journal_mode = WAL").close()
    code = f"""import sqlite3, time
db = sqlite3.connect({str(database)!r}, isolation_level=None)
db.execute('BEGIN IMMEDIATE')
print('held', flush=True)
time.sleep(60)"""
    shared = database.with_name("a.db-shm")
    assert processes.writers(database, shared) == set()
    pid = start((sys.executable, "-c", code))
    until((tmp_path / "log").read_text)
    assert processes.writers(database, shared) == {pid}
