"""Where Prefect's web pages are."""

import pytest

from spanctl.errors import ConfigurationError
from spanctl.orchestration.pages import flow_run_page


@pytest.mark.parametrize(
    ("api", "environ", "expected"),
    [
        ("http://127.0.0.1:4200/api", {}, "http://127.0.0.1:4200/runs/flow-run/r"),
        ("https://h/prefect/api", {}, "https://h/prefect/runs/flow-run/r"),
        (
            "https://api.prefect.cloud/api/accounts/a/workspaces/w",
            {},
            "https://app.prefect.cloud/account/a/workspace/w/runs/flow-run/r",
        ),
        ("http://h/other", {"PREFECT_UI_URL": "http://ui/"}, "http://ui/runs/flow-run/r"),
    ],
)
def test_addresses(api: str, environ: dict[str, str], expected: str) -> None:
    """A server's pages are beside its API, Prefect Cloud's at its own host, or where it is said."""
    assert flow_run_page(api, "r", environ=environ) == expected


def test_unknown() -> None:
    """Where nothing tells, it is said, and how to say it."""
    with pytest.raises(ConfigurationError) as caught:
        flow_run_page("http://h/other", "r", environ={})
    assert "PREFECT_UI_URL" in caught.value.hint
