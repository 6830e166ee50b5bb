"""The error boundary: every way in which a command can end, as people and as scripts see it."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner, Result

from spanctl import errors
from spanctl.credentials.secret import Secret
from spanctl.errors import SpanctlError
from spanctl_cli import boundary, talk
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.options import OutputOption
from spanctl_cli.output import Column, Record, emit
from tests.fixtures.cli import Ended, child_environment

Raise = Callable[[], BaseException]


def run(ending: Raise | None, *args: str) -> Result:
    """Run a command line of one command, which ends as it is told."""
    app = typer.Typer(
        cls=boundary.Root,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def top(verbose: Annotated[bool, typer.Option("--verbose")] = False) -> None:
        del verbose

    @app.command()
    def work(
        count: Annotated[int, typer.Option("--count")] = 1, output: OutputOption = None
    ) -> None:
        del count
        if ending is not None:
            raise ending()
        emit(Record("work", (Column("done"),), {"done": True}), output)

    return CliRunner().invoke(app, list(args), prog_name="spanctl")


def test_a_command_that_ends_well_exits_0() -> None:
    """Nothing is said on stderr when nothing is wrong."""
    result = run(None, "work")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "field\tvalue\ndone\ttrue\n"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.SpanctlError, 1),
        (errors.StatementError, 1),
        (errors.FlowFailedError, 1),
        (errors.UsageError, 2),
        (errors.KeyRequiredError, 2),
        (errors.ConfigurationError, 2),
        (errors.UnreachableError, 3),
        (errors.NotPermittedError, 4),
        (errors.NotFoundError, 5),
        (errors.KeyReusedError, 6),
        (errors.VerificationError, 7),
        (errors.PendingError, 8),
        (errors.OutcomeUnknownError, 9),
        (errors.FlowCancelledError, 12),
    ],
)
def test_an_error_is_one_line_a_hint_and_its_exit_code(kind: type[SpanctlError], code: int) -> None:
    """stdout stays empty, stderr says what and what next."""
    result = run(lambda: kind("it broke", hint="mend it", txn_id="t-1"), "work")
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr == "error: it broke\nhint: mend it\n"


@pytest.mark.parametrize(
    "args",
    [
        ("-o", "json"),
        ("-ojson",),
        ("--output", "json"),
        ("--output=json",),
        ("-o", "jsonl"),
    ],
)
def test_under_json_an_error_is_one_json_object(args: tuple[str, ...]) -> None:
    """Scripts that asked for JSON read their errors as JSON, however the option was spelt."""
    result = run(lambda: errors.NotFoundError("gone", hint="look", txn_id="t-1"), "work", *args)
    assert result.exit_code == 5
    assert result.stdout == ""
    assert json.loads(result.stderr) == {
        "schema": "spanctl.error/v1",
        "error": {
            "code": "not_found",
            "message": "gone",
            "hint": "look",
            "details": {"txn_id": "t-1"},
            "exit_code": 5,
        },
    }


@pytest.mark.parametrize(
    "args",
    [
        ("work", "--count", "x", "-o", "json"),
        ("work", "--nope", "-o", "json"),
        ("wrk", "-o", "json"),
        ("--nope", "work", "-o", "json"),
    ],
)
def test_what_does_not_parse_is_told_in_json_too(args: tuple[str, ...]) -> None:
    """A usage error comes before the option is read, and yet honours it."""
    result = run(None, *args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert json.loads(result.stderr)["error"]["code"] == "usage"


def test_json_is_not_taken_from_what_follows_a_double_dash() -> None:
    """Arguments are not options."""
    result = run(None, "wrk", "--", "-o", "json")
    assert result.stderr.startswith("error: ")


def test_a_misspelt_command_is_answered_with_the_one_that_was_meant() -> None:
    """The suggestion stands in the message, and the hint names the help."""
    result = run(None, "wrok")
    assert result.exit_code == 2
    assert "Did you mean 'work'?" in result.stderr
    assert "hint: see: spanctl --help" in result.stderr


def test_a_bad_value_names_the_option() -> None:
    """One line, no box."""
    result = run(None, "work", "--count", "many")
    assert result.exit_code == 2
    assert "--count" in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_no_arguments_show_the_help() -> None:
    """The bare name is a question, not a mistake."""
    result = run(None)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: spanctl")


@pytest.mark.parametrize(
    ("ending", "code", "word"),
    [
        (KeyboardInterrupt, 130, "interrupted"),
        (typer.Abort, 130, "interrupted"),
        (boundary.Terminated, 143, "terminated"),
    ],
)
def test_signals_have_their_exit_codes(ending: Raise, code: int, word: str) -> None:
    """Interrupted is 130 and terminated 143, in text and in JSON."""
    result = run(ending, "work")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"error: {word}\n"
    told = json.loads(run(ending, "work", "-o", "json").stderr)["error"]
    assert (told["code"], told["exit_code"]) == (word, code)


@pytest.mark.parametrize("code", [0, None, 3, "text"])
def test_user_code_can_not_end_spanctl_as_if_all_were_well(code: object) -> None:
    """sys.exit(0) somewhere in a flow is no success of the command."""
    result = run(lambda: SystemExit(code), "work")
    assert result.exit_code == 1
    assert "sys.exit(" in result.stderr


def test_a_bug_shows_where_but_neither_its_text_nor_locals() -> None:
    """An unforeseen exception may quote data: its text takes --verbose."""
    secret = "s3cr3t-value"  # noqa: S105 - looked for in the output

    def ending() -> BaseException:
        local = secret
        return ValueError(f"can't parse {local}")

    result = run(ending, "work")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "a bug in spanctl: ValueError" in result.stderr
    assert "test_boundary.py" in result.stderr
    assert secret not in result.stderr
    assert secret not in run(ending, "work", "-o", "json").stderr
    assert secret in run(ending, "--verbose", "work").stderr


@pytest.mark.parametrize("args", [("--verbose", "work"), ("work", "-o", "json")])
def test_no_error_shows_a_secret_that_this_process_holds(args: tuple[str, ...]) -> None:
    """Whatever an exception quotes, --verbose included, goes through the redactor."""
    token = Secret("canary-token-0123456789")
    told = run(lambda: ValueError(f"at {token.reveal_text()}"), *args).stderr
    told += run(lambda: errors.UsageError(f"at {token.reveal_text()}"), *args).stderr
    assert "canary-token" not in told
    assert "[secret]" in told


def test_an_error_alone_in_a_group_is_that_error() -> None:
    """Task groups wrap; the user still gets the code of what happened."""
    group = ExceptionGroup("g", [ExceptionGroup("h", [errors.NotFoundError("gone")])])
    assert run(lambda: group, "work").exit_code == ExitCode.NOT_FOUND


def test_an_exit_code_raised_on_purpose_passes() -> None:
    """typer.Exit is how a command ends with a code beside its result."""
    result = run(lambda: typer.Exit(ExitCode.UNKNOWN), "work")
    assert (result.exit_code, result.stderr) == (9, "")


def test_control_characters_in_an_error_are_shown_escaped() -> None:
    """A name that someone else chose can't drive the terminal, nor forge a second line."""
    result = run(lambda: errors.NotFoundError("no \x1b[2Jrun\nerror: none"), "work")
    assert result.stderr.splitlines()[0] == "error: no \\x1b[2Jrun\\nerror: none"
    assert len(result.stderr.splitlines()) == 2


