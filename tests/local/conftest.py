"""Real stacks: the emulator, a Prefect server and a worker, in a folder of their own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanctl.local.stack import Stack
from spanctl.orchestration.settings import ApiSettings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a file's stack: its configuration and its state."""
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def environ(home: Path) -> dict[str, str]:
    """The environment of everyone who works with that stack."""
    places = {
        "SPANCTL_CONFIG_HOME": str(home / "config"),
        "SPANCTL_STATE_HOME": str(home / "state"),
    }
    return {**os.environ, **places}


@pytest.fixture(scope="module")
def started(environ: dict[str, str]) -> Iterator[Stack]:
    """A stack for a file, started once: Prefect makes its database in ten seconds."""
    stack = Stack(environ=environ)
    try:
        result = stack.up()
        assert result.is_up, result.failures
        yield stack
    finally:
        stack.down()


@pytest.fixture
def stack(started: Stack) -> Stack:
    """The file's stack, with everything up, whatever the test before did to it."""
    result = started.up()
    assert result.is_up, (result.failures, result.parts)
    return started


def opened(stack: Stack) -> dict[str, str]:
    """Prefect's variables with which its own client reaches the stack's server."""
    endpoints = stack.status().endpoints
    assert endpoints is not None
    auth = stack.folder.auth.read_text(encoding="utf-8")
    return {"PREFECT_API_URL": endpoints.prefect_api_url, "PREFECT_API_AUTH_STRING": auth}


def api_of(stack: Stack) -> ApiSettings:
    """How the stack's server is reached."""
    told = opened(stack)
    return ApiSettings(told["PREFECT_API_URL"], auth_string=told["PREFECT_API_AUTH_STRING"])


@pytest.fixture
def pids() -> Callable[[Stack], dict[str, int | None]]:
    """Return a function that gives the pid of each part."""
    return lambda stack: {part.name: part.pid for part in stack.status().parts}
