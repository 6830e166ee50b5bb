"""A flow that rotates the credentials that are due; ``spanctl creds schedule`` deploys it.

Its parameters name secrets; its logs tell names, versions and reasons; it has no result and makes
no artifact. What it mints goes from IAM to Secret Manager, and is nowhere else.
"""

from typing import TYPE_CHECKING

from prefect import flow, get_run_logger

from spanctl.errors import ConflictError, SpanctlError
from spanctl.settings import Settings, resolve

if TYPE_CHECKING:
    from spanctl.credentials.rotation.rounds import Turn

NAME = "rotate-due"
ENTRYPOINT = "spanctl.flows.rotating.rotate_due"


@flow(name=NAME, persist_result=False, log_prints=False, validate_parameters=True)
def rotate_due(secrets: list[str] | None = None) -> None:
    """Rotate what is due, as ``spanctl creds rotate --due`` does, in the context of the worker.

    Args:
        secrets: Names of secrets (``projects/P/secrets/S``); all of the context's project when
            left out.

    Raises:
        SpanctlError: One or more could not be rotated; each is named in the log, and the last of
            the worst kind is raised once all had their turn.
    """
    logger = get_run_logger()
    failed: list[SpanctlError] = []
    for turn in _round(resolve(), secrets):
        told = f": {turn.why}" if turn.why else ""
        logger.info("%s: %s%s", turn.name, turn.outcome, told)
        if isinstance(turn.error, ConflictError) and turn.outcome == "failed":
            # Somebody else is at it, or it can't be rotated by anybody: the next run looks again.
            logger.warning("%s: %s", turn.name, turn.error.message)
        elif turn.error is not None:
            logger.error("%s: %s", turn.name, turn.error.message)
            failed.append(turn.error)
    if failed:
        raise failed[-1]


def _round(settings: Settings, secrets: list[str] | None) -> "list[Turn]":
    from spanctl.credentials.hardening import harden

    harden()
    from spanctl.credentials.endpoints import Endpoints
    from spanctl.credentials.inventory import SecretInventory
    from spanctl.credentials.resolve import resolve as resolve_credentials
    from spanctl.credentials.rotation import rounds
    from spanctl.credentials.rotation.driver import Rotator
    from spanctl.credentials.rotation.planning import rotator_for
    from spanctl.credentials.rotation.status import SecretStatus
    from spanctl.credentials.store import GoogleSecretStore
    from spanctl.references import SecretName
    from spanctl.spanner.admission import Door, SpannerTester

    endpoints = Endpoints.from_settings(settings)
    credentials = resolve_credentials("adc", endpoints)
    store = GoogleSecretStore(endpoints, credentials)
    tester = SpannerTester(Door.from_settings(settings), endpoints)

    def rotator(status: SecretStatus) -> Rotator:
        return rotator_for(
            status,
            store=store,
            endpoints=endpoints,
            credentials=credentials,
            tester=tester,
            report=lambda _: None,
        )

    try:
        if secrets:
            names = tuple(SecretName.parse(one) for one in secrets)
        else:
            names = SecretInventory(endpoints, credentials).names(settings.require("project"))
        return list(rounds.run(store, names, rotator, due_only=True))
    finally:
        store.close()
