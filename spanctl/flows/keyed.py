"""An idempotency key stands for one work: who uses it for another is told so before it begins."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from spanctl.errors import KeyReusedError
from spanctl.invocation import Invocation

if TYPE_CHECKING:
    from prefect.flows import Flow


def refuse_other_flow(flow: "Flow[..., Any]", invocation: Invocation) -> None:
    """Return unless another flow has written under the invocation's idempotency key.

    That flow is the one of the root flow run that wrote last, as Prefect knows it. A run that it
    doesn't know any more is not compared; the arguments of each step are, in any case.

    Args:
        flow: What is to be run.
        invocation: Which key, and which database.

    Raises:
        KeyReusedError: Another has; nothing was begun.
        SpanctlError: The ledger could not be read.
    """
    from spanctl.spanner import receipts
    from spanctl.spanner.client import Target, shared

    key, target = invocation.idempotency_key, invocation.database
    if key is None or not isinstance(target, Target):
        return
    found = receipts.newest_of_key(shared(target), key)
    other = _flow_of(found.provenance.root_run) if found else None
    if found and other not in {None, flow.name}:
        msg = f"idempotency key {key!r} was used for flow {other}"
        hint = f"use another key; what was done under it: spanctl audit {key}"
        raise KeyReusedError(msg, hint=hint, txn_id=found.txn_id)


def _flow_of(flow_run: str | None) -> str | None:
    """Return the name of a flow run's flow; None where Prefect doesn't tell."""
    try:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(flow_run or ""))
            return client.read_flow(run.flow_id).name
    except (ValueError, ObjectNotFound, httpx.HTTPError):
        return None
