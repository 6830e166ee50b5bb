"""What keeps parts from their work, where the process alone doesn't tell."""

import os
import sqlite3
from pathlib import Path

import pytest

from spanctl import clock
from spanctl.local import health, probes, processes
from spanctl.local.standins.files import Places
from spanctl.local.state import Folder, Record, State
from spanctl.orchestration.settings import ApiSettings


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "local")
    made.prefect_home.mkdir(parents=True)
    Places(made.identity).create()
    return made


def running(name: str) -> State:
    """Return the state of a stack of which one part runs: this process."""
    pid = os.getpid()
    known = processes.identity(pid) or ""
    return State({name: Record(pid, known, "http://127.0.0.1:9/api", clock.now(), "")})


def opens(api: ApiSettings, *_: object) -> bool:
    """A closed server, and somebody who knows what opens it."""
    return api.auth_string is not None


def write_private(folder: Folder) -> None:
    folder.auth.parent.mkdir(parents=True, exist_ok=True)
    folder.auth.write_text("spanctl:word")
    folder.auth.chmod(0o600)


def test_a_server_that_opens_to_everybody(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that an older spanctl has started: only a new start closes it."""
    monkeypatch.setattr(probes, "api_opens", lambda *_: True)
    found = health.trouble("server", running("server"), {}, folder)
    assert found == health.Trouble("opens to everybody", lasting=True)


@pytest.mark.parametrize("says", [False, None])
def test_a_server_that_does_not_open(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, says: bool | None
) -> None:
    """It was told another string, which lasts; or it is silent, which may not."""
    monkeypatch.setattr(probes, "api_opens", lambda *_: says)
    found = health.trouble("server", running("server"), {}, folder)
    assert found is not None
    assert found.lasting is (says is False)


def test_a_server_that_has_lost_its_database(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers and writes, into a file that has no name any more: only a new start helps."""
    monkeypatch.setattr(probes, "api_opens", opens)
    write_private(folder)
    monkeypatch.setattr(probes, "api_writes", lambda *_: True)
    found = health.trouble("server", running("server"), {}, folder)
    assert found == health.Trouble(f"has lost {folder.prefect_home}/prefect.db", lasting=True)
    (folder.prefect_home / "prefect.db").touch()
    assert health.trouble("server", running("server"), {}, folder) is None


@pytest.mark.parametrize(("writes", "lasting"), [(None, False), (False, True)])
def test_a_server_that_does_not_write(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, writes: bool | None, lasting: bool
) -> None:
    """What it refuses to write it will refuse; what it didn't write in time it still may."""
    (folder.prefect_home / "prefect.db").touch()
    monkeypatch.setattr(probes, "api_opens", opens)
    write_private(folder)
    monkeypatch.setattr(probes, "api_writes", lambda *_: writes)
    found = health.trouble("server", running("server"), {}, folder)
    assert found is not None
    assert (found.lasting, found.hint) == (lasting, "")
    assert "can't write" in found.reason


def test_an_identity_whose_file_is_damaged(folder: Folder) -> None:
    """It doesn't run, and no new start would mend that: what does is said, and what it costs."""
    kept = Places(folder.identity).database
    assert health.trouble("identity", State(), {}, folder) == health.Trouble(
        "does not run", lasting=True
    )
    sqlite3.connect(kept).execute("CREATE TABLE a (b)").close()
    found = health.trouble("identity", State(), {}, folder)
    assert found is not None
    assert found.hint == ""
    kept.write_bytes(b"x" * 8192)
    found = health.trouble("identity", State(), {}, folder)
    assert found is not None
    assert found.hint == "run: spanctl local reset && spanctl local up"
    assert "secrets lost" in found.reason
