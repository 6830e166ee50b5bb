"""Proxies that the environment names: none of them stands between us and this machine."""

import os
from collections.abc import MutableMapping
from typing import Final

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
_EXEMPT: Final = ("no_proxy", "NO_PROXY")
_GRPC: Final = "no_grpc_proxy"  # where it is set, gRPC doesn't look at no_proxy
_ALL: Final = "*"  # exempts every host, but gRPC doesn't know it, and others only where it is alone


def is_loopback(endpoint: str) -> bool:
    """Tell whether a host, with or without a port, is this machine."""
    host = endpoint.rpartition(":")[0] if endpoint.count(":") == 1 or "]:" in endpoint else endpoint
    from ipaddress import ip_address  # --help shall not pay for it

    host = host.strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def spare_loopback(environ: MutableMapping[str, str] = os.environ) -> None:
    """Have libraries and child processes reach this machine without the proxies of the environment.

    All other hosts are reached through them as before. A SOCKS proxy for all is left out where
    httpx, which Prefect speaks with, can't use one: it would reach nothing at all.
    """
    named = [name for name in environ if name.lower() in _PROXIES and environ[name]]
    if not named:
        return
    exempt = next((environ[name] for name in _EXEMPT if environ.get(name)), "")
    for name in _EXEMPT:
        given = environ.get(name) or exempt
        environ[name] = given if _ALL in _hosts(given) else _with_loopback(given)
    if _GRPC in environ or _ALL in _hosts(exempt):
        environ[_GRPC] = _with_loopback(environ.get(_GRPC, exempt))
    for name in named:
        if environ[name].lower().startswith("socks") and not _speaks_socks():
            del environ[name]


def _speaks_socks() -> bool:
    from importlib.util import find_spec

    return find_spec("socksio") is not None


def _hosts(exempt: str) -> list[str]:
    return [host for host in (one.strip() for one in exempt.split(",")) if host]


def _with_loopback(exempt: str) -> str:
    given = _hosts(exempt)
    return ",".join([*given, *(host for host in LOOPBACK if host not in given)])
