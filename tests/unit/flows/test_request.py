"""What a request is: two that a flow can tell apart are never the same, and one is itself."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanctl.flows import launch
from spanctl.flows.request import describe
from spanctl.ledger.canonical import canonical_bytes

FLOWS = """
import datetime
import decimal
import enum
import functools
import pathlib
import threading
import time
from typing import Any

import pydantic
from prefect import flow


class Order(pydantic.BaseModel):
    number: int = pydantic.Field(exclude=True)


class Blanks(pydantic.BaseModel):
    a: int | None = None
    b: int | None = None
    _read: float = pydantic.PrivateAttr(default_factory=time.perf_counter)


class Shape(enum.Enum):
    ROUND = "round"


class Thing:
    def __init__(self, what):
        self.what = what


def a_thing(what):
    return Thing(what)


@flow
def takes(
    order: Order | None = None,
    amount: decimal.Decimal | None = None,
    at: datetime.datetime | None = None,
    blanks: Blanks | None = None,
    secret: pydantic.SecretStr | None = None,
    path: pathlib.Path | None = None,
    thing: pydantic.InstanceOf[Thing] | None = None,
    what: Any = None,
):
    pass


def make(count, lock=None):
    @flow
    def made(k: int = 1):
        return count, lock

    return made


three, five, again = make(3), make(5), make(3)
locked, open_ = make(3, threading.Lock()), make(3, None)


def plain(function):
    def run():
        return function()

    return run


def wrapped(function, times=1):
    @functools.wraps(function)
    def run():
        return [function() for _ in range(times)]

    return run


@flow(name="run")
@plain
def one():
    pass


@flow(name="run")
@plain
def two():
    pass


def work():
    pass


once, twice = flow(wrapped(work, 1)), flow(wrapped(work, 2))


@flow(name="twin")
def twin():
    return 1


first = twin


@flow(name="twin")
def twin():
    return 2
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that loads a flow from the file, in a folder of that name."""

    def loaded(name: str, folder: str = "here", stem: str = "flows_of_requests") -> Any:
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / f"{stem}.py"
        path.write_text(FLOWS, encoding="utf-8")
        return launch.load(f"{path}:{name}")

    return loaded


def asked(flow: Any, **parameters: Any) -> str:
    """Return the request in its newest version, as a command tells it."""
    return describe(flow, launch.bind(flow, parameters)).splitlines()[0]


SECRETS = ("hunter2", "hunter3")


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("order", {"number": 3}, {"number": 5}),
        ("amount", f"0.{'1' * 30}1", f"0.{'1' * 30}2"),
        ("at", "2026-01-01T03:00+00:00", "2026-01-01T05:00+02:00"),
        ("at", "2026-01-01T03:00", "2026-01-01T03:00+00:00"),
        ("blanks", {}, {"a": None, "b": None}),
        ("secret", *SECRETS),
        ("path", "a", "b"),
        ("what", [1, "1"], [1, 1]),
        ("what", 1, True),
        ("what", 1, 1.0),
    ],
)
def test_parameters_that_a_flow_can_tell_apart(
    load: Callable[..., Any], name: str, one: Any, other: Any
) -> None:
    takes = load("takes")
    assert asked(takes, **{name: one}) != asked(takes, **{name: other})
    assert asked(takes, **{name: one}) == asked(load("takes", "there"), **{name: one})


def test_what_has_no_canonical_form_is_compared_as_prefect_shows_it(
    load: Callable[..., Any],
) -> None:
    """It runs, and is the same request each time."""
    takes = load("takes")
    thing = takes.fn.__globals__["a_thing"]
    assert asked(takes, thing=thing(1)) == asked(takes, thing=thing(1))
    assert asked(takes, thing=thing(1)) != asked(takes, thing=thing(2))
    assert asked(takes, what=iter([1, 2])) == asked(takes, what=iter([3]))
    assert asked(takes, what=object()) == asked(takes, what=object())


@pytest.mark.parametrize(
    ("one", "other"),
    [("three", "five"), ("three", "again"), ("one", "two"), ("once", "twice"), ("first", "twin")],
)
def test_flows_that_their_names_do_not_tell_apart(
    load: Callable[..., Any], one: str, other: str
) -> None:
    """Of a factory, decorated, defined again: each is itself, wherever it is loaded from."""
    assert asked(load(one)) != asked(load(other))
    assert asked(load(one)) == asked(load(one, "there"))
    assert asked(load(one)) != asked(load(one, stem="other_flows_of_requests"))


def test_a_closure_without_canonical_form_counts_by_its_types(load: Callable[..., Any]) -> None:
    assert asked(load("locked")) == asked(load("locked", "there"))
    assert asked(load("locked")) != asked(load("open_"))


def test_defaults_are_parameters(load: Callable[..., Any]) -> None:
    """One that is not used does not count."""
    three = load("three")
    before = asked(three, k=2)
    assert asked(three) == asked(three, k=1) != before
    three.fn.__defaults__ = (7,)
    assert asked(three, k=2) == before


def test_a_flow_with_other_options_is_the_same(load: Callable[..., Any]) -> None:
    assert asked(load("three").with_options(retries=3)) == asked(load("three"))


def test_a_script_is_the_same_as_a_file(load: Callable[..., Any]) -> None:
    """So is an imported module: processes differ in what the flow's own module is called."""
    told = asked(load("three"), k=3)
    path = Path(load("three").fn.__code__.co_filename)
    script = "\n\nimport sys; from spanctl.flows.request import describe"
    script += "\nif __name__ == '__main__':"
    script += "\n    print(describe(three, {'k': 3}).splitlines()[0])"
    path.write_text(FLOWS + script, encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(path.parent)!r}); import {path.stem} as one"
    code += "; print(one.describe(one.three, {'k': 3}).splitlines()[0])"
    for words in ([str(path)], ["-c", code]):
        run = [sys.executable, *words]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [told]


def test_version_1_is_told_as_it_was(load: Callable[..., Any]) -> None:
    three = load("three")
    told = ["request/1", "made", "flows_of_requests", "make.<locals>.made", {"k": 3}]
    _, first = describe(three, {"k": 3}).splitlines()
    assert first == hashlib.sha256(canonical_bytes(told)).hexdigest()
    assert describe(load("five"), {"k": 3}).splitlines()[1] == first
