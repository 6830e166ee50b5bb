"""gRPC's core, kept at work until the process ends.

When the last channel of a process goes, gRPC waits for its own threads, and holds Python's lock all
the while. One of them that ends what a channel had of Python's, such as the source of its tokens,
waits for that lock: then both wait for ever (seen with grpcio 1.85, in ``Channel.close``). So one
channel, which never connects, outlives all others.
"""

import ctypes
from typing import Final

import grpc

_NOWHERE: Final = "127.0.0.1:1"
_kept: Final[list[grpc.Channel]] = []


def keep() -> None:
    """Keep gRPC's core from ending; call it before a channel is opened."""
    if not _kept:
        channel = grpc.insecure_channel(_NOWHERE)
        # At the end of the interpreter, too, it would go as the last one.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(channel))
        _kept.append(channel)