def test_an_error_without_a_hint_names_its_explanation() -> None:
    """No error leaves the person alone: what to type next is always there, in JSON too."""
    assert run(lambda: errors.KeyClosedError("closed"), "work").stderr.endswith(
        "\nhint: spanctl help key_closed\n"
    )
    told = json.loads(run(lambda: errors.KeyClosedError("x"), "work", "-o", "json").stderr)
    assert told["error"]["hint"] == "spanctl help key_closed"


def test_quoted_text_is_kept_from_pipes() -> None:
    """What may hold rows goes to a terminal, not to a log."""
    error = errors.StatementError("refused")
    error.quoted = "Row [42] exists"  # type: ignore[attr-defined]
    for args in (("work",), ("work", "-o", "json")):
        assert "42" not in run(lambda: error, *args).stderr


def test_sigterm_unwinds_the_stack(tmp_path: Path) -> None:
    """SIGTERM runs the finally blocks, where transactions are rolled back, and exits 143."""
    mark = tmp_path / "unwound"
    code = f"""
import time, typer
from pathlib import Path
from spanctl.credentials.secret import Secret
from spanctl_cli import boundary, main
app = main.build()
@app.command()
def work():
    try:
        Path({str(mark)!r} + ".ready").touch()
        time.sleep(60)
    finally:
        Path({str(mark)!r}).touch()
main.app = app
main.main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, "work"], env=child_environment(), stderr=subprocess.PIPE
    )
    with process:
        ready = Path(f"{mark}.ready")
        while not ready.exists():
            assert process.poll() is None
            os.sched_yield()
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 143
    assert stderr == b"error: terminated\n"
    assert mark.exists()


def piped_into(reader: str, *args: str) -> tuple[int, bytes]:
    """Run spanctl with stdout in a pipe whose reader is already gone, or in a full device."""
    command = [sys.executable, "-m", "spanctl_cli.main", *args]
    environment = child_environment()
    if reader == "full":
        with Path("/dev/full").open("wb") as stream:
            done = subprocess.run(
                command, env=environment, stdout=stream, stderr=subprocess.PIPE, check=False
            )
        return done.returncode, done.stderr
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as stream:
        done = subprocess.run(
            command, env=environment, stdout=stream, stderr=subprocess.PIPE, check=False
        )
    return done.returncode, done.stderr


@pytest.mark.parametrize("args", [("--help",), ("context", "show"), ("context", "show", "-ojson")])
def test_a_reader_that_left_is_no_error(args: tuple[str, ...]) -> None:
    """``spanctl ... | head`` ends quietly, without a traceback at exit either."""
    assert piped_into("gone", *args) == (0, b"")


@pytest.mark.parametrize("args", [("context", "show"), ("context", "show", "-o", "json")])
def test_a_full_disk_is_an_error(args: tuple[str, ...]) -> None:
    """A result that could not be written is never passed off as done."""
    code, stderr = piped_into("full", *args)
    assert code == 1
    assert b"No space left" in stderr


def test_a_failing_command_exits_with_its_code_through_a_real_process(
    child: Callable[..., Ended],
) -> None:
    """The console entry gives the codes that the tests above saw in process."""
    ended = child("context", "use", "nope")
    assert (ended.exit_code, ended.stdout) == (5, "")
    assert ended.stderr.startswith("error: there is no context 'nope'\n")


def redirected(how: str, *args: str) -> tuple[int, bytes, bytes]:
    """Run spanctl with a shell's redirection, such as ``>&-``."""
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f'exec "$@" {how}',
            "sh",
            sys.executable,
            "-m",
            "spanctl_cli.main",
            *args,
        ],
        env=child_environment(),
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("args", [("context", "show"), ("context", "show", "-o", "json")])
def test_a_closed_stdout_is_told_in_one_line(args: tuple[str, ...]) -> None:
    """A result that has nowhere to go is an error like a full disk's, not a traceback."""
    code, stdout, stderr = redirected(">&-", *args)
    assert (code, stdout) == (1, b"")
    assert b"can't write to stdout" in stderr
    assert b"Traceback" not in stderr


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_a_stderr_that_takes_nothing_changes_neither_result_nor_exit_code(how: str) -> None:
    """Talk that can't be written is lost; results and exit codes are what they are with it."""
    code, stdout, _ = redirected(how, "context", "show", "-o", "json")
    assert code == 0
    assert json.loads(stdout)["schema"] == "spanctl.context/v1"
    assert redirected(how, "context", "use", "nope")[:2] == (5, b"")


