"""``spanctl local`` says how things are, in words, codes and JSON."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanctl.clock import now
from spanctl.local.state import Folder, Record, State
from tests.fixtures.cli import Ended, Spanctl


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """The test's state folder, where nothing was started yet."""
    return Folder(tmp_path / "spanctl-state" / "local")


def crashed(folder: Folder) -> None:
    folder.create()
    gone = Record(2**22 - 1, "boot:1", "127.0.0.1:9", now(), "")
    folder.save(State(parts={"emulator": gone}))
    folder.log("emulator").write_text("one\ntwo\n\x1b[31mthree\n")


def test_status_of_nothing_exits_3(spanctl: Spanctl) -> None:
    """No stack is running: each part says so, and the way out is named."""
    result = spanctl("local", "status", "-o", "json")
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    assert answer["schema"] == "spanctl.local.status/v1"
    assert answer["up"] is False
    assert {item["part"]: item["state"] for item in answer["items"]} == {
        "emulator": "stopped",
        "identity": "stopped",
        "server": "stopped",
        "worker": "stopped",
    }
    assert "spanctl local up" in spanctl("local", "status").stderr


def test_status_tells_a_crash(spanctl: Spanctl, folder: Folder) -> None:
    """A part whose process is gone has crashed, and shows no pid."""
    crashed(folder)
    result = spanctl("local", "status", "-o", "json")
    emulator = json.loads(result.stdout)["items"][0]
    assert (emulator["state"], emulator["pid"]) == ("crashed", None)
    assert result.exit_code == 3


def test_logs_are_data(spanctl: Spanctl, folder: Folder) -> None:
    """Last lines of one part or of all, on stdout, control characters made visible."""
    crashed(folder)
    assert spanctl("local", "logs", "emulator", "-n", "2").stdout == "two\n\\x1b[31mthree\n"
    assert spanctl("local", "logs", "-n", "2").stdout.startswith("emulator  two\n")
    assert spanctl("local", "logs", "server").stdout == ""


def test_logs_of_what_is_no_part(spanctl: Spanctl) -> None:
    """The parts that exist are named."""
    result = spanctl("local", "logs", "gateway")
    assert result.exit_code == 5
    assert "emulator, identity, server, worker" in result.stderr


def test_down_of_nothing_is_harmless(spanctl: Spanctl, folder: Folder) -> None:
    """Exit 0, and no folder is made for it."""
    result = spanctl("local", "down")
    assert result.exit_code == 0
    assert "nothing was running" in result.stderr
    assert not folder.path.exists()


def test_reset_asks_first(spanctl: Spanctl, folder: Folder) -> None:
    """A script that doesn't pass --yes loses nothing."""
    crashed(folder)
    assert spanctl("local", "reset").exit_code == 2
    assert folder.state_file.exists()
    assert spanctl("local", "reset", "--yes").exit_code == 0
    assert not folder.state_file.exists()


def bad_state(folder: Folder) -> tuple[tuple[str, ...], dict[str, str]]:
    folder.create()
    folder.state_file.write_text("{")
    return ("local", "up"), {}


def a_file_in_the_way(folder: Folder) -> tuple[tuple[str, ...], dict[str, str]]:
    folder.path.parent.mkdir(parents=True)
    folder.path.write_text("")
    return ("local", "up"), {}


def no_emulator(folder: Folder) -> tuple[tuple[str, ...], dict[str, str]]:
    named = str(folder.path / "none")
    return ("local", "up"), {"SPANCTL_SPANNER_EMULATOR": named}


def no_address(_folder: Folder) -> tuple[tuple[str, ...], dict[str, str]]:
    return ("local", "up"), {"SPANNER_EMULATOR_HOST": ":9010"}


def no_port(_folder: Folder) -> tuple[tuple[str, ...], dict[str, str]]:
    return ("local", "up", "--spanner-port", "70000"), {}


def bad_contexts(folder: Folder) -> tuple[tuple[str, ...], dict[str, str]]:
    config = folder.path.parent.parent / "spanctl-config"
    config.mkdir()
    (config / "contexts.toml").write_text("[")
    return ("local", "up"), {}


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (bad_state, "it is damaged"),
        (a_file_in_the_way, "can't write"),
        (no_emulator, "SPANCTL_SPANNER_EMULATOR names"),
        (no_address, "which is no address"),
        (no_port, "70000"),
        (bad_contexts, "can't read the contexts"),
    ],
)
def test_what_up_can_not_use_is_one_line_and_starts_nothing(
    spanctl: Spanctl,
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Folder], tuple[tuple[str, ...], dict[str, str]]],
    said: str,
) -> None:
    """Exit 2, one line and a hint, nothing on stdout, no log of anything that was started."""
    command, environment = prepare(folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = spanctl(*command)
    assert result.exit_code == 2, result.stderr
    (error, hint) = result.stderr.splitlines()
    assert said in error
    assert hint.startswith("hint: ")
    assert result.stdout == ""
    assert not list(folder.path.parent.glob("local/logs/*"))


def test_a_taken_port_is_a_conflict(spanctl: Spanctl, folder: Folder) -> None:
    """Exit 6; the port is named, and nothing was started."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = spanctl("local", "up", "--prefect-port", str(port))
    assert result.exit_code == 6
    assert f"port {port} is taken" in result.stderr
    assert not list(folder.path.glob("logs/*"))


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An emulator that dies at once, and an API that nobody serves."""
    program = tmp_path / "emulator_main"
    program.write_text("#!/bin/sh\necho out of luck\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("SPANCTL_SPANNER_EMULATOR", str(program))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    return {}


@pytest.mark.usefixtures("stubs")
def test_parts_that_fail_exit_3_with_their_last_words(child: Callable[..., Ended]) -> None:
    """What failed is named with its reason and its log; off a terminal in plain lines."""
    try:
        result = child("local", "up")
    finally:
        stopped = child("local", "down")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "emulator  failed: it ended while it was starting" in result.stderr
    assert "server    failed: nothing answers at http://127.0.0.1:1/api" in result.stderr
    assert "worker    failed: it needs the server" in result.stderr
    assert "out of luck" in result.stderr
    assert "error: not up: " in result.stderr
    assert "\x1b" not in result.stderr
    assert stopped.exit_code == 0


@pytest.mark.usefixtures("stubs")
def test_on_a_terminal_steps_are_live(terminal: Callable[..., Ended]) -> None:
    """A failed step has its mark, and the terminal is left with a visible cursor."""
    try:
        result = terminal("local", "up")
    finally:
        terminal("local", "down")
    assert result.exit_code == 3
    assert "✗" in result.stdout
    assert result.stdout.rfind("\x1b[?25h") > result.stdout.rfind("\x1b[?25l")
