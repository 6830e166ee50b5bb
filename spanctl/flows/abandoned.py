"""Flow runs that were interrupted in this process, and what Prefect is told of them."""

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.states import Cancelled

from spanctl.errors import UnreachableError


def settle(run: FlowRun, why: str) -> None:
    """Have an interrupted flow run end as Cancelled, unless Prefect knows of its end already.

    One that is interrupted before the engine has taken it would stay Pending for ever.

    Args:
        run: The flow run, which nothing in this process goes on with.
        why: What the state says, such as ``interrupted``.

    Raises:
        UnreachableError: Prefect's API did not answer or did not take it.
    """
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run.id).state
            if state is None or not state.is_final():
                client.set_flow_run_state(run.id, Cancelled(message=why), force=True)
    except (httpx.HTTPError, PrefectException) as error:
        msg = f"Prefect was not told that flow run {run.id} has ended"
        hint = "run: spanctl local status"
        raise UnreachableError(msg, hint=hint, cause=type(error).__name__) from None
