"""What attacks need: a database of accounts, and a whole stack, each reached as a person does."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanctl.local.stack import Stack
from tests.fixtures.cli import child_environment
from tests.flows.conftest import bank

__all__ = ["bank"]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder that everybody may enter: only what the stack does itself keeps others out."""
    made = Path(tempfile.mkdtemp(prefix="spanctl-closed-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def environ(home: Path) -> dict[str, str]:
    """The environment of the stack's owner."""
    places = {"SPANCTL_CONFIG_HOME": str(home / "config"), "SPANCTL_STATE_HOME": str(home / "s")}
    return child_environment(places)


@pytest.fixture(scope="module")
def started(environ: dict[str, str]) -> Iterator[Stack]:
    """A stack, as a person starts it."""
    stack = Stack(environ=environ)
    try:
        result = stack.up()
        assert result.is_up, result.failures
        yield stack
    finally:
        stack.down()


@pytest.fixture
def stack(started: Stack) -> Stack:
    """The stack with everything up, whatever the test before did to it."""
    result = started.up()
    assert result.is_up, result.failures
    return started
