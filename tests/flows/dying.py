"""A flow whose process is killed between its steps; ``python -m tests.flows.dying RUN`` runs it.

That is what a worker's engine does with a deployment's run, with nobody left to tell of its death.
"""

import os
import signal
import sys
from pathlib import Path
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.states import Pending

from tests.flows.bank import deposit


@flow
def instalments(path: str) -> None:
    deposit("a", 1)
    if not Path(path).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    deposit("b", 1)


if __name__ == "__main__":
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(sys.argv[1]), Pending())
        run = client.read_flow_run(UUID(sys.argv[1]))
    run_flow(instalments, run, parameters=run.parameters, return_type="state")
