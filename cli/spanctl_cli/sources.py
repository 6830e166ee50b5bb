"""What several commands ask: the database, and Prefect's API where one is set."""

from contextlib import contextmanager
from typing import TYPE_CHECKING

from spanctl.errors import SpanctlError
from spanctl_cli.context import AppContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanctl.orchestration.api import PrefectApi
    from spanctl.spanner.client import Database

_PREFECT_TIMEOUT = 5.0


@contextmanager
def sources(app_context: AppContext) -> "Iterator[tuple[Database, PrefectApi | None]]":
    """Open the database and, where one is set, Prefect's API."""
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.keys import reach
    from spanctl.spanner.client import Database, Target

    settings = app_context.settings()
    try:
        reached = reach(settings)
    except SpanctlError as error:
        app_context.warn(f"{error.message}; Prefect is not asked")
        reached = None
    api = PrefectApi(reached, timeout=_PREFECT_TIMEOUT) if reached else None
    try:
        with Database(Target.from_settings(settings)) as database:
            yield database, api
    finally:
        if api is not None:
            api.close()
