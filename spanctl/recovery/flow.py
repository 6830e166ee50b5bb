"""A flow that recovers dead flow runs; ``spanctl runs recover --schedule`` deploys it.

It has no result and makes no artifact. It may die as any flow does: what it had begun, the next one
takes over.
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, get_run_logger
from prefect.states import Completed

from spanctl.errors import ConfigurationError, FlowCancelledError, NotFoundError
from spanctl.invocation import UPKEEP_TAG
from spanctl.settings import resolve, state_home

if TYPE_CHECKING:
    import logging

    from prefect.client.schemas.objects import State

    from spanctl.errors import SpanctlError
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import FlowRun
    from spanctl.recovery.recoverer import Recovered
    from spanctl.settings import Settings
    from spanctl.spanner.client import Database

NAME = "recover-runs"
ENTRYPOINT = "spanctl.recovery.flow.recover_runs"
_IDLE = "Idle"
_FORGOTTEN = (_IDLE, "Cancelled")
"""The states of runs that have done nothing: Prefect cancels one that is due while another runs."""
_DELETED = 200
"""So many runs are deleted at most, by each."""


@flow(name=NAME, persist_result=False, log_prints=False, validate_parameters=True)
def recover_runs(max_attempts: int = 3) -> "State[None]":
    """Recover what died, as ``spanctl runs recover --all`` does, in the context of the worker.

    Executors that are silent are watched until it is known whether they are dead. Earlier runs of
    this flow that did nothing are deleted: only what has done something is worth a look.

    Args:
        max_attempts: How often a run is run again at most.

    Returns:
        The state to end in: ``Idle`` where nothing had died.

    Raises:
        FlowCancelledError: A run died too often, or can't be run again: a person has to see to it.
        SpanctlError: Prefect or Spanner did not answer, or refused.
    """
    logger = get_run_logger()
    alarms: list[Recovered] = []
    done = _rounds(resolve(), max_attempts, logger)
    for one in done:
        told = f"flow run {one.run.id} ({one.run.name}): {one.action}: {one.note}"
        if one.action.is_alarm:
            logger.error("%s; %s", told, one.hint)
            alarms.append(one)
        else:
            logger.info("%s", told)
    if alarms:
        names = ", ".join(one.run.id for one in alarms)
        msg = f"somebody has to see to {names}"
        raise FlowCancelledError(msg, hint=alarms[0].hint)
    return Completed() if done else Completed(name=_IDLE, message="nothing had died")


def _rounds(
    settings: "Settings",
    attempts: int,
    logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
) -> "list[Recovered]":
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.keys import reach
    from spanctl.recovery import resuming, rounds
    from spanctl.recovery.candidates import Wanted
    from spanctl.recovery.recoverer import Policy, Recoverer
    from spanctl.resources import DatabaseName
    from spanctl.spanner.client import Target, shared

    reached = reach(settings)
    if reached is None:
        msg = "no Prefect API is set"
        raise ConfigurationError(msg, hint="set PREFECT_API_URL for the worker")

    def other(name: str) -> "Database":
        return shared(Target.from_settings(settings, DatabaseName.parse(name)))

    def resume(run: "FlowRun") -> Path:
        path = resuming.start(run, state_home() / "recovered", settings.context)
        logger.info("flow run %s goes on; what it prints is in %s", run.id, path)
        return path

    def trouble(error: "SpanctlError") -> None:
        logger.warning("%s", error.message)

    database = shared(Target.from_settings(settings))
    # Once it is silent for the bound it may count as dead, and the looks are some seconds apart.
    silence = database.target.presumed_dead_after + 4 * rounds.PAUSE
    patience = rounds.Patience(silence=silence)
    policy = Policy(attempts=attempts)
    with (
        PrefectApi(reached) as api,
        Recoverer(database, api, reach=other, resume=resume, policy=policy) as recoverer,
    ):
        _forget_idle(api)
        return list(rounds.run(recoverer, Wanted(), patience, trouble=trouble))


def _forget_idle(api: "PrefectApi") -> None:
    body = {
        "flows": {"name": {"any_": [NAME]}},
        "flow_runs": {
            "state": {"name": {"any_": list(_FORGOTTEN)}},
            "tags": {"all_": [UPKEEP_TAG]},
        },
        "sort": "EXPECTED_START_TIME_DESC",
    }
    for run in list(api.matching("flow_runs", body, limit=_DELETED)):
        with suppress(NotFoundError):  # another one deletes them as well
            api.delete_flow_run(run["id"])