def test_a_full_disk_is_no_bug() -> None:
    """A disk that is full is told as such, whoever wrote to it."""
    result = run(lambda: OSError(errno.ENOSPC, "full"), "work")
    assert result.exit_code == 1
    assert result.stderr == "error: can't write: No space left on device\n"


def test_on_a_terminal_the_whole_message_stands_in_the_place_of_the_masked_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told once; elsewhere only what is masked is."""
    error = errors.StatementError("statement 2: Spanner answered ABC: Row ? exists")
    error.quoted, error.reason = "Row [42] exists", "Row ? exists"  # type: ignore[attr-defined]
    failure = boundary.failure_of(error)
    failure.tell(as_json=False)
    assert "error: statement 2: Spanner answered ABC: Row ? exists" in capsys.readouterr().err
    monkeypatch.setattr(boundary.talk, "stderr_is_terminal", lambda: True)
    failure.tell(as_json=False)
    told = capsys.readouterr().err
    assert "statement 2: Spanner answered ABC\n  Row [42] exists\n" in told
    assert "Row ? exists" not in told


def test_a_line_is_said_while_another_thread_loads_what_masks_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half loaded, it has nothing to mask yet."""
    name = "spanctl.credentials.redact"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    talk.say("ready in 0.3 s")
    assert capsys.readouterr().err == "ready in 0.3 s\n"
