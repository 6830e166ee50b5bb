"""What ``up`` does with parts that are there, and with those that end."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanctl.local import health, processes
from spanctl.local.parts import Part
from spanctl.local.starter import Starter
from spanctl.local.state import Folder, State

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    folder = Folder(tmp_path / "local")
    folder.create()
    made = Starter(folder, State(), {}, lambda _event: None)
    yield made
    processes.end([record.pid for record in made.state.parts.values()], 5)
    folder.tidy()


def part(code: str) -> Part:
    return Part(
        name="server",
        command=(sys.executable, "-c", code),
        environment={},
        endpoint="http://127.0.0.1:9/api",
        timeout=60.0,
    )


def settle(starter: Starter) -> None:
    while starter.waiting:
        starter.poll()


@pytest.fixture
def suffer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that says what troubles a part that runs, one look after the other."""

    def say(*troubles: health.Trouble | None) -> None:
        left = list(troubles)
        looked = lambda *_: left.pop(0) if len(left) > 1 else left[0]  # noqa: E731
        monkeypatch.setattr(health, "trouble", looked)
        monkeypatch.setattr("spanctl.local.starter._PATIENCE", 0.0)

    return say


def test_a_part_that_no_new_start_mends_is_left_alone(
    starter: Starter, suffer: Callable[..., None]
) -> None:
    """It goes on running, and the failure says what to do in place of that."""
    suffer(None)
    starter.launch(part(SLEEP))
    settle(starter)
    pid = starter.state.parts["server"].pid
    suffer(health.Trouble("is kept from it", "run: kill 1"))
    starter.launch(part(SLEEP))
    settle(starter)
    (failure,) = starter.failures
    assert (failure.reason, failure.hint) == ("it is kept from it", "run: kill 1")
    assert health.alive(starter.state.parts["server"])
    assert starter.state.parts["server"].pid == pid


def test_a_part_whose_trouble_lasts_is_replaced_at_once(
    starter: Starter, suffer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for what doesn't pass; what may is waited for."""
    suffer(None)
    starter.launch(part(SLEEP))
    settle(starter)
    pid = starter.state.parts["server"].pid
    suffer(health.Trouble("may pass"), None)
    monkeypatch.setattr("spanctl.local.starter._PATIENCE", 60.0)
    starter.launch(part(SLEEP))
    settle(starter)
    assert starter.state.parts["server"].pid == pid
    suffer(health.Trouble("lasts", lasting=True), None)
    monkeypatch.setattr("spanctl.local.starter._PATIENCE", 60.0)
    starter.launch(part(SLEEP))
    settle(starter)
    assert starter.state.parts["server"].pid != pid
    assert not starter.failures


def test_what_a_part_advises_as_it_ends_is_passed_on(starter: Starter) -> None:
    """Its last line says what to run."""
    starter.launch(
        part("import sys; sys.exit('the file is no database; run: spanctl local reset')")
    )
    settle(starter)
    (failure,) = starter.failures
    assert failure.hint == "run: spanctl local reset"
