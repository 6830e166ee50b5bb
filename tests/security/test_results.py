"""No other user has code run by a pickle that they leave where Prefect looks for results."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.serializers import PickleSerializer

from tests.fixtures.cli import child_environment
from tests.flows.bank import Bank
from tests.security.stranger import NOBODY

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.prefect,
    pytest.mark.usefixtures("prefect"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user"),
]

_FLOWS: Final = """
from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner


@task(cache_key_fn=lambda *_: "known", persist_result=True)
def look_up():
    return 1


@flow
def alone():
    return look_up()


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def pooled():
    return look_up.submit().result()
"""
_CONTROL: Final = """
from spanctl.orchestration import ownresults
ownresults.install = ownresults.keep_own = lambda *_: None
{flows}
alone()
"""
_PLANT: Final = """
import os, sys
from pathlib import Path
os.setgroups([])
os.setresgid(*[int(sys.argv[1])] * 3)
os.setresuid(*[int(sys.argv[1])] * 3)
path = Path(sys.argv[2])
path.unlink(missing_ok=True)
path.write_bytes(sys.stdin.buffer.read())
path.chmod(0o644)
"""


class Evil:
    """Whoever unpickles it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def storage() -> Iterator[Path]:
    """A folder of results that its owner made under a loose umask."""
    made = Path(tempfile.mkdtemp(prefix="spanctl-results-"))
    made.chmod(0o755)
    folder = made / "storage"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(made)


def plant(storage: Path, marker: Path) -> None:
    metadata = ResultRecordMetadata(
        storage_key=str(storage / "known"), serializer=PickleSerializer()
    )
    record: ResultRecord[Any] = ResultRecord(result=Evil(marker), metadata=metadata)
    command = [sys.executable, "-I", "-c", _PLANT, NOBODY, str(storage / "known")]
    subprocess.run(command, input=record.serialize(), cwd="/", check=True)


def run(storage: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    environ = child_environment({"PREFECT_LOCAL_STORAGE_PATH": str(storage)})
    return subprocess.run(
        [sys.executable, *command],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", ["alone", "pooled"])
def test_a_planted_result_is_not_loaded(
    bank: Bank, storage: Path, tmp_path: Path, name: str
) -> None:
    """The task runs instead, one line says why, and the file stays as it is."""
    del bank  # its database is what the command is used with
    flows, marker = tmp_path / "flows.py", tmp_path / "marker"
    flows.write_text(_FLOWS, encoding="utf-8")
    plant(storage, marker)
    ended = run(storage, "-m", "spanctl_cli.main", "run", f"{flows}:{name}")
    assert ended.returncode == 0, ended.stderr
    assert not marker.exists()
    assert f"results at {storage} are neither read nor kept" in ended.stderr
    assert f"chmod go-w {storage}" in ended.stderr


def test_the_control(storage: Path, tmp_path: Path) -> None:
    """Prefect without this has it run; it imports spanctl itself, as one of its collections."""
    flows, marker = tmp_path / "flows.py", tmp_path / "marker"
    flows.write_text(_CONTROL.format(flows=_FLOWS), encoding="utf-8")
    plant(storage, marker)
    run(storage, str(flows))
    assert marker.exists()
