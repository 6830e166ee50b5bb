"""Flow runs and deployments of a Prefect server, by filters, with the names that belong to them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from spanctl.clock import now, rfc3339
from spanctl.errors import NotFoundError, UsageError
from spanctl.invocation import INITIATOR_LABEL
from spanctl.orchestration.api import closest
from spanctl.orchestration.model import Deployment, FlowRun, StateType

if TYPE_CHECKING:
    from spanctl.orchestration.api import PrefectApi

_SCANNED: Final = 2000
"""Labels can't be asked for, so those that have one are picked from so many runs at most."""
_NAMES: Final = (
    "AwaitingConcurrencySlot",
    "AwaitingRetry",
    "Cached",
    "Late",
    "Resuming",
    "Retrying",
    "Suspended",
    "TimedOut",
)
_GROUPS: Final = {
    "active": ("RUNNING", "PENDING", "CANCELLING", "PAUSED"),
    "ended": tuple(kind.value for kind in StateType if kind.is_final),
}
_ALL: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which flow runs are wanted; what is left out is not looked at.

    Attributes:
        states: Types or names of states, or ``active`` or ``ended``; any of them.
        flow: The flow's name.
        deployment: The deployment: ``flow/name``, or the name alone.
        tags: All of them.
        since: Due at this time or later.
        until: Due at this time or before. Runs that are due only later are left out when it is not
            given, unless ``scheduled`` is among the states.
        initiator: Who asked, as the run's labels claim.
    """

    states: tuple[str, ...] = ()
    flow: str | None = None
    deployment: str | None = None
    tags: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    initiator: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the filters as Prefect's API takes them.

        Raises:
            UsageError: There is no such state.
        """
        runs: dict[str, Any] = {}
        types, names = states_of(self.states)
        if types or names:
            runs["state"] = {"operator": "or_"}
            runs["state"] |= {"type": {"any_": types}} if types else {}
            runs["state"] |= {"name": {"any_": names}} if names else {}
        until = self.until or (None if StateType.SCHEDULED.value in types else now())
        due = {
            "after_": rfc3339(self.since) if self.since else None,
            "before_": rfc3339(until) if until else None,
        }
        if due := {key: value for key, value in due.items() if value}:
            runs["expected_start_time"] = due
        if self.tags:
            runs["tags"] = {"all_": list(self.tags)}
        flow, deployment = self._named()
        body: dict[str, Any] = {"flow_runs": runs, "sort": "EXPECTED_START_TIME_DESC"}
        if flow:
            body["flows"] = {"name": {"any_": [flow]}}
        if deployment:
            body["deployments"] = {"name": {"any_": [deployment]}}
        return body

    def _named(self) -> tuple[str | None, str | None]:
        flow, slash, name = (self.deployment or "").partition("/")
        if not slash:
            return self.flow, self.deployment
        if self.flow not in {None, flow}:
            msg = f"deployment {self.deployment} is not of flow {self.flow}"
            raise UsageError(msg, hint="give one of the two")
        return flow, name


@dataclass(frozen=True, slots=True)
class NamedRun:
    """A flow run, with the names of what it belongs to.

    Attributes:
        run: The flow run.
        flow: The flow's name; None where the flow was deleted.
        deployment: ``flow/name``; None for a run outside of a deployment, or of a deleted one.
    """

    run: FlowRun
    flow: str | None
    deployment: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """Flow runs, newest first.

    Attributes:
        runs: The runs.
        more: Whether there may be more of them.
    """

    runs: tuple[NamedRun, ...]
    more: bool


def list_runs(api: "PrefectApi", wanted: RunFilter, *, limit: int) -> Found:
    """Return the newest flow runs that fit, those due last first.

    Raises:
        UsageError: There is no such state.
        NotFoundError: There is no such flow or deployment.
        SpanctlError: Prefect could not be asked.
    """
    scanned = limit + 1 if wanted.initiator is None else _SCANNED
    looked = 0
    runs: list[FlowRun] = []
    for data in api.matching("flow_runs", wanted.to_json(), limit=scanned):
        looked += 1
        run = FlowRun.read(data)
        if wanted.initiator in {None, run.labels.get(INITIATOR_LABEL)}:
            runs.append(run)
        if len(runs) > limit:
            break
    if not runs:
        _refuse_unknown(api, wanted)
    more = len(runs) > limit or (wanted.initiator is not None and looked == scanned)
    return Found(tuple(named(api, runs[:limit])), more)


