"""The one place where errors become a line on stderr and an exit code."""

import errno
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException

from spanctl.errors import OutcomeUnknownError, SpanctlError
from spanctl_cli import exit_codes, signals, talk
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.help import Group
from spanctl_cli.output import stdout
from spanctl_cli.output.model import Format
from spanctl_cli.output.values import dumps, jsonable
from spanctl_cli.startup import Terminated

_FRAMES = 8
_GLOBAL = frozenset(
    {"--context", "-c", "--quiet", "-q", "--verbose", "--debug", "--no-input", "--version"}
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Failure:
    """An error as it is told: to people in lines, to machines as one JSON object."""

    def __init__(  # noqa: PLR0913 - the parts of an error
        self,
        code: str,
        message: str,
        exit_code: int,
        *,
        hint: str = "",
        details: dict[str, Any] | None = None,
        quoted: str = "",
        reason: str = "",
    ) -> None:
        """Keep the parts; ``quoted`` may hold the user's data, and is shown on a terminal only.

        There it stands in the place of ``reason``, with which the message ends.
        """
        self.code = code
        self.message = message
        self.exit_code = exit_code
        self.hint = hint
        self.details = details or {}
        self.quoted = quoted
        self.reason = reason

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        error = {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": jsonable(self.details),
            "exit_code": int(self.exit_code),
        }
        return {"schema": "spanctl.error/v1", "error": error}

    def tell(self, *, as_json: bool) -> None:
        """Write it to stderr."""
        if as_json:
            talk.write(dumps(self.document(), ascii_only=True) + "\n")
            return
        whole = bool(self.quoted) and talk.stderr_is_terminal()
        told = self.message.removesuffix(f": {self.reason}") if whole else self.message
        talk.say(told, label="error")
        for line in self.details.get("traceback", ()):
            talk.say(f"  {line}")
        if whole:
            for line in self.quoted.splitlines():
                talk.say(f"  {line}")
        if self.hint:
            talk.say(self.hint, label="hint")
        if talk.stderr_is_terminal() and self.hint != _explained(self.code):
            talk.say(_explained(self.code), label="more")


def _explained(code: str) -> str:
    return f"spanctl help {code}"


class Root(Group):
    """The group at the top, which lets no exception pass."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: Any = None,  # noqa: ANN401 - Typer's vendored type
        **extra: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Parse the global options inside the boundary."""
        stdout.renew()
        if extra.get("resilient_parsing"):
            return super().make_context(info_name, args, parent, **extra)
        with boundary(args):
            context = super().make_context(info_name, list(args), parent, **extra)
            context.meta["spanctl.args"] = tuple(args)
            return context

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's vendored type
        """Run the command inside the boundary."""
        with boundary(ctx.meta["spanctl.args"]):
            return super().invoke(ctx)


@contextmanager
def boundary(args: Sequence[str]) -> Iterator[None]:
    """Turn whatever ends the block into a message and ``typer.Exit`` with the exit code."""
    try:
        with signals.unwinding():
            yield
    except typer.Exit:
        raise
    except BrokenPipeError as error:
        if not stdout.pipe_is_broken():
            _end(args, _bug(error, args))
        stdout.abandon()
        raise typer.Exit(ExitCode.DONE) from None
    except BaseException as error:
        if isinstance(error, GeneratorExit):
            raise
        _end(args, failure_of(error, args))
    finally:
        signals.rest()


def _end(args: Sequence[str], failure: Failure) -> NoReturn:
    failure.tell(as_json=wants_json(args))
    raise typer.Exit(int(failure.exit_code)) from None


def failure_of(error: BaseException, args: Sequence[str] = ()) -> Failure:  # noqa: PLR0911 - one a kind
    """Return how an exception is told, and the exit code that it ends the command with."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if (ending := signals.heard()) and not isinstance(error, SpanctlError | KeyboardInterrupt):
        ending.__context__ = error  # whatever the signal became on its way here
        error = ending
    match error:
        case SpanctlError():
            code = exit_codes.of(error)
            frames = {"traceback": _frames(error)} if "--debug" in args else {}
            return Failure(
                error.code,
                error.message,
                code,
                hint=error.hint or _explained(error.code),
                details={**error.details, **frames},
                quoted=getattr(error, "quoted", ""),
                reason=getattr(error, "reason", ""),
            )
        case TyperException():
            return _usage(error)
        case Terminated():
            details = _noted(error)
            return Failure("terminated", "terminated", ExitCode.TERMINATED, details=details)
        case KeyboardInterrupt() | typer.Abort():
            details = _noted(error)
            return Failure("interrupted", "interrupted", ExitCode.INTERRUPTED, details=details)
        case OSError() if error.errno in _FULL:
            reason = os.strerror(error.errno or 0)
            return Failure("failed", f"can't write: {reason}", ExitCode.FAILED)
        case SystemExit():
            message = f"the code that was run called sys.exit({error.code!r})"
            return Failure("system_exit", message, ExitCode.FAILED)
    return _bug(error, args)


def notes_of(error: BaseException) -> list[str]:
    """Return what was noted on an interruption, and on those that it came from.

    An outcome that was open when it came is among it.
    """
    found: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        found += [note for note in getattr(current, "__notes__", ()) if note not in found]
        if isinstance(current, OutcomeUnknownError):
            found.append(f"{current.message}; {current.hint}")
        current = current.__cause__ or current.__context__
    return found


def _noted(error: BaseException) -> dict[str, Any]:
    notes = notes_of(error)
    return {"notes": notes} if notes else {}


def _usage(error: TyperException) -> Failure:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "spanctl"
    message = " ".join(error.format_message().split()).rstrip(".")
    message = message.replace("Value error, ", "", 1)  # pydantic's words before Typer's own
    if _misplaced(message) and " " in path:
        hint = f"it goes before the command: spanctl {_misplaced(message)} {path.partition(' ')[2]}"
        return Failure("usage", message, ExitCode.USAGE, hint=hint)
    return Failure("usage", message, ExitCode.USAGE, hint=f"see: {path} --help")


def _misplaced(message: str) -> str:
    """Return the global option that was written behind a command; empty if it is none."""
    option = message.removeprefix("No such option: ").partition(" ")[0]
    return option if option in _GLOBAL else ""


def _bug(error: BaseException, args: Sequence[str]) -> Failure:
    """Tell an exception that nothing foresaw, without its text: that may hold data or secrets."""
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    from spanctl.credentials.redact import redact

    text = f": {redact(str(error))}" if {"--verbose", "--debug"} & {*args} else ""
    return Failure(
        "internal",
        f"a bug in spanctl: {name}{text}",
        ExitCode.FAILED,
        hint="report it with these lines"
        + ("" if text else "; --verbose adds the error's own text, which may hold data"),
        details={"traceback": _frames(error)},
    )


def _frames(error: BaseException) -> list[str]:
    """Return where an error was raised, and how it got there; neither lines nor values."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return [f"{_short(one.filename)}:{one.lineno} in {one.name}" for one in frames]


def _short(filename: str) -> str:
    parts = Path(filename).parts
    for name in ("spanctl_cli", "spanctl", "site-packages"):
        if name in parts:
            return "/".join(parts[len(parts) - 1 - parts[::-1].index(name) :])
    return Path(filename).name


def wants_json(args: Sequence[str]) -> bool:
    """Whether the command line asks for JSON; looked up there, for it may not parse."""
    formats = {item.value for item in Format if item.is_json}
    before = ""
    for arg in args:
        if arg == "--":
            return False
        value = arg
        for prefix in ("--output=", "-o"):
            if arg.startswith(prefix) and arg != prefix:
                value, before = arg.removeprefix(prefix), "-o"
                break
        if before in {"-o", "--output"} and value in formats:
            return True
        before = arg
    return False
