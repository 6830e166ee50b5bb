"""Close the ways by which a process shows its memory: debug logs, core dumps, tracebacks."""

import http.client
import logging
import os
import resource
import sys
import threading
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Final

from spanctl.credentials.redact import install_logging, redact

_LEAKING_VARIABLES: Final = (
    "GOOGLE_SDK_PYTHON_LOGGING_SCOPE",  # logs requests and responses, payloads included
    "GRPC_TRACE",  # logs metadata, the bearer token included
    "PYTHONFAULTHANDLER",
)
_LEAKING_LOGGERS: Final = ("google", "grpc", "urllib3", "requests", "httpx", "httpcore", "hpack")


def harden(environ: MutableMapping[str, str] = os.environ) -> None:
    """Do all of it; call it before Google's libraries are imported. Calling it again is harmless.

    Args:
        environ: The environment to clean; children inherit it.
    """
    clamp_debugging(environ)
    disable_core_dumps()
    install_logging()
    install_excepthook()


def clamp_debugging(environ: MutableMapping[str, str] = os.environ) -> None:
    """Switch off the debug output of Google's and HTTP libraries that shows payloads and tokens."""
    for name in _LEAKING_VARIABLES:
        environ.pop(name, None)
    if environ.get("GRPC_VERBOSITY") not in {"NONE", "ERROR"}:
        environ["GRPC_VERBOSITY"] = "ERROR"
    http.client.HTTPConnection.debuglevel = 0
    known = [*logging.root.manager.loggerDict]
    for name in _LEAKING_LOGGERS:
        below = [found for found in known if found.startswith(f"{name}.")]
        for logger in (logging.getLogger(found) for found in [name, *below]):
            if logger.level < logging.WARNING and (logger.level or logger.name == name):
                logger.setLevel(logging.WARNING)


def disable_core_dumps() -> None:
    """Let no crash write this process's memory to disk; children inherit it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def format_exception(error: BaseException) -> str:
    """Return an error's traceback, without local variables and without secrets."""
    told = traceback.TracebackException.from_exception(error, capture_locals=False)
    return redact("".join(told.format()))


def install_excepthook() -> None:
    """Print uncaught errors, of any thread, without local variables and without secrets."""

    def hook(
        kind: type[BaseException],
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shown = error if error is not None else kind()
        sys.stderr.write(format_exception(shown.with_traceback(trace)))

    def thread_hook(arguments: threading.ExceptHookArgs) -> None:
        if not issubclass(arguments.exc_type, SystemExit):
            hook(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    sys.excepthook = hook
    threading.excepthook = thread_hook
