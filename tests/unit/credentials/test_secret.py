"""A secret doesn't leave by accident, and whatever shows it anyway is masked."""

import base64
import contextlib
import copy
import io
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import traceback
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from rich.console import Console
from rich.traceback import Traceback

from spanctl.credentials import hardening
from spanctl.credentials.redact import MASK, RedactingFilter, Redactor, install_logging
from spanctl.credentials.secret import SHOWN, Secret

CANARY = "canary/+~\"\\'é value 0123456789"


@dataclass(frozen=True)
class Holder:
    secret: Secret


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r:>40}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - as old logging calls do
        lambda secret: str([secret, {"a": secret}]),
        lambda secret: str(Holder(secret)),
        lambda secret: str(Exception(secret)),
        ascii,
    ],
)
def test_no_text_of_a_secret_holds_it(show: Callable[[Secret], str]) -> None:
    """Every way to turn it into text gives the same empty words."""
    shown = show(Secret(CANARY))
    assert "canary" not in shown
    assert "Secret(" in shown


@pytest.mark.parametrize(
    "leak",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        bytes,
        list,
        hash,
        json.dumps,
        lambda secret: pickle.dumps(Holder(secret)),
        lambda secret: secret + "x",
        lambda secret: secret.__getstate__(),
        lambda secret: setattr(secret, "_Secret__value", b"x"),
        lambda secret: setattr(secret, "more", b"x"),
        len,
        vars,
    ],
)
def test_a_secret_refuses_whatever_would_carry_it_away(leak: Callable[[Secret], object]) -> None:
    """Each refusal is an error that doesn't quote the value."""
    with pytest.raises((TypeError, AttributeError)) as caught:
        leak(Secret(CANARY))
    assert "canary" not in str(caught.value)


def test_revealing_is_the_one_way_and_comparing_works() -> None:
    """Who asks by name gets the material; equal values are equal, other types never are."""
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY.encode()
    assert secret.reveal_text() == CANARY
    assert secret == Secret(CANARY.encode())
    assert secret != Secret(CANARY + "x")
    assert secret != CANARY
    with pytest.raises(ValueError, match="no text"):
        Secret(b"\xff\xfe-canary").reveal_text()


ENCODED = {
    "plain": CANARY,
    "json": json.dumps({"a": CANARY}),
    "json twice": json.dumps(json.dumps({"a": CANARY})),
    "json unicode": json.dumps({"a": CANARY}, ensure_ascii=False),
    "repr": repr(CANARY),
    "bytes": repr(CANARY.encode()),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "urlsafe": base64.urlsafe_b64encode(CANARY.encode()).decode(),
    "inside base64 at 1": base64.b64encode(b"x" + CANARY.encode() + b"yy").decode(),
    "inside base64 at 2": base64.b64encode(b"xy" + CANARY.encode() + b"z").decode(),
    "url": urllib.parse.quote(CANARY),
    "url whole": urllib.parse.quote(CANARY, safe=""),
    "form": urllib.parse.urlencode({"a": CANARY}),
    "lower url": re.sub(r"%..", lambda found: found[0].lower(), urllib.parse.quote(CANARY)),
    "hex": CANARY.encode().hex(),
    "HEX": CANARY.encode().hex().upper(),
    "hex dump": CANARY.encode().hex(" "),
}


@pytest.mark.parametrize("how", ENCODED)
def test_every_encoding_is_masked(how: str) -> None:
    """A value is found as libraries print it, and the text around it stays."""
    redactor = Redactor()
    redactor.learn(CANARY.encode())
    shown = redactor.redact(f"before {ENCODED[how]} after")
    assert MASK in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    for form in (CANARY, CANARY.encode().hex(), "canary", "MDEyMzQ1Njc4", "63616e617279"):
        assert form not in shown


def test_text_without_secrets_is_left_alone() -> None:
    """The control: another value is not masked, nor are ordinary words; short values neither."""
    redactor = Redactor()
    redactor.learn(CANARY.encode())
    redactor.learn(b"short")
    text = "a short text, projects/p1/secrets/db, e30K, 2026-01-01T00:00:00Z, bearer of news"
    assert redactor.redact(text) == text


@pytest.mark.parametrize(
    "shape",
    [
        "ya29.a0AfB_byDexample-token",
        "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIabc cut off",
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJtZSJ9.c2lnbmF0dXJl",
        "Authorization: Bearer abcdefgh12345678",
    ],
)
def test_what_looks_like_a_credential_is_masked_unknown(shape: str) -> None:
    """Credentials that came by another way have shapes of their own."""
    shown = Redactor().redact(f"x {shape} y")
    assert MASK in shown
    assert shape.rsplit(maxsplit=1)[-1] not in shown


