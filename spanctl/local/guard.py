"""What keeps others out of the stack's own Prefect server, in the process of that server."""

import logging
from typing import Any

from spanctl.credentials.secret import Secret
from spanctl.local.ports import OWN_HOSTS
from spanctl.local.sign_in import SignIn


def _is_no_dump(record: logging.LogRecord) -> bool:
    """Keep off what uvicorn's sockets write of each message, cut in the middle."""
    return record.levelno > logging.DEBUG


def close(auth: Secret) -> None:
    """Have the server that is made from now on ask for a string, under its own address only.

    A page elsewhere whose name was made to lead here is refused by the name that it asks for.

    Args:
        auth: What its API asks for.
    """
    from fastapi.middleware.trustedhost import TrustedHostMiddleware
    from prefect.server.api import server
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING

    from spanctl.credentials.hardening import harden
    from spanctl.flows.opening import change

    harden()
    logging.getLogger("uvicorn.error").addFilter(_is_no_dump)
    change({PREFECT_SERVER_API_AUTH_STRING: auth.reveal_text()})
    make = server.create_app

    def make_closed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Prefect's
        app = make(*args, **kwargs)
        app.add_middleware(SignIn, auth=auth)
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(OWN_HOSTS))
        return app

    server.create_app = make_closed
