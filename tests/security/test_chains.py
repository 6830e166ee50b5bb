"""Material in notes, causes, contexts and groups of errors is masked wherever it is told."""

import io
import json
import logging
from collections.abc import Callable
from typing import Final

import pytest

from spanctl.credentials import hardening
from spanctl.credentials.redact import MASK, RedactingFilter
from spanctl.credentials.secret import Secret
from spanctl_cli.boundary import failure_of

CANARY: Final = "canary/that+no=error shows"
KEY: Final = (
    "-----BEGIN PRIVATE KEY-----\n"
    + "\n".join(f"canaryline{number}" * 5 for number in range(4))
    + "\n-----END PRIVATE KEY-----\n"
)


def noted(material: str) -> Exception:
    error = ValueError("it broke")
    error.add_note(f"with {material}")
    return error


def caused(material: str) -> Exception:
    error = ValueError("it broke")
    error.__cause__ = KeyError(material)
    return error


def handled(material: str) -> Exception:
    error = ValueError("it broke")
    error.__context__ = RuntimeError(material)
    return error


def grouped(material: str) -> Exception:
    return ExceptionGroup("several", [noted(material), ExceptionGroup("more", [caused(material)])])


def named(material: str) -> Exception:
    return ExceptionGroup(material, [ValueError(material), TypeError(b"with " + material.encode())])


CHAINS: Final[tuple[Callable[[str], Exception], ...]] = (noted, caused, handled, grouped, named)


def gives_away(text: str) -> bool:
    return CANARY in text or json.dumps(CANARY)[1:-1] in text or "canaryline" in text


def logged(error: Exception, *, masked: bool = True) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    if masked:
        handler.addFilter(RedactingFilter())
    record = logging.LogRecord("x", logging.ERROR, "", 1, "%s", (error,), None)
    record.exc_info = (type(error), error, error.__traceback__)
    if handler.filter(record):
        handler.emit(record)
    return stream.getvalue()


@pytest.mark.parametrize("material", [CANARY, KEY], ids=["a word", "a key"])
@pytest.mark.parametrize("chain", CHAINS)
def test_what_is_told_of_a_chain_is_masked(
    chain: Callable[[str], Exception], material: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In uncaught errors, in log records, and in a command's last words, with --debug and JSON."""
    error = chain(material)
    assert gives_away(logged(error, masked=False)), "the control"
    Secret(material)
    told = [hardening.format_exception(error), logged(error)]
    assert all(MASK in one for one in told)
    interrupted = KeyboardInterrupt()
    interrupted.add_note(f"with {material}")
    interrupted.__context__ = error
    for ended in (error, interrupted, SystemExit(material)):
        for as_json in (False, True):
            failure_of(ended, ["--debug"]).tell(as_json=as_json)
    told.append(capsys.readouterr().err)
    assert not any(gives_away(one) for one in told)
