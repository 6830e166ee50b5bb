"""Whether a part answers, asked the cheap way: no SDK, one short request."""

import http.client
import json
import socket
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from spanctl.clock import parse_rfc3339
from spanctl.errors import SpanctlError, UsageError
from spanctl.local import ports
from spanctl.orchestration.settings import ApiSettings
from spanctl.orchestration.transport import Transport

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # empty SETTINGS
_SETTINGS: Final = 4
_FRAME_HEADER: Final = 9
_OK: Final = 200
_CREATED: Final = 201
_UNAVAILABLE: Final = 503
_PAUSE: Final = 0.1


def grpc_answers(endpoint: str, timeout: float = 1.0) -> bool:
    """Whether a gRPC server (anything that speaks plain HTTP/2) answers at ``host:port``."""
    host, _, port = endpoint.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout) as stream:
            stream.settimeout(timeout)
            stream.sendall(_PREFACE)
            header = b""
            while len(header) < _FRAME_HEADER:
                chunk = stream.recv(_FRAME_HEADER - len(header))
                if not chunk:
                    return False
                header += chunk
    except (OSError, ValueError):
        return False
    return header[3] == _SETTINGS


def standins_answer(url: str, timeout: float = 1.0) -> bool:
    """Whether the stand-ins answer over TLS.

    Their certificate isn't looked at: nothing is sent to them, and they are known by their process.
    """
    import ssl  # a light command that only looks at the state shall not pay for it

    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=timeout, context=context
    )
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == _OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def vouches(bundle: Path, url: str, timeout: float = 1.0) -> bool:
    """Whether the roots in a file vouch for the certificate that is shown at a URL."""
    import ssl

    parts = urlsplit(url)
    try:
        context = ssl.create_default_context(cafile=str(bundle))
        address = (parts.hostname or "", parts.port or 0)
        with (
            socket.create_connection(address, timeout) as stream,
            context.wrap_socket(stream, server_hostname=parts.hostname),
        ):
            return True
    except (OSError, ValueError):
        return False


def logs_in(document: Path, bundle: Path, url: str, timeout: float = 2.0) -> bool:
    """Whether the stand-ins give a token for the login in a file, and it names them."""
    import ssl

    target = f"{url}/token"
    try:
        login = json.loads(document.read_bytes())
        names = ("client_id", "client_secret", "refresh_token")
        form = {"grant_type": "refresh_token", **{name: login[name] for name in names}}
        if login["token_uri"] != target:
            return False
        trust = ssl.create_default_context(cafile=str(bundle))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    parts = urlsplit(target)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=timeout, context=trust
    )
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        connection.request("POST", parts.path, urlencode(form), headers)
        return connection.getresponse().status == _OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def alone_on(endpoint: str) -> bool:
    """Whether only one socket listens on the endpoint's port (two would share its traffic)."""
    return (ports.listeners(int(endpoint.rpartition(":")[2])) or 1) == 1


def api_answers(api: ApiSettings, timeout: float = 1.0) -> bool:
    """Whether a Prefect API answers and calls itself healthy."""
    return _asked(api, "GET", "/health", timeout)[0] == _OK


def api_opens(api: ApiSettings, timeout: float = 1.0) -> bool | None:
    """Whether a Prefect API opens by what is told to open it; None where it says neither."""
    status, _ = _asked(api, "GET", "/admin/version", timeout)
    return {_OK: True, 401: False, 403: False}.get(status)


def api_writes(api: ApiSettings, timeout: float) -> bool | None:
    """Whether a Prefect API, which answers, writes: a saved search is made, and removed again.

    None where it says neither in time.
    """
    deadline = time.monotonic() + timeout
    status, made = _UNAVAILABLE, None
    while status == _UNAVAILABLE and (left := deadline - time.monotonic()) > 0:
        status, made = _asked(api, "PUT", "/saved_searches/", left, {"name": "spanctl-probe"})
        if status == _UNAVAILABLE:  # as SQLite under light load, for a moment
            time.sleep(_PAUSE)
    if status in {_OK, _CREATED} and isinstance(made, dict):
        _asked(api, "DELETE", f"/saved_searches/{made.get('id')}", timeout)
        return True
    return None if status in {0, _UNAVAILABLE} else False


def worker_polls(api: ApiSettings, pool: str, name: str, since: datetime) -> bool:
    """Whether a worker of that name has reported to its pool since then, and counts as online."""
    status, workers = _asked(api, "POST", f"/work_pools/{pool}/workers/filter", 2.0, {})
    if status != _OK or not isinstance(workers, list):
        return False
    for worker in workers:
        if worker.get("name") == name and worker.get("status") == "ONLINE":
            try:
                return parse_rfc3339(worker["last_heartbeat_time"]) >= since
            except (KeyError, TypeError, UsageError):
                return False
    return False


def _asked(
    api: ApiSettings,
    method: str,
    path: str,
    timeout: float,
    body: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """Return the status and the JSON of the answer to one request; status 0 when there is none."""
    transport = Transport(api, timeout=timeout)
    try:
        return transport.request(method, path, body, repeatable=False)
    except SpanctlError as error:
        return int(error.details.get("status") or 0), None
    finally:
        transport.close()
