"""What a source of tokens says where it gets none."""

import pytest
from google.oauth2 import credentials

from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.sources import GoogleSource
from spanctl.errors import UnreachableError
from tests.faults.emulator import free_port

HIDDEN = "s3cr3t"


def test_a_token_endpoint_that_does_not_answer_is_named() -> None:
    """By host and port alone, not with what is secret in its address."""
    where = f"127.0.0.1:{free_port()}"
    user = credentials.Credentials(
        None,
        refresh_token=HIDDEN,
        token_uri=f"https://me:{HIDDEN}@{where}/token?key={HIDDEN}",
        client_id="me",
        client_secret=HIDDEN,
    )
    with pytest.raises(UnreachableError) as caught:
        GoogleSource(user, None).fetch(Http(Endpoints()), None)
    assert caught.value.message == f"the token endpoint at {where} did not answer"
