"""A process that holds material and crashes leaves none of it on the disk, nor in what it says."""

import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.fixtures.cli import child_environment

CANARY: Final = "canary-that-no-core-holds"
_PATTERN: Final = Path("/proc/sys/kernel/core_pattern")
_CRASH: Final = """
import faulthandler, os, resource, sys
faulthandler.enable()
most = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (most, most))
{first}
def crash(held):
    sys.stdout.write(str(resource.getrlimit(resource.RLIMIT_CORE)))
    sys.stdout.flush()
    os.kill(os.getpid(), int(sys.argv[1]))
with open(sys.argv[2]) as stream:
    held = stream.read()
crash(held)
"""
_HOLDING: Final = {
    "the command line, a library's program": """
from spanctl.credentials.resolve import resolve
resolve("adc")
""",
    "what asks Prefect's API, and a flow run's engine": """
from pathlib import Path
from spanctl.orchestration.keys import read_file
read_file(Path(sys.argv[2]))
""",
    "the stack's own Prefect server": """
from spanctl.credentials.secret import Secret
from spanctl.local import guard
guard.close(Secret("somebody:opens-the-server"))
""",
    "the stand-ins": """
from spanctl.local.standins import __main__ as standins
standins._keep_secrets()
""",
}


def crashed(folder: Path, first: str, number: int) -> "subprocess.CompletedProcess[str]":
    kept = folder / "kept"
    kept.write_text(CANARY)
    kept.chmod(0o600)
    work = folder / "work"
    work.mkdir()
    return subprocess.run(
        [sys.executable, "-c", _CRASH.format(first=first), str(number), str(kept)],
        cwd=work,
        env=child_environment({"HOME": str(folder)}),
        capture_output=True,
        text=True,
        check=False,
    )


def cores_with_it(folder: Path) -> list[Path]:
    found = (folder / "work").iterdir()
    return [one for one in found if CANARY.encode() in one.read_bytes()]


@pytest.mark.parametrize("first", _HOLDING.values(), ids=_HOLDING.keys())
def test_a_crash_leaves_no_material(tmp_path: Path, first: str) -> None:
    """No core is written, and Python's own account of the crash shows no value."""
    ended = crashed(tmp_path, first, signal.SIGSEGV)
    assert ended.returncode == -signal.SIGSEGV, ended.stderr
    assert list((tmp_path / "work").iterdir()) == []
    assert ended.stdout == "(0, 0)"
    assert "most recent call first" in ended.stderr
    assert CANARY not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_the_control(tmp_path: Path, number: signal.Signals) -> None:
    """Left alone, it would be: the core holds the material, where the kernel writes one here."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("the machine allows no core")
    ended = crashed(tmp_path, "", number)
    assert ended.returncode == -number
    assert ended.stdout == str((resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if _PATTERN.exists() and "/" not in _PATTERN.read_text(encoding="ascii"):
        assert cores_with_it(tmp_path)
