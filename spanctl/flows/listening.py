"""What a flow that is executed in this process says: its transactions, and what it logs."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spanctl.flows.runs import registry
from spanctl.ledger.report import TransactionReport
from spanctl.orchestration.resultlines import explained


@contextmanager
def listening(
    *,
    on_transaction: Callable[[TransactionReport], None],
    on_log: Callable[[logging.LogRecord], None],
) -> Iterator[None]:
    """Hear of transactions and of what the flow logs while the block runs.

    Prefect's own console output is silenced, also afterwards; its records still go to the API.
    """
    for logger in _prefect_loggers():
        logger.addHandler(logging.NullHandler())  # else logging's last resort writes to stderr
        for found in list(logger.handlers):
            if isinstance(found, logging.StreamHandler):
                logger.removeHandler(found)
    logging.raiseExceptions = False  # else what can't reach the API is told on stderr, at length
    handler = _Handler(on_log)
    prefect = logging.getLogger("prefect")
    roots = [logging.getLogger(), *([] if prefect.propagate else [prefect])]
    for root in roots:
        root.addHandler(handler)
    try:
        with registry.observed(on_transaction):
            yield
    finally:
        for root in roots:
            root.removeHandler(handler)


def _prefect_loggers() -> list[logging.Logger]:
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "prefect"]
    return [logging.getLogger(name) for name in ["", "prefect", *names]]


class _Handler(logging.Handler):
    def __init__(self, tell: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(logging.INFO)
        self._tell = tell
        self._explained: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if _chatter(record):
            return
        error = record.exc_info[1] if record.exc_info else None
        told = f"{record.getMessage()}\n{record.exc_text or ''}"  # masked, it has no error any more
        if (meaning := explained(told, error)) is None:
            self._tell(record)
        elif meaning not in self._explained:
            self._explained.add(meaning)
            level = {"levelno": logging.WARNING, "levelname": "WARNING"}
            self._tell(logging.makeLogRecord({**level, "msg": meaning}))


def _chatter(record: logging.LogRecord) -> bool:
    """Whether Prefect's engine talks of itself; a flow's prints and its own logging don't count.

    Its warnings and errors (a task that will be retried) are passed on, but not the report of the
    final state, which the caller gets anyway.
    """
    path = Path(record.pathname)
    if "prefect" not in path.parts or path.name == "loggers.py":
        return False
    if {"_internal", "events"} & set(path.parts):
        return True
    final = record.getMessage().startswith(("Finished in state", "Crash detected")) or (
        path.name == "flow_engine.py" and bool(record.exc_info or record.exc_text)
    )
    return record.levelno < logging.WARNING or final