SIGNED = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"RS256","typ":"JWT"}', b'{"iss":"canary","aud":"x"}', b"signature" * 5)
)
KEY = "\n".join(
    [
        "-----BEGIN PRIVATE KEY-----",
        *(f"{n}canary+/{n}" * 4 for n in range(3)),
        "-----END PRIVATE KEY-----",
    ]
)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (SIGNED, SIGNED.split(".")[1]),
        (SIGNED, SIGNED.split(".")[2]),
        (KEY, KEY.splitlines()[2]),
        (KEY, "".join(KEY.splitlines()[1:-1])),
        (json.dumps({"private_key": KEY}), KEY.splitlines()[2]),
        (json.dumps({"private_key": KEY}), base64.b64encode(KEY.encode()).decode()),
        ("user:canary-password", "canary-password"),
        ("user:canary-password", base64.b64encode(b"user:canary-password").decode()),
    ],
    ids=["payload", "signature", "line", "body", "line in JSON", "base64", "password", "basic"],
)
def test_a_part_that_gives_the_whole_away_is_masked(value: str, part: str) -> None:
    """Half a token, a line of a key and a password without its user are no use to anybody."""
    redactor = Redactor()
    redactor.learn(value.encode())
    redactor.learn(KEY.encode())
    shown = redactor.redact(f"before {part} after")
    # The last character of Base64 may stay: it holds bits of what follows.
    assert re.fullmatch(rf"before {re.escape(MASK)}.?=* after", shown)
    assert Redactor().redact(f"before {part} after") == f"before {part} after", "the control"


def test_what_does_not_expire_is_never_forgotten() -> None:
    """A key stays masked in a process that has seen a thousand tokens since."""
    redactor = Redactor()
    redactor.learn(CANARY.encode(), lasting=True)
    for number in range(1000):
        redactor.learn(f"value-number-{number:04d}".encode())
    assert redactor.redact(CANARY) == MASK


def test_only_the_newest_values_are_kept_and_longer_ones_go_first() -> None:
    """Memory is bounded; a document is masked whole although its token is known too."""
    redactor = Redactor()
    for number in range(200):
        redactor.learn(f"value-number-{number:04d}".encode())
    assert redactor.redact("value-number-0199") == MASK
    assert redactor.redact("value-number-0001") == "value-number-0001"
    redactor.learn(b"<value-number-0199>")
    assert redactor.redact("<value-number-0199>") == MASK


def logged(action: Callable[[logging.Logger], None]) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(extra)s", defaults={"extra": ""}))
    redactor = Redactor()
    redactor.learn(CANARY.encode())
    handler.addFilter(RedactingFilter(redactor))
    logger = logging.Logger("test")  # noqa: LOG001 - one that nobody else knows
    logger.addHandler(handler)
    action(logger)
    return stream.getvalue()


def failing(logger: logging.Logger) -> None:
    try:
        int(CANARY)
    except ValueError:
        logger.exception("failed")


class Bad:
    def __str__(self) -> str:
        raise RuntimeError(CANARY)


