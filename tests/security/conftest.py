"""What attacks need: a database of accounts, and a whole stack, each reached as a person does."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.cli import child_environment
from tests.flows.conftest import bank
from tests.local.conftest import stack, started

__all__ = ["bank", "stack", "started"]


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder that everybody may enter: only what the stack does itself keeps others out."""
    made = Path(tempfile.mkdtemp(prefix="spanctl-closed-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def environ(home: Path) -> dict[str, str]:
    """The environment of the stack's owner."""
    places = {"SPANCTL_CONFIG_HOME": str(home / "config"), "SPANCTL_STATE_HOME": str(home / "s")}
    return child_environment(places)
