"""Loaded by every Python process below the folder on PYTHONPATH: tells where it connects to.

Whatever isn't this machine is noted and refused, before a byte leaves. gRPC connects in C, so that
the targets of its channels are noted instead. What is sent over HTTP is noted whole.
"""

import importlib.abc
import ipaddress
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

FOLDER = "SPANCTL_TEST_WATCH"
_nested = threading.local()
_LOCAL = {"", "localhost", None, os.uname().nodename}


def is_local(host: Any) -> bool:
    """Whether a host is this machine."""
    if isinstance(host, bytes):
        host = host.decode()
    if host in _LOCAL:
        return True
    try:
        address = ipaddress.ip_address(str(host).strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def note(kind: str, to: str, **more: Any) -> None:
    """Append to this process's file."""
    if folder := os.environ.get(FOLDER):
        line = json.dumps({"kind": kind, "to": to, **more}) + "\n"
        with open(f"{folder}/{os.getpid()}.jsonl", "a", encoding="utf-8") as stream:  # noqa: PTH123 - light
            stream.write(line)


def hooked(event: str, args: tuple[Any, ...]) -> None:
    """Note and judge what Python's own sockets do."""
    if event == "socket.connect":
        host = args[1][0] if isinstance(args[1], tuple) else None  # else a Unix socket
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = args[0]
    else:
        return
    if not getattr(_nested, "on", False):
        _nested.on = True
        try:
            shown = host.decode() if isinstance(host, bytes) else str(host or "")
            note(event, shown)
        finally:
            _nested.on = False
    if not is_local(host):
        msg = f"{event} {host}: not this machine"
        raise ConnectionRefusedError(msg)


def of_target(target: str) -> str:
    """Return the host of a gRPC target."""
    return target.rpartition("/")[2].rpartition(":")[0] or target


def grpc_imported(module: Any) -> None:
    """Note where channels go to."""
    for name in ("secure_channel", "insecure_channel"):
        original = getattr(module, name)

        def opened(target: str, *args: Any, _open: Any = original, **kwargs: Any) -> Any:
            note("channel", of_target(target))
            if not is_local(of_target(target)):
                msg = f"channel {target}: not this machine"
                raise ConnectionRefusedError(msg)
            return _open(target, *args, **kwargs)

        setattr(module, name, opened)


def httpx_imported(module: Any) -> None:
    """Note what is sent; what authenticates at Prefect is meant for it."""

    def told(request: Any) -> None:
        headers = {k: v for k, v in request.headers.items() if k.lower() != "authorization"}
        try:
            body = request.content.decode("utf-8", "replace")
        except Exception:  # noqa: BLE001 - a stream that was not read
            body = ""
        note("http", request.url.host, url=str(request.url), headers=str(headers), body=body)

    send, async_send = module.Client.send, module.AsyncClient.send

    def sent(self: Any, request: Any, **kwargs: Any) -> Any:
        told(request)
        return send(self, request, **kwargs)

    async def async_sent(self: Any, request: Any, **kwargs: Any) -> Any:
        told(request)
        return await async_send(self, request, **kwargs)

    module.Client.send, module.AsyncClient.send = sent, async_sent


PATCHES: dict[str, Callable[[Any], None]] = {"grpc": grpc_imported, "httpx": httpx_imported}


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in PATCHES:
            return None
        for finder in sys.meta_path:
            if finder is self or not (spec := finder.find_spec(name, path, target)):
                continue

            def executed(module: Any, execute: Any = spec.loader.exec_module) -> None:
                execute(module)
                PATCHES[name](module)

            spec.loader.exec_module = executed
            return spec
        return None


if os.environ.get(FOLDER):
    sys.addaudithook(hooked)
    sys.meta_path.insert(0, _Finder())
