"""The HTTPS server of the IAM stand-in: requests in, Google's JSON out."""

import http.server
import json
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote

from spanctl.doors import Door
from spanctl.local.standins.accounts import Accounts
from spanctl.local.standins.iam import Call, Iam
from spanctl.local.standins.iamroutes import route
from spanctl.local.standins.oauth import GrantError, OAuth
from spanctl.local.standins.status import RefusedError, invalid
from spanctl.local.standins.tokens import Tokens

HEALTH: Final = "/healthz"
SERVICE: Final = "iamcredentials.googleapis.com"
IAM_SERVICE: Final = "iam.googleapis.com"

_log = logging.getLogger(__name__)
_LARGEST: Final = 1 << 20
_DIGITS: Final = 7  # Python refuses to read very many
_X509: Final = "/service_accounts/v1/metadata/x509/"
_JWK: Final = "/service_accounts/v1/jwk/"


class Api:
    """Everything that is answered over HTTPS, without the sockets."""

    def __init__(
        self, iam: Iam, oauth: OAuth, tokens: Tokens, accounts: Accounts, base: str
    ) -> None:
        """Answer with these, at ``base`` (``https://127.0.0.1:PORT``)."""
        self._iam = iam
        self._oauth = oauth
        self._tokens = tokens
        self._project = accounts.project
        self._base = base

    def answer(
        self, method: str, target: str, authorization: str | None, body: bytes
    ) -> tuple[HTTPStatus, dict[str, Any]]:
        """Answer one request; every refusal is an answer too."""
        address, _, asked = target.partition("#")[0].partition("?")
        path, query = unquote(address), dict(parse_qsl(asked))
        try:
            return HTTPStatus.OK, self._answer(method, path, query, authorization, body)
        except GrantError as error:
            _log.info("%s %s: %s", method, path, error)
            told = {"error": error.error, "error_description": error.description}
            return HTTPStatus.BAD_REQUEST, told
        except RefusedError as error:
            _log.info("%s %s: %s", method, path, error)
            status = error.status.http
            text = {"message": error.message, "status": str(error.status)}
            return status, {"error": {"code": status.value, **text}}

    def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        authorization: str | None,
        body: bytes,
    ) -> dict[str, Any]:
        if path == HEALTH:
            return {"status": "ok"}
        if path == "/token" and method == "POST":
            return self._oauth.token(_form(body), f"{self._base}/token")
        if path in {"/tokeninfo", "/oauth2/v3/tokeninfo", "/oauth2/v1/tokeninfo"}:
            return self._oauth.tokeninfo({**query, **_form(body)}.get("access_token", ""))
        if path.startswith(_X509):
            return dict(self._oauth.certificates(path.removeprefix(_X509)))
        if path.startswith(_JWK):
            return self._oauth.jwks(path.removeprefix(_JWK))
        found, account, key = route(method, path, self._project)
        is_credentials = path.endswith((":generateAccessToken", ":signJwt"))
        service = SERVICE if is_credentials else IAM_SERVICE
        principal = self._tokens.admit(authorization, service)
        told = found(self._iam, Call(principal, _json(body), query, account, key))
        _log.info("%s %s by %s", method, path, principal.email)
        return told


class Server:
    """A TLS server on loopback, a thread for each connection."""

    def __init__(self, api: Api, port: int, context: Callable[[], ssl.SSLContext]) -> None:
        """Bind the port and begin to serve.

        Args:
            api: What answers.
            port: The port on loopback; 0 for any.
            context: Returns the TLS settings, asked for each connection: certificates are renewed.

        Raises:
            OSError: The port is taken.
        """
        self._server = _Listener(("127.0.0.1", port), _Handler)
        self._server.api, self._server.context = api, context
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections."""
        self._server.shutdown()
        self._server.server_close()


class _Listener(Door):
    allow_reuse_address = True
    api: Api
    context: Callable[[], ssl.SSLContext]

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        wrapped = self.context().wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        return wrapped, address  # its own thread shakes hands: a silent peer waits alone

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - the base class's
        error = sys.exception()
        if isinstance(error, OSError):  # TLS errors too: the peer's fault, or its leaving
            _log.info("a connection failed: %s", type(error).__name__)
        else:
            _log.error("a request failed", exc_info=error)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "spanctl"
    disable_nagle_algorithm = True  # a body would wait 40 ms for the headers' delayed ACK
    sys_version = ""

    def _respond(self) -> None:
        door = cast("_Listener", self.server)
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True  # where the next request begins is not known
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return
        length = self.headers.get("Content-Length") or "0"
        if not length.isdecimal() or len(length) > _DIGITS or int(length) > _LARGEST:
            self.close_connection = True
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self.rfile.read(int(length))
        door.asked(self.connection)
        authorization = self.headers.get("Authorization")
        status, told = door.api.answer(self.command, self.path, authorization, body)
        data = json.dumps(told).encode()
        door.waits(self.connection)
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _respond  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Log nothing here: a request line may hold a token."""


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode()))
    except UnicodeDecodeError:
        return {}


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        msg = "Invalid JSON payload received."
        raise invalid(msg)
    return data
