"""What keeps others out of the stack's own Prefect server, in the process of that server."""

from typing import Any

from spanctl.credentials.secret import Secret
from spanctl.local.ports import OWN_HOSTS
from spanctl.local.sign_in import SignIn


def close(auth: Secret) -> None:
    """Have the server that is made from now on ask for a string, under its own address only.

    A page elsewhere whose name was made to lead here is refused by the name that it asks for.

    Args:
        auth: What its API asks for.
    """
    from fastapi.middleware.trustedhost import TrustedHostMiddleware
    from prefect.server.api import server
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING

    from spanctl.flows.opening import change

    change({PREFECT_SERVER_API_AUTH_STRING: auth.reveal_text()})
    make = server.create_app

    def make_closed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Prefect's
        app = make(*args, **kwargs)
        app.add_middleware(SignIn, auth=auth)
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(OWN_HOSTS))
        return app

    server.create_app = make_closed
