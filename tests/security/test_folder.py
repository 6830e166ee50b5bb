"""Nothing that lies in the current folder is taken, but the flow that is named and what it imports.

Whoever can write to a folder in which somebody works would have code run under their name: by a
logging configuration, which names callables, or by a module that stands for another one.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.fixtures.cli import Ended, child_environment
from tests.flows.bank import Bank

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

_LOGGING: Final = """
version: 1
handlers:
  evil:
    (): evil.Handler
root:
  handlers: [evil]
"""
_EVIL: Final = """
import logging, pathlib
pathlib.Path({mark!r}).touch()
class Handler(logging.NullHandler):
    pass
"""
_SHADOWS: Final = [
    "sitecustomize",
    "usercustomize",
    "prefect",
    "spanctl",
    "spanctl_cli",
    "typer",
    "rich",
    "grpc",
    "yaml",
    "json",
    "logging",
    "multiprocessing",
    "random",
    "asyncio",
    "dask",
    "encodings",
    "pydantic",
    "wave",
    "nowhere",
]
_FLOWS: Final = """
import contextlib
import wave
with contextlib.suppress(ImportError):
    import nowhere
from prefect import flow
from prefect.task_runners import ProcessPoolTaskRunner
from spanctl.flows import transaction


@transaction
def pay(txn):
    txn.execute_update("UPDATE accounts SET balance = balance + 5 WHERE id = 'a'")


@flow
def settle():
    pay()


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def pooled():
    pay.submit(key="one").result()
"""
_COMMANDS: Final = (
    ("run", "sql", "-e", "SELECT 1"),
    ("run", "sql", "-e", "UPDATE accounts SET balance = 1 WHERE id = 'a'"),
    ("run", "import", "{rows}", "--table", "accounts"),
    ("run", "{flows}:settle"),
    ("run", "{flows}:pooled"),
    ("runs", "list"),
    ("txn", "list"),
    ("audit", "list"),
    ("deployments", "list"),
    ("context", "show"),
    ("--help",),
)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What is there once code of the folder has run."""
    return tmp_path / "mark"


@pytest.fixture
def folder(tmp_path: Path, mark: Path) -> Path:
    """A folder in which somebody has left all that Prefect and Python look for."""
    path = tmp_path / "work"
    path.mkdir()
    evil = path / "evil.py"
    evil.write_text(_EVIL.format(mark=str(mark)), encoding="utf-8")
    (path / "logging.yml").write_text(_LOGGING, encoding="utf-8")
    return path


def in_dotenv(folder: Path) -> None:
    (folder / ".env").write_text("PREFECT_LOGGING_CONFIG_PATH=logging.yml\n", encoding="utf-8")


def in_toml(folder: Path) -> None:
    (folder / "prefect.toml").write_text('[logging]\nconfig_path = "logging.yml"\n', "utf-8")


def in_pyproject(folder: Path) -> None:
    text = '[tool.prefect.logging]\nconfig_path = "logging.yml"\n'
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")


def in_profiles(folder: Path) -> None:
    with (folder / ".env").open("a", encoding="utf-8") as dotenv:
        dotenv.write("PREFECT_PROFILES_PATH=profiles.toml\n")
    profile = 'active = "x"\n[profiles.x]\nPREFECT_LOGGING_CONFIG_PATH = "logging.yml"\n'
    (folder / "profiles.toml").write_text(profile, encoding="utf-8")


PLANTED: Final = (in_dotenv, in_toml, in_pyproject, in_profiles)


def typed(folder: Path, *command: str) -> Ended:
    """Run the program as it is installed, in that folder."""
    program = Path(sys.executable).with_name("spanctl")
    environment = {k: v for k, v in child_environment({}).items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(program), *command], cwd=folder, env=environment, capture_output=True, check=False
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def named(tmp_path: Path) -> dict[str, str]:
    """What commands name, outside of the folder."""
    rows, flows = tmp_path / "rows.csv", tmp_path / "pay.py"
    rows.write_text("id,balance\nc,1\n", encoding="utf-8")
    flows.write_text(_FLOWS, encoding="utf-8")
    return {"rows": str(rows), "flows": str(flows)}


def test_settings_of_the_folder(
    bank: Bank, folder: Path, mark: Path, named: dict[str, str]
) -> None:
    """No command has code run by them."""
    for plant in PLANTED:
        plant(folder)
    for command in _COMMANDS:
        ended = typed(folder, *(word.format(**named) for word in command))
        assert ended.exit_code == 0, ended.stderr
        assert not mark.exists(), command
    assert bank.balance("a") == 11


@pytest.mark.parametrize("plant", PLANTED)
def test_the_control(folder: Path, mark: Path, plant: Callable[[Path], None]) -> None:
    """Prefect by itself has it run."""
    plant(folder)
    flow = folder / "one.py"
    flow.write_text("from prefect import flow\n\n\n@flow\ndef one(): ...\n\n\none()\n", "utf-8")
    subprocess.run([sys.executable, str(flow)], cwd=folder, env=os.environ, check=False)
    assert mark.exists()


def test_modules_of_the_folder(bank: Bank, folder: Path, mark: Path, named: dict[str, str]) -> None:
    """None stands for one that is installed, in this process or in one that it starts."""
    for name in _SHADOWS:
        (folder / f"{name}.py").write_text(_EVIL.format(mark=str(mark)), encoding="utf-8")
    for command in _COMMANDS:
        ended = typed(folder, *(word.format(**named) for word in command))
        assert ended.exit_code == 0, ended.stderr
        assert not mark.exists(), command
    assert bank.balance("a") == 11


@pytest.mark.parametrize("target", ["flows/own.py:settle", "flows.own:settle"])
def test_a_flow_of_the_folder_finds_its_project(
    bank: Bank, folder: Path, named: dict[str, str], target: str
) -> None:
    """What lies in the folder where the project is at home, behind what is installed."""
    inner = folder / "flows"
    inner.mkdir()
    (inner / "__init__.py").touch()
    (folder / "of_project.py").touch()
    flow = Path(named["flows"]).read_text(encoding="utf-8")
    (inner / "own.py").write_text(f"import of_project\n{flow}", encoding="utf-8")
    ended = typed(folder, "run", target)
    assert (ended.exit_code, bank.balance("a")) == (0, 5), ended.stderr


def test_what_can_not_be_read_stops_nothing(
    bank: Bank, folder: Path, named: dict[str, str]
) -> None:
    """Prefect by itself would end there."""
    (folder / "prefect.toml").write_text("[api\n", encoding="utf-8")
    (folder / "pyproject.toml").write_bytes(b"\xff\xfe")
    ended = typed(folder, "run", f"{named['flows']}:settle")
    assert (ended.exit_code, bank.balance("a")) == (0, 5), ended.stderr
