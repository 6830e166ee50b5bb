"""The state folder keeps what it is given, for the owner alone, and says what is wrong with it."""

import subprocess
import sys
from pathlib import Path

import pytest

from spanctl.clock import now
from spanctl.errors import ConfigurationError
from spanctl.local.state import Folder, Record, State, tail


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "a" / "local")
    made.create()
    return made


def test_state_comes_back_as_it_was_saved(folder: Folder) -> None:
    """Every field survives the file."""
    record = Record(7, "boot:1", "127.0.0.1:9", now(), "abc", ("docker", "rm"), 12)
    state = State({"emulator": record}, {"server": "http://x/api"}, {"emulator": 9}, "ledger")
    folder.save(state)
    assert folder.load() == state


def test_nothing_saved_is_an_empty_state(folder: Folder, tmp_path: Path) -> None:
    """A stack that never was is no error."""
    assert folder.load() == State()
    assert Folder(tmp_path / "nowhere").load() == State()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": "2"}',
        '{"version": 1}',
        '{"version": 1, "parts": 3}',
        '{"version": 1, "parts": {"a": {"pid": "x"}}, "external": {}, "ports": {}}',
        "\0\1",
    ],
)
def test_a_damaged_file_is_one_clear_line(folder: Folder, text: str) -> None:
    """Whatever stands in the file: the error names it, and what mends it."""
    folder.state_file.write_text(text)
    damaged = r"can't read .*stack\.json: it is damaged"
    with pytest.raises(ConfigurationError, match=damaged) as caught:
        folder.load()
    assert "spanctl local down" in caught.value.hint


def test_a_file_of_another_version_is_said_to_be_one(folder: Folder) -> None:
    """It is not damaged: who wrote it may still be installed."""
    folder.state_file.write_text('{"version": 99, "new": true}')
    with pytest.raises(ConfigurationError, match="written by another version of spanctl"):
        folder.load()


def test_everything_is_for_the_owner_alone(folder: Folder) -> None:
    """Folders 0700, files 0600, also where they were wider before."""
    folder.path.chmod(0o755)
    folder.create()
    folder.save(State())
    for path in (folder.path, folder.prefect_home, folder.log("x").parent):
        assert path.stat().st_mode & 0o777 == 0o700
    assert folder.state_file.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_can_not_be_made_is_one_clear_line(tmp_path: Path) -> None:
    """A file in its place is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"can't write .*file: File exists") as caught:
        Folder(tmp_path / "file" / "local").create()
    assert "SPANCTL_STATE_HOME" in caught.value.hint


def test_a_full_disk_is_one_clear_line_and_the_old_state_stays(tmp_path: Path) -> None:
    """What can't be written whole doesn't replace what was there."""
    code = f"""
import resource, signal
from pathlib import Path
from spanctl.errors import ConfigurationError
from spanctl.local.state import Folder, State
folder = Folder(Path({str(tmp_path)!r}))
folder.create()
folder.save(State(ledger_id="old"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
try:
    folder.save(State(ledger_id="new"))
except ConfigurationError as error:
    assert "File too large" in error.message, error.message
else:
    raise SystemExit("saved")
assert folder.load().ledger_id == "old"
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_lock_keeps_others_out(folder: Folder) -> None:
    """A second holder waits, and says so once."""
    code = f"""
from pathlib import Path
from spanctl.local.state import Folder
with Folder(Path({str(folder.path)!r})).locked(lambda: print("waiting", flush=True)):
    print("in", flush=True)
"""
    with folder.locked(lambda: pytest.fail("nobody else holds it")):
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting\n"
    assert other.communicate(timeout=20)[0] == "in\n"


def test_remove_takes_only_what_is_its_own(folder: Folder) -> None:
    """A file of somebody else in the folder stays."""
    folder.log("x").write_text("x")
    folder.save(State())
    (folder.path / "mine").write_text("x")
    folder.remove()
    assert {path.name for path in folder.path.iterdir()} == {"mine"}


def test_a_large_log_is_put_aside(folder: Folder) -> None:
    """Logs don't grow for ever: the one before is kept."""
    folder.log("x").write_bytes(b"x" * (6 * 1024 * 1024))
    assert folder.rotate("x") == 0
    assert not folder.log("x").exists()
    folder.log("x").write_text("new")
    assert folder.rotate("x") == 3


def test_tail_reads_the_end(tmp_path: Path) -> None:
    """The last lines, none from before the offset, none of a file that isn't there."""
    log = tmp_path / "log"
    assert tail(log, 3) == ()
    log.write_text("old\né\nb\nc\n")
    assert tail(log, 2) == ("b", "c")
    assert tail(log, 9, 4) == ("é", "b", "c")
    assert tail(log, 9, 10_000) == ()
    assert tail(log, 0) == ()
