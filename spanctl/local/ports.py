"""Free ports on loopback."""

import random
import socket
from typing import Final

from spanctl import peers
from spanctl.errors import ConfigurationError

LOOPBACK: Final = "127.0.0.1"
OWN_HOSTS: Final = (LOOPBACK, "localhost")
"""What this machine is called where one listens on loopback."""

_RANGE: Final = range(20000, 32000)  # below the ports that outgoing connections take
_TRIES: Final = 200


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
    users = peers.listeners(port)
    return None if users is None else len(users)
