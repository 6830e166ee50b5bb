"""An idempotency key stands for one request: who uses it for another is told so before it begins.

A request is a flow and its parameters; see :mod:`spanctl.flows.request`.
"""

import inspect
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, ParameterTypeError

from spanctl.errors import KeyReusedError
from spanctl.flows.place import outer_context
from spanctl.flows.request import describe
from spanctl.invocation import Invocation
from spanctl.ledger.keys import KEYED

if TYPE_CHECKING:
    from prefect.flows import Flow

    from spanctl.spanner.client import Database

_REMEMBERED: Final = 512
_requests: OrderedDict[UUID, str | None] = OrderedDict()
"""Root flow run to its request, as it was before a body could change a parameter."""
_remembering = threading.Lock()


def refuse_other_request(
    flow: "Flow[..., Any]", parameters: Mapping[str, Any] | None, invocation: Invocation
) -> str | None:
    """Return the request, unless something else was asked for under the invocation's key.

    Args:
        flow: What is to be run.
        parameters: What it is to be called with; None for a runbook, which compares its own.
        invocation: Which key, and which database.

    Raises:
        KeyReusedError: Another request has that key; nothing was begun.
        SpanctlError: The ledger could not be read.
    """
    from spanctl.spanner import requests
    from spanctl.spanner.client import Target, shared

    key, target = invocation.idempotency_key, invocation.database
    if key is None or not isinstance(target, Target):
        return None
    database, asked = shared(target), describe(flow, parameters)
    try:
        requests.is_new(database, f"{KEYED}{key}", asked)
    except KeyReusedError:
        _refuse_other_flow(flow, database, key)  # says more, where the flow has another name
        raise
    _refuse_other_flow(flow, database, key)
    return asked


def remember(flow_run: UUID, request: str | None) -> None:
    """Have the steps of a flow run in this process lease under a request."""
    with _remembering:
        _requests[flow_run] = request
        while len(_requests) > _REMEMBERED:
            _requests.popitem(last=False)


def requested(root: UUID) -> str | None:
    """Return the request of a root flow run: a command's, or a deployment's that runs here.

    Of plain Python there is none: ``using(idempotency_key=...)`` may hold several flows.
    """
    with _remembering:
        if root in _requests:
            return _requests[root]
    context = FlowRunContext.get()
    while context is not None and not (context.flow_run and context.flow_run.id == root):
        context = outer_context(context)
    if context is None or context.flow_run is None or context.flow is None:
        return None
    request = None
    if context.flow_run.deployment_id is not None:
        request = describe(context.flow, _bound(context.flow, context.flow_run.parameters))
    remember(root, request)
    return request


def _bound(flow: "Flow[..., Any]", given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's parameters with defaults, converted: as a command in a file has them."""
    try:
        bound = inspect.signature(flow.fn).bind(**given)
        bound.apply_defaults()
        return flow.validate_parameters(dict(bound.arguments))
    except (TypeError, ParameterTypeError):
        return dict(given)


def _refuse_other_flow(flow: "Flow[..., Any]", database: "Database", key: str) -> None:
    """Return unless another flow has written under a key.

    That flow is the one of the root flow run that wrote last, as Prefect knows it. A run that it
    doesn't know any more is not compared; the arguments of each step are, in any case.
    """
    from spanctl.spanner import receipts

    found = receipts.newest_of_key(database, key, committed=True)
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