def named(api: "PrefectApi", runs: Iterable[FlowRun]) -> list[NamedRun]:
    """Return flow runs with the names of their flows and deployments, two requests for all."""
    runs = list(runs)
    flows = api.names_of("flows", (run.flow_id for run in runs))
    kept = [run.deployment_id for run in runs if run.deployment_id]
    deployments = api.names_of("deployments", kept)

    def deployment(run: FlowRun) -> str | None:
        name = deployments.get(run.deployment_id or "")
        return f"{flows.get(run.flow_id, '?')}/{name}" if name else None

    return [NamedRun(run, flows.get(run.flow_id), deployment(run)) for run in runs]


def list_deployments(
    api: "PrefectApi", *, flow: str | None = None, tags: Iterable[str] = (), limit: int = _ALL
) -> list[Deployment]:
    """Return the deployments of a flow, or all, sorted by name.

    Raises:
        NotFoundError: There is no such flow.
        SpanctlError: Prefect could not be asked.
    """
    body: dict[str, Any] = {"sort": "NAME_ASC"}
    if flow:
        body["flows"] = {"name": {"any_": [flow]}}
    if wanted := list(tags):
        body["deployments"] = {"tags": {"all_": wanted}}
    found = list(api.matching("deployments", body, limit=limit))
    if not found and flow:
        _refuse_unknown(api, RunFilter(flow=flow))
    flows = api.names_of("flows", (one["flow_id"] for one in found))
    read = (
        Deployment.read(one, f"{flows.get(one['flow_id'], '?')}/{one['name']}") for one in found
    )
    return sorted(read, key=lambda one: one.name)


def state_words() -> list[str]:
    """Return the words that :func:`states_of` knows, each once, groups of states first."""
    kinds = (kind.value.lower() for kind in StateType)
    return list(dict.fromkeys((*_GROUPS, *kinds, *map(str.lower, _NAMES))))


def states_of(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the types and the names of the states that words mean, ``active`` and ``ended`` too.

    Raises:
        UsageError: There is no such state; the hint has one that is close.
    """
    types, names = list[str](), list[str]()
    known = {name.lower(): name for name in _NAMES}
    for word in words:
        plain = word.lower().replace("_", "").replace("-", "")
        if plain.upper() in StateType.__members__:
            types.append(plain.upper())
        elif plain in _GROUPS:
            types += _GROUPS[plain]
        elif plain in known:
            names.append(known[plain])
        else:
            choices = state_words()
            near = get_close_matches(plain, choices, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(choices)}"
            msg = f"there is no state {word!r}"
            raise UsageError(msg, hint=hint)
    return types, names


def _refuse_unknown(api: "PrefectApi", wanted: RunFilter) -> None:
    """Tell a flow or deployment that has no runs from one that doesn't exist."""
    flow = wanted.flow
    if wanted.deployment:
        names = api.deployment_names()
        ends = wanted.deployment if "/" in wanted.deployment else f"/{wanted.deployment}"
        if not any(name == ends or name.endswith(ends) for name in names):
            msg = f"there is no deployment {wanted.deployment!r}"
            raise NotFoundError(msg, hint=closest(wanted.deployment, names))
    elif flow:
        known = [one["name"] for one in _flows(api)]
        if flow not in known:
            near = get_close_matches(flow, known, n=1)
            msg = f"there is no flow {flow!r}"
            hint = f"did you mean {near[0]}?" if near else "see: spanctl runs list"
            raise NotFoundError(msg, hint=hint)


def _flows(api: "PrefectApi") -> Iterator[Any]:
    return api.matching("flows", {"sort": "NAME_ASC"}, limit=_ALL)


def family(api: "PrefectApi", root: str, *, limit: int = 100) -> list[str]:
    """Return the ids of a flow run and of its subflow runs, theirs included, itself first."""
    found, waiting = [root], [root]
    while waiting and len(found) < limit:
        below = [one.id for one in api.subflow_runs(waiting.pop(0)) if one.id not in found]
        found += below
        waiting += below
    return found[:limit]
