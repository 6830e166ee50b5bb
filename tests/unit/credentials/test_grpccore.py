"""gRPC's core does not end with the last channel, which could then wait for ever."""

import subprocess
import sys

import pytest

_THREADS = """
import contextlib, sys, time
from pathlib import Path
import grpc
from spanctl.credentials import grpccore

def running():
    found = set()
    for one in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # it may end meanwhile
            found.add(one.read_text().strip())
    return found

if sys.argv[1] == "kept":
    grpccore.keep()
    grpccore.keep()
channel = grpc.insecure_channel("127.0.0.1:1")
try:
    channel.unary_unary("/a/b")(b"", timeout=5)
except grpc.RpcError:
    pass
assert "lifeguard" in running(), running()
channel.close()
del channel
deadline = time.monotonic() + 1
while "lifeguard" in running() and time.monotonic() < deadline:
    time.sleep(0.01)
print("lifeguard" in running())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are looked at in /proc")
@pytest.mark.parametrize(("how", "is_there"), [("kept", "True"), ("as it comes", "False")])
def test_its_threads_go_on_after_the_last_channel(how: str, is_there: str) -> None:
    """They are never waited for; the process ends all the same, in order."""
    done = subprocess.run(
        [sys.executable, "-c", _THREADS, how],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, is_there), done.stderr
