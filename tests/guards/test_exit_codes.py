"""The exit codes are one table: in the code, in the README, and for every error."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import spanctl
import spanctl_cli
from spanctl import errors
from spanctl.errors import SpanctlError
from spanctl_cli import exit_codes
from spanctl_cli.catalogue import ERRORS as EXPLAINED
from spanctl_cli.exit_codes import ERRORS, MEANINGS, ExitCode

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- exit-codes -->", "<!-- /exit-codes -->"


def every_error() -> list[type[SpanctlError]]:
    """Import every module of the project, so that each error class exists, and return them."""
    for package in (spanctl, spanctl_cli):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)

    def below(kind: type[SpanctlError]) -> list[type[SpanctlError]]:
        return [kind, *(found for sub in kind.__subclasses__() for found in below(sub))]

    return below(SpanctlError)


def test_every_error_has_the_exit_code_that_its_docstring_names() -> None:
    """The code is that of the first entry that fits, and where one is documented, it is that."""
    for kind in every_error():
        code = exit_codes.of(kind("x"))
        documented = re.findall(r"\(exit (\d+)\)", kind.__doc__ or "")
        if kind.__module__ == errors.__name__ and kind is not SpanctlError:
            assert documented, kind
        assert set(documented) <= {str(code.value)}, kind


BESIDE_CLASSES = {
    "internal": ExitCode.FAILED,
    "system_exit": ExitCode.FAILED,
    "interrupted": ExitCode.INTERRUPTED,
    "terminated": ExitCode.TERMINATED,
}
"""Codes that the boundary gives to what is no SpanctlError."""


def test_every_error_is_explained() -> None:
    """Each class has a code, each code a cause, an exit code and a command to type next."""
    kinds = every_error()
    codes = {kind.code: exit_codes.of(kind("x")) for kind in kinds} | BESIDE_CLASSES
    assert set(codes) - set(EXPLAINED) == set(), "explain them in spanctl_cli/catalogue.py"
    assert set(EXPLAINED) - set(codes) == set(), "there is no such error any more"
    for code, found in EXPLAINED.items():
        assert found.exit_code is codes[code], code
        assert found.cause.endswith("."), code
        assert "spanctl " in found.next, code


def test_a_code_means_one_exit_code_and_is_no_accident() -> None:
    """Two classes share a code only as a base and its subclass, with one exit code."""
    owners: dict[str, type[SpanctlError]] = {}
    for kind in every_error():
        owner = owners.setdefault(kind.code, kind)
        assert issubclass(kind, owner), (kind, owner)
        assert exit_codes.of(kind("x")) is exit_codes.of(owner("x")), kind
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code), kind


def test_no_entry_of_the_map_is_hidden_by_one_before_it() -> None:
    """A subclass after its base would never be reached."""
    for index, (kind, _) in enumerate(ERRORS):
        assert not any(issubclass(kind, earlier) for earlier, _ in ERRORS[:index]), kind
    assert ERRORS[-1][0] is SpanctlError


def test_the_numbers_are_those_that_scripts_know() -> None:
    """A change of a published exit code breaks scripts, so it breaks this test first."""
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "UNREACHABLE": 3,
        "NOT_PERMITTED": 4,
        "NOT_FOUND": 5,
        "CONFLICT": 6,
        "VERIFICATION_FAILED": 7,
        "PENDING": 8,
        "UNKNOWN": 9,
        "DENIED": 10,
        "REJECTED": 11,
        "CANCELLED": 12,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }
    assert set(MEANINGS) == set(ExitCode)


def test_the_readme_shows_the_table_as_it_is() -> None:
    """The README's table is the one that the code makes."""
    text = README.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        pytest.fail(f"README.md needs the table of exit codes between {BEGIN} and {END}")
    shown = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == exit_codes.markdown()
