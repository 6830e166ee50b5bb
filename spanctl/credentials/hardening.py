"""Close the ways by which a process shows its memory: debug logs, core dumps, tracebacks."""

import contextlib
import http.client
import logging
import os
import resource
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from spanctl.credentials.redact import install_logging, redact
from spanctl.unraisable import put

_LEAKING_VARIABLES: Final = (
    "GOOGLE_SDK_PYTHON_LOGGING_SCOPE",  # logs requests and responses, payloads included
    "GRPC_TRACE",  # logs metadata, the bearer token included
    "PYTHONFAULTHANDLER",
)
_LEAKING_LOGGERS: Final = (
    *("google", "grpc", "urllib3", "requests"),
    *("httpx", "httpcore", "hpack", "websockets"),
)
_DUMPED: Final = Path("/proc/self/coredump_filter")
_OWN: Final = "spanctl"
_SHOW_LOCALS: Final = ("rich", "typer", "IPython", "better_exceptions", "stackprinter")


def harden(environ: MutableMapping[str, str] = os.environ) -> None:
    """Do all of it; calling it again is harmless.

    Whoever resolves credentials has it done, in whatever process that is. Debug output of gRPC's
    core alone has to be switched off earlier, before gRPC is imported: importing spanctl does it.

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
    """Let no crash write this process's memory to disk; children inherit it.

    The limit doesn't hold for dumps that the kernel pipes to a program, so they are emptied.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # not Linux
        _DUMPED.write_text("0", encoding="ascii")


def format_exception(error: BaseException) -> str:
    """Return an error's traceback, without local variables and without secrets."""
    told = traceback.TracebackException.from_exception(error, capture_locals=False)
    return redact("".join(told.format()))


@contextlib.contextmanager
def without_locals() -> Iterator[None]:
    """Empty the frames that an error leaves behind in the block, so that nothing can print them."""
    try:
        try:
            yield
        except BaseException as error:
            forget_locals(error)
            raise
    except BaseException as error:  # once more: a tracer, or a signal, may have raised in there
        forget_locals(error)
        raise


def forget_locals(error: BaseException) -> None:
    """Empty the frames of an error, and of all that led to it: its lines stay, values go."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        found = left.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        traceback.clear_frames(found.__traceback__)
        left += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            left += found.exceptions


def install_excepthook() -> None:
    """Print uncaught errors, of any thread, without local variables and without secrets.

    It takes the place of Python's own hooks and of those that may print variables. Another one,
    such as an error reporter's, is left.
    """

    def hook(
        kind: type[BaseException],
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shown = error if error is not None else kind()
        if sys.stderr is not None:
            sys.stderr.write(format_exception(shown.with_traceback(trace)))

    def thread_hook(arguments: threading.ExceptHookArgs) -> None:
        if not issubclass(arguments.exc_type, SystemExit):
            hook(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    def unraisable(arguments: "sys.UnraisableHookArgs") -> None:
        hook(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    if _is_to_go(sys.excepthook, sys.__excepthook__):
        sys.excepthook = hook
    if _is_to_go(threading.excepthook, threading.__excepthook__):
        threading.excepthook = thread_hook
    if _is_to_go(sys.unraisablehook, sys.__unraisablehook__):
        put(unraisable)


def _is_to_go(installed: Callable[..., Any], pythons: Callable[..., Any]) -> bool:
    module = str(getattr(installed, "__module__", None)).partition(".")[0]
    return installed is pythons or module in {_OWN, *_SHOW_LOCALS}