@pytest.mark.parametrize(
    "action",
    [
        lambda logger: logger.error(CANARY),
        lambda logger: logger.error("got %s", CANARY),
        lambda logger: logger.error("got %(a)s", {"a": CANARY}),
        lambda logger: logger.error("%d", CANARY),
        lambda logger: logger.error("%s", Bad()),
        lambda logger: logger.error("x", extra={"extra": {"payload": [CANARY]}}),
        lambda logger: logger.error("x", extra={"extra": CANARY.encode()}),
        failing,
    ],
)
def test_no_log_record_shows_a_secret(
    action: Callable[[logging.Logger], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Message, arguments, traceback and extra fields are masked; a broken record too."""
    text = logged(action) + capsys.readouterr().err
    assert "canary" not in text
    assert text.strip()


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a handler writes that is made after the masking was installed, twice."""
    monkeypatch.setattr(logging.Logger, "makeRecord", logging.Logger.makeRecord)
    install_logging()
    install_logging()
    return io.StringIO()


def logger_of(name: str, stream: io.StringIO) -> logging.Logger:
    logger = logging.Logger(name)  # noqa: LOG001 - one that nobody else knows
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(extra)s", defaults={"extra": ""}))
    logger.addHandler(handler)
    return logger


def test_installed_every_logger_is_covered(stream: io.StringIO) -> None:
    """Loggers and handlers that are made later are covered too, and the fields that they add."""
    Secret(CANARY)
    logger = logger_of("later", stream)
    logger.warning("told %s", CANARY, extra={"extra": {"payload": CANARY}})
    assert stream.getvalue() == f"told {MASK} {{'payload': '{MASK}'}}\n"


def test_a_records_traceback_has_no_frames_for_a_handler_to_look_into(stream: io.StringIO) -> None:
    """Handlers that print local variables, or send them away, get the text alone."""
    seen: list[logging.LogRecord] = []
    logger = logger_of("framed", stream)
    logger.addFilter(lambda record: seen.append(record) or True)  # type: ignore[func-returns-value]
    failing(logger)
    (record,) = seen
    assert record.exc_info is None
    assert record.exc_text is not None
    assert "ValueError" in record.exc_text


@pytest.mark.parametrize("name", ["google.cloud.secretmanager_v1.x", "grpc", "urllib3.pool"])
def test_debug_records_of_clients_show_nothing_whatever_a_flow_sets(
    name: str, stream: io.StringIO
) -> None:
    """A payload just received is known to nobody as a secret: its record is masked whole."""
    logger = logger_of(name, stream)
    logger.setLevel(logging.DEBUG)
    logger.debug("unknown-payload", extra={"extra": {"payload": "unknown-payload"}})
    assert stream.getvalue() == f"{MASK} {MASK}\n"
    logger.warning("unknown-payload")
    assert "unknown-payload" in stream.getvalue(), "the control: warnings are told"


def test_a_traceback_shows_neither_locals_nor_secrets() -> None:
    """What is printed of an error has its message masked and no variables."""

    def inner() -> None:
        token = Secret(CANARY)
        raise RuntimeError(token.reveal_text())

    try:
        inner()
    except RuntimeError as error:
        shown = hardening.format_exception(error)
        control = "".join(traceback.format_exception(error))
    assert CANARY in control
    assert CANARY not in shown
    assert MASK in shown
    assert "RuntimeError" in shown
    assert SHOWN not in shown


def holding(value: str) -> None:
    raise RuntimeError(len(value))


def test_frames_that_an_error_left_are_emptied() -> None:
    """Who prints variables all the same, as Rich does on request, finds none of ours."""

    def shown(*, emptied: bool) -> str:
        console = Console(file=io.StringIO(), width=200)
        try:
            with hardening.without_locals() if emptied else contextlib.nullcontext():
                try:
                    holding(CANARY)
                except RuntimeError as error:
                    raise KeyError from error
        except KeyError:
            console.print(Traceback(show_locals=True))
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    assert "canary" in shown(emptied=False), "the control"
    told = shown(emptied=True)
    assert "canary" not in told
    assert "holding" in told, "where it happened is still told"


HOOKED = """
import sys, threading
from rich.traceback import install
install(show_locals=True)
threading.excepthook = theirs = lambda arguments: None
from spanctl.credentials.resolve import resolve
resolve("adc")
assert threading.excepthook is theirs, "an error reporter's hook is left"
canary = "canary-" + "0123456789"
raise ValueError
"""


def test_hooks_that_print_variables_are_replaced_at_the_first_resolve() -> None:
    """Rich's tracebacks with locals end where credentials begin; others' hooks stay."""
    done = run_probe(HOOKED, {})
    assert done.returncode == 1
    assert "canary-0123" not in done.stderr
    assert "AssertionError" not in done.stderr
    assert "ValueError" in done.stderr
    control = run_probe(HOOKED.replace('resolve("adc")', ""), {})
    assert "canary-0123" in control.stderr, "the control: Rich shows it"


PROBE = """
import logging, os, pathlib, resource, sys, threading
from spanctl.credentials.resolve import resolve
from spanctl.credentials.secret import Secret
resolve("adc")
assert not {"GRPC_TRACE", "GOOGLE_SDK_PYTHON_LOGGING_SCOPE"} & set(os.environ)
assert os.environ["GRPC_VERBOSITY"] == "ERROR"
dumped = pathlib.Path("/proc/self/coredump_filter")
assert not dumped.exists() or int(dumped.read_text(), 16) == 0
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
assert logging.getLogger("google.auth").level == logging.NOTSET
assert logging.getLogger("google").level == logging.WARNING
value = "canary-" + "0123456789"
Secret(value)
thread = threading.Thread(target=lambda: [][value])
thread.start(); thread.join()
raise ValueError(value)
"""


def run_probe(code: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hardened_process_keeps_its_secrets_when_it_dies() -> None:
    """Debug switches of the environment are cleared, no core is dumped, errors are masked.

    The first to resolve credentials has it done, whatever program it is.
    """
    debugging = {
        "GOOGLE_SDK_PYTHON_LOGGING_SCOPE": "google",
        "GRPC_TRACE": "all",
        "GRPC_VERBOSITY": "DEBUG",
    }
    done = run_probe(PROBE, debugging)
    assert done.returncode == 1
    assert "canary-0123" not in done.stderr
    assert f"ValueError: {MASK}" in done.stderr
    assert "TypeError" in done.stderr


def test_debug_logging_of_googles_libraries_is_clamped() -> None:
    """What others set to DEBUG, child loggers included, is WARNING afterwards."""
    child = logging.getLogger("google.test_debug_child")
    child.setLevel(logging.DEBUG)
    environ = {"GOOGLE_SDK_PYTHON_LOGGING_SCOPE": "google", "GRPC_TRACE": "http", "HOME": "/x"}
    hardening.clamp_debugging(environ)
    assert environ == {"HOME": "/x", "GRPC_VERBOSITY": "ERROR"}
    assert child.level == logging.WARNING
    quiet = {"GRPC_VERBOSITY": "NONE"}
    hardening.clamp_debugging(quiet)
    assert quiet == {"GRPC_VERBOSITY": "NONE"}
