"""The emulator as a container, with an engine that runs the real emulator instead."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from spanctl.local import emulator
from spanctl.local.processes import identity
from spanctl.local.results import PartState
from spanctl.local.stack import Stack

ENGINE = """#!/bin/sh
echo "$@" >> {calls}
[ "$1" = run ] || exit 0
for word; do case "$word" in 127.0.0.1:*:9010) port=${{word%:9010}};; esac; done
exec {binary} --host_port "$port"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let docker be all there is; return the file in which its calls are."""
    binary = emulator.find(os.environ).program
    written = tmp_path / "calls"
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text(ENGINE.format(calls=written, binary=binary))
    engine.chmod(0o755)
    (engine.parent / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    monkeypatch.setattr(emulator, "_SDK_ROOTS", ())
    monkeypatch.setenv("PATH", str(engine.parent))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")  # only the emulator matters
    return written


@pytest.mark.emulator
def test_a_container_is_removed_before_a_start_and_after_the_end(
    calls: Path, tmp_path: Path
) -> None:
    """Also when its client was killed, and so could not remove it."""
    stack = Stack(tmp_path / "local", prepare=lambda _endpoints: "ledger")
    try:
        (status, *_) = stack.up().parts
        assert status.state is PartState.RUNNING
        assert status.pid is not None
        remove, run = calls.read_text().splitlines()
        assert remove.startswith("rm --force spanctl-")
        name = remove.split()[-1]
        assert f"--name {name} " in run
        assert run.endswith(f"{emulator.IMAGE} ./emulator_main --host_port 0.0.0.0:9010")
        os.kill(status.pid, signal.SIGKILL)
        assert stack.up().parts[0].state is PartState.RUNNING
        assert [line.split()[0] for line in calls.read_text().splitlines()][2:] == ["rm", "run"]
    finally:
        stack.down()
    assert calls.read_text().splitlines()[-1] == remove
    assert identity(status.pid) is None
