"""Addresses of Prefect's web pages, from the address of its API."""

import os
import re
from collections.abc import Mapping
from typing import Final

from spanctl.errors import ConfigurationError

_CLOUD: Final = re.compile(
    r"https://api\.(?P<host>[^/]*prefect\.(?:cloud|dev))/api"
    r"/accounts/(?P<account>[^/]+)/workspaces/(?P<workspace>[^/]+)$"
)


def flow_run_page(
    api_url: str, flow_run_id: str, *, environ: Mapping[str, str] = os.environ
) -> str:
    """Return the address of a flow run's page, on a server or on Prefect Cloud.

    ``PREFECT_UI_URL`` of the environment goes before what the API's address tells.

    Raises:
        ConfigurationError: The API's address doesn't tell where the pages are.
    """
    return f"{front_page(api_url, environ=environ)}/runs/flow-run/{flow_run_id}"


def front_page(api_url: str, *, environ: Mapping[str, str] = os.environ) -> str:
    """Return the address that Prefect's pages begin with, without a slash at its end.

    Raises:
        ConfigurationError: The API's address doesn't tell where the pages are.
    """
    if explicit := environ.get("PREFECT_UI_URL"):
        return explicit.rstrip("/")
    if cloud := _CLOUD.match(api_url):
        workspace = f"account/{cloud['account']}/workspace/{cloud['workspace']}"
        return f"https://app.{cloud['host']}/{workspace}"
    if api_url.endswith("/api"):
        return api_url.removesuffix("/api")
    msg = f"where the pages of the Prefect API at {api_url} are isn't known"
    raise ConfigurationError(msg, hint="set PREFECT_UI_URL")
