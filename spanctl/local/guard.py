"""What keeps others out of the stack's own Prefect server, in the process of that server."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from spanctl.credentials.secret import Secret
from spanctl.doors import open_wide
from spanctl.local.ports import OWN_HOSTS
from spanctl.local.sign_in import SignIn

if TYPE_CHECKING:
    from spanctl.local.sign_in import App, Message, Receive, Send

_PATIENCE: Final = 30.0
_WORDS: Final = 2


def _is_no_dump(record: logging.LogRecord) -> bool:
    """Keep off what uvicorn's sockets write of each message, cut in the middle."""
    return record.levelno > logging.DEBUG


def patient(protocol: type[Any], seconds: float = _PATIENCE) -> type[Any]:
    """Return uvicorn's protocol for HTTP with an end to its waiting.

    Its own lets connections be that ask nothing, or go on for ever with the same request.

    Args:
        protocol: The protocol's class.
        seconds: How long it may wait for the head of a request, and for its body; then for as long
            again at most.
    """

    class Patient(protocol):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.loop.call_later(seconds, self._look, None)

        def _look(self, seen: Any) -> None:  # noqa: ANN401 - uvicorn's
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                return  # it is gone, or a WebSocket now
            if self.cycle is seen and (seen is None or seen.response_complete or seen.more_body):
                self.transport.abort()
            else:
                self.loop.call_later(seconds, self._look, self.cycle)

    return Patient


class FirstWord:
    """ASGI middleware that ends WebSockets on which nothing is said: Prefect's wait for a login."""

    def __init__(self, app: "App", seconds: float = _PATIENCE) -> None:
        """Stand before the application.

        Args:
            app: The application.
            seconds: How long it waits for the first message.
        """
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: "Message", receive: "Receive", send: "Send") -> None:
        """Answer a request, or hold a conversation."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        heard = 0

        async def hear() -> "Message":
            nonlocal heard
            if heard == _WORDS:  # that it is there, and the first message
                return await receive()
            heard += 1
            try:
                async with asyncio.timeout(self._seconds):
                    return await receive()
            except TimeoutError:
                return {"type": "websocket.disconnect", "code": 1008}

        await self._app(scope, hear, send)


def close(auth: Secret) -> None:
    """Have the server that is made from now on ask for a string, under its own address only.

    A page elsewhere whose name was made to lead here is refused by the name that it asks for. Who
    connects and dawdles is shown out.

    Args:
        auth: What its API asks for.
    """
    from fastapi.middleware.trustedhost import TrustedHostMiddleware
    from prefect.server.api import server
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING
    from uvicorn.protocols.http import auto, h11_impl

    from spanctl.credentials.hardening import harden
    from spanctl.flows.opening import change

    harden()
    open_wide()
    # Not httptools, which uvicorn would take if it were there: it bounds no headers.
    auto.AutoHTTPProtocol = patient(h11_impl.H11Protocol)
    logging.getLogger("uvicorn.error").addFilter(_is_no_dump)
    change({PREFECT_SERVER_API_AUTH_STRING: auth.reveal_text()})
    make = server.create_app

    def make_closed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Prefect's
        app = make(*args, **kwargs)
        app.add_middleware(FirstWord)
        app.add_middleware(SignIn, auth=auth)
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(OWN_HOSTS))
        return app

    server.create_app = make_closed
