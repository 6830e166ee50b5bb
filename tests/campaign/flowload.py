"""``python -m tests.campaign.flowload``: for each line of numbers on standard input, one flow run.

It finds database, credentials and Prefect in the environment, as any flow does, and answers each
line with one of JSON: an answer for each number, and the version of the token that was used last.
"""

import json
import sys

from prefect import flow

from spanctl import settings
from spanctl.flows import transaction
from spanctl.spanner.client import Target
from tests.campaign import ground
from tests.campaign.ground import Report


@transaction
def count_up(txn, k: int) -> None:
    """Count a row up, in one transaction."""
    ground.count_up(txn, k)


@flow
def settle(rows: list[int]) -> list[tuple[str, str, str]]:
    """One step for each row; returns its txn ID, what was reported, and the error."""
    told = []
    for k in rows:
        try:
            told.append((str(count_up(k).txn_id), Report.COMMITTED, ""))
        except Exception as error:  # noqa: BLE001 - told to the judge
            told.append(("", Report.NOT_COMMITTED, repr(error)))
    return told


def main() -> None:
    """Run flows until standard input ends."""
    live = Target.from_settings(settings.resolve()).live_credentials()
    for line in sys.stdin:
        told = settle([int(k) for k in line.split()])
        version = live.live.version if live and live.live else None
        sys.stdout.write(json.dumps({"told": told, "version": version}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
