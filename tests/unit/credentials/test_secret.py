"""A secret doesn't leave by accident, and whatever shows it anyway is masked."""

import base64
import copy
import io
import json
import logging
import os
import pickle
import re
import resource
import subprocess
import sys
import traceback
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from spanctl.credentials import hardening, redact
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


def test_installed_every_logger_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loggers and handlers that are made later are covered too; installing twice is once."""
    monkeypatch.setattr(redact, "REDACTOR", redact.REDACTOR)
    before = logging.getLogRecordFactory()
    try:
        install_logging()
        install_logging()
        Secret(CANARY)
        stream = io.StringIO()
        logger = logging.Logger("later")  # noqa: LOG001 - one that nobody else knows
        logger.addHandler(logging.StreamHandler(stream))
        logger.warning("told %s", CANARY)
        assert stream.getvalue() == f"told {MASK}\n"
    finally:
        logging.setLogRecordFactory(before)


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


PROBE = """
import logging, resource, sys, threading
from spanctl.credentials.hardening import harden
from spanctl.credentials.secret import Secret
harden()
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
assert logging.getLogger("google.auth").level == logging.NOTSET
assert logging.getLogger("google").level == logging.WARNING
value = "canary-" + "0123456789"
Secret(value)
thread = threading.Thread(target=lambda: [][value])
thread.start(); thread.join()
raise ValueError(value)
"""


def test_a_hardened_process_keeps_its_secrets_when_it_dies() -> None:
    """Debug switches of the environment are cleared, no core is dumped, errors are masked."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "GOOGLE_SDK_PYTHON_LOGGING_SCOPE": "google",
            "GRPC_TRACE": "all",
        },
        capture_output=True,
        text=True,
        check=False,
    )
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


def test_core_dumps_are_off() -> None:
    """The limit is zero, soft and hard."""
    hardening.disable_core_dumps()
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
