"""Free ports on loopback."""

import random
import socket
from pathlib import Path
from typing import Final

from spanctl.errors import ConfigurationError

LOOPBACK: Final = "127.0.0.1"
OWN_HOSTS: Final = (LOOPBACK, "localhost")
"""What this machine is called where one listens on loopback."""

_RANGE: Final = range(20000, 32000)  # below the ports that outgoing connections take
_TRIES: Final = 200
_LISTEN: Final = "0A"


def is_free(port: int) -> bool:
    """Whether nothing listens on the port.

    Asked without SO_REUSEPORT: the emulator sets it, and would share a taken port in silence.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # skip TIME_WAIT, not listeners
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose(preferred: int | None = None, taken: frozenset[int] = frozenset()) -> int:
    """Return a free port: the preferred one if it is free, else any that is not in ``taken``.

    Chosen at random, so that two stacks that start at the same moment don't meet.

    Raises:
        ConfigurationError: No free port was found.
    """
    if preferred and preferred not in taken and is_free(preferred):
        return preferred
    for port in random.sample(_RANGE, _TRIES):
        if port not in taken and is_free(port):
            return port
    msg = "found no free port on loopback"
    raise ConfigurationError(msg, hint="name one that is free: --spanner-port, --prefect-port")


def listeners(port: int) -> int | None:
    """Return how many sockets listen on the port; None where that can't be told."""
    table = Path("/proc/net/tcp")
    if not table.exists():
        return None
    wanted = f":{port:04X}"
    count = 0
    for path in (table, Path("/proc/net/tcp6")):
        if path.exists():
            rows = (line.split() for line in path.read_text(encoding="ascii").splitlines()[1:])
            count += sum(1 for row in rows if row[1].endswith(wanted) and row[3] == _LISTEN)
    return count
