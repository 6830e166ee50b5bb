"""How a worker that runs in this process starts its flow runs, and how one ends in its own."""

import sys
from functools import partial
from typing import Any

from prefect import flow_engine


def start_with(module: str) -> None:
    """Have Prefect's process worker start each flow run as ``python -m MODULE``.

    Its own way goes through a second process, which imports Prefect as well. Where the deployment
    or the work pool names a command, that one is used.
    """
    from prefect.utilities.processutils import command_to_string  # no flow run's process needs it
    from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

    class Configuration(ProcessJobConfiguration):
        def prepare_for_flow_run(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Prefect's
            if self.command is None:
                self.command = command_to_string([sys.executable, "-m", module])
            super().prepare_for_flow_run(*args, **kwargs)

    ProcessWorker.job_configuration = Configuration


def end_at_once() -> None:
    """Have a flow run end in this process without its heartbeat's last second.

    Prefect waits for the thread that sends heartbeats, which sleeps a second at a time, before the
    run's last log lines are sent. The thread is a daemon, and sends nothing once the run has ended.
    """
    heartbeats = getattr(flow_engine, "_send_heartbeats", None)
    if heartbeats is not None:
        flow_engine._send_heartbeats = partial(heartbeats, join_on_exit=False)  # noqa: SLF001
