"""``make demo`` does what it says, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]


def test_the_demo_runs_to_its_end_and_stops_what_it_started(tmp_path: Path) -> None:
    """Airports imported, one fee paid twice by the naive flow and once by ours, then audited."""
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "cli")]),
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "28298" in done.stdout
    assert "server OK, client DEADLINE_EXCEEDED" in done.stdout
    assert "$ spanctl audit" in done.stdout
    assert "the newest 20" not in done.stderr  # of the list that it reads for itself
    assert not list(tmp_path.glob("spanctl-demo-*"))
    running = [
        path
        for path in Path("/proc").glob("[0-9]*/environ")
        if path.parent.name != str(os.getpid()) and str(tmp_path).encode() in _bytes(path)
    ]
    assert not running


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
