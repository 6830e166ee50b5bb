"""``python -m tests.campaign.engines SOCKET``: forks what a worker would start: it takes seconds.

The worker is Prefect's own, and starts this file without Prefect, as a client of the first: it
hands its environment over, and ends as the engine does.
"""

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

HOLD = ".hold"
"""The ending of a file beside the socket, while which is there no engine begins."""
_MODULES = (
    "google.cloud.spanner",
    "prefect.engine",
    "prefect.flow_engine",
    "spanctl.spanner.run",
    "spanctl.local.engine",
    "spanctl.flows.engines",
    "tests.campaign.dying",
)


def ask(path: str) -> int:
    """Have an engine forked, and return its exit code once it has ended."""
    while Path(path + HOLD).exists():
        time.sleep(0.2)
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(path)
        link.sendall(json.dumps(dict(os.environ)).encode())
        link.shutdown(socket.SHUT_WR)
        told = link.recv(16)
    return int(told or 1)


def serve(path: str) -> None:
    """Fork an engine for each client."""
    for name in _MODULES:
        importlib.import_module(name)
    import gc
    import selectors

    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as door, selectors.DefaultSelector() as looking:
        door.bind(path)
        door.listen(64)
        looking.register(door, selectors.EVENT_READ)
        while True:
            for key, _ in looking.select():
                if key.data is None:
                    _fork(door, looking)
                    continue
                pid, link = key.data
                looking.unregister(key.fd)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(OSError), link:
                    link.sendall(str(code).encode())


def _fork(door, looking) -> None:
    link, _ = door.accept()
    heard = bytearray()
    while part := link.recv(65536):
        heard += part
    if not heard:
        link.close()
        return
    pid = os.fork()
    if pid == 0:
        door.close()
        link.close()
        _engine(json.loads(heard))
    looking.register(os.pidfd_open(pid), 1, (pid, link))


def _engine(environ: dict[str, str]) -> None:
    """Be the engine; never returns."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environ)
        sys.argv = ["engine"]
        from spanctl.local import engine

        engine.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Serve, or ask: as it is started."""
    if __spec__ is not None:
        serve(sys.argv[1])
        return
    code = ask(sys.argv[1])
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
