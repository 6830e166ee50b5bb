"""The identity of a step: its function, however it was loaded, and what it closes over."""

# ruff: noqa: ARG001 - the steps here are never run

import functools
import importlib.util
import logging
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spanctl.errors import UsageError
from spanctl.flows import transaction
from spanctl.flows.identity import identify
from spanctl.ledger.digests import ModuleNames
from spanctl.ledger.step_identity import StepIdentity


def identity(task: Any, names: ModuleNames | None = None, *, root: str = "") -> StepIdentity:
    """The identity of a step that is called, in a run of its own unless one is named."""
    own = names or ModuleNames.of_run()
    return identify(task.step, own, within=root or str(uuid.uuid4()), path=(), fixed=True)


def make(value: Any, *, name: str | None = None) -> Any:
    @transaction(name=name)
    def create(txn) -> Any:
        return value

    return create


def make_other(value: Any) -> Any:
    @transaction
    def create(txn) -> Any:
        return value

    return create


class Holder:
    @transaction
    def create(txn) -> None:  # noqa: N805 - a step in a class is no method
        pass


@transaction
def create(txn) -> None:
    pass


def test_functions_of_one_name_differ() -> None:
    """By module, by the function or class around them, and by what a factory gave them."""
    found = [
        identity(one) for one in (make(1), make(2), make("1"), make_other(1), Holder.create, create)
    ]
    assert len(set(found)) == len(found)
    assert identity(make(1)) == identity(make(1)), "made again on each attempt"


SOURCE = """
from spanctl.flows import transaction

@transaction
def pay(txn, n: int = 1):
    {body}
"""


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Callable[..., ModuleType]]:
    names = []

    def made(name: str, *, folder: str = ".", body: str = "pass") -> ModuleType:
        path = tmp_path / folder / "payments_job.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(SOURCE.format(body=body))
        names.append(name)
        return load(path, name)

    yield made
    for name in names:
        sys.modules.pop(name, None)


def test_the_run_s_own_file_is_the_same_however_it_was_loaded(
    loaded: Callable[..., ModuleType],
) -> None:
    """As a file, as a module of a package, from a worker's folder, beside a module of its stem."""
    found = set()
    for name, folder in [
        ("payments_job", "."),
        ("pkg.payments_job", "pkg"),
        ("__prefect_loader_0123456789abcdef__", "worker"),
    ]:
        module = loaded(name, folder=folder)
        found.add(identity(module.pay, ModuleNames.of_run(name)))
    assert len(found) == 1
    other = loaded("other.payments_job", folder="other")
    assert identity(other.pay, ModuleNames.of_run("pkg.payments_job")) not in found


def test_an_edited_body_is_the_same_step(loaded: Callable[..., ModuleType]) -> None:
    """A fix between two attempts must not lose what was committed; other defaults are others."""
    before = identity(loaded("job_before").pay, ModuleNames((("job_before", "job"),)))
    after = loaded("job_after", folder="fixed", body="return n + 1")
    assert identity(after.pay, ModuleNames((("job_after", "job"),))) == before


def test_two_branches_with_one_name_are_refused_in_one_run() -> None:
    """Nothing but their code tells them apart, and an edited body is the same step."""

    def branch(first: bool) -> Any:
        if first:

            @transaction
            def pay(txn) -> int:
                return 1

        else:

            @transaction
            def pay(txn) -> int:
                return 2

        return pay

    identity(branch(True), root="run")
    identity(branch(True), root="run")
    with pytest.raises(UsageError, match="two functions of this run claim the name 'pay'"):
        identity(branch(False), root="run")
    identity(branch(False), root="another run")


@pytest.mark.parametrize("thing", [threading.Lock(), logging.getLogger("x"), object()])
def test_a_closure_without_a_form_needs_a_name(thing: object) -> None:
    """A client or a lock can't be compared: the caller's name stands for the step then."""
    with pytest.raises(UsageError, match="step 'create' has a value in its closure") as refused:
        identity(make(thing))
    assert "name=" in refused.value.hint
    pinned = identity(make(thing, name="create"))
    assert pinned == identity(make(object(), name="create"))
    assert pinned.function.endswith(":create=")


def test_a_given_name_stands_for_one_function_in_a_run() -> None:
    """Of two that claim it the second is refused, wherever the difference shows."""
    identity(make(1, name="mine"), root="r")
    identity(make(1, name="mine"), root="r")
    with pytest.raises(UsageError, match="two functions of this run claim the name 'mine'"):
        identity(make(2, name="mine"), root="r")

    @transaction(name="mine")
    def another(txn) -> None:
        pass

    with pytest.raises(UsageError, match="claim the name 'mine'"):
        identity(another, root="r")


def test_a_named_step_may_change_what_it_closes_over() -> None:
    """It is the same function object, so it is the same step."""
    seen: list[int] = []
    step = make(seen, name="count")
    first = identity(step, root="s")
    seen.append(1)
    assert identity(step, root="s") == first


def test_functions_in_a_closure_count_by_name_and_closure() -> None:
    """Helpers, classes, modules, methods, partials, steps, and functions that call each other."""

    def adder(n: int) -> Callable[[int], int]:
        return lambda x: x + n

    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    things: list[Any] = [
        adder(1),
        adder(2),
        len,
        str.upper,
        dict,
        logging,
        threading,
        functools.partial(int, base=2),
        functools.partial(int, base=3),
        "a".join,
        "b".join,
        even,
        odd,
        make(1),
        make(2),
        create,
    ]
    found = [identity(make(thing)) for thing in things]
    assert len(set(found)) == len(found)
    assert found == [identity(make(thing)) for thing in things]


def test_lambdas_are_told_apart_by_what_they_do() -> None:
    """They have no name that could."""
    one, other = (lambda x: x + 1), (lambda x: x - 1)
    assert identity(make(one)) != identity(make(other))
    first = transaction(lambda txn: txn.read("a"))
    second = transaction(lambda txn: txn.read("b"))
    assert identity(first) != identity(second)


def test_defaults_count_unless_their_parameter_is_ignored() -> None:
    """What the body sees without an argument is part of it."""

    def with_default(value: Any, ignored: tuple[str, ...] = ()) -> Any:
        def create(txn, n: int = 1, *, by: Any = value) -> None:
            pass

        return transaction(ignore_arguments=ignored)(create)

    assert identity(with_default(1)) != identity(with_default(2))
    lock = threading.Lock()
    with pytest.raises(UsageError, match="closure or defaults"):
        identity(with_default(lock))
    assert identity(with_default(lock, ("by",))) == identity(with_default(object(), ("by",)))


def row_of(version: str) -> type:
    class Row:
        V = version

        def show(self) -> str:
            return self.V

        @property
        def shown(self) -> str:
            return version

    return Row


def test_classes_that_are_made_anew_are_told_apart_by_what_they_hold() -> None:
    """They have one name; their attributes, methods and properties may differ."""
    assert identity(make(row_of("1"))) != identity(make(row_of("2")))
    assert identity(make(row_of("1"))) == identity(make(row_of("1")))
    assert identity(make(Holder)) == identity(make(Holder))


class Configured:
    """Something without a form, which holds what a step is about."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.lock = threading.Lock()


def test_a_given_name_is_not_shared_by_two_configurations() -> None:
    """Objects that can't be compared are compared by the plain values that they hold."""
    identity(make(Configured("north"), name="mine"), root="configured")
    identity(make(Configured("north"), name="mine"), root="configured")
    with pytest.raises(UsageError, match="two functions of this run claim the name 'mine'"):
        identity(make(Configured("south"), name="mine"), root="configured")


@pytest.mark.parametrize("name", [None, "drain"])
def test_an_iterator_in_the_closure_is_refused(name: str | None) -> None:
    """A body uses it up, and nobody can tell how far."""
    with pytest.raises(UsageError, match="has a value in its closure"):
        identity(make(iter([1]), name=name))


def test_lambdas_are_the_same_wherever_their_text_is(tmp_path: Path) -> None:
    """From another folder, or a line further down, with functions of their own in it."""
    source = "step = lambda txn: sorted([n for n in range(3)], key=lambda n: -n)\n"
    found = set()
    for folder, text in (("one", source), ("two", f"# moved\n{source}")):
        path = tmp_path / folder / "lambdas_job.py"
        path.parent.mkdir()
        path.write_text(text)
        module = load(path, f"{folder}.lambdas_job")
        names = ModuleNames(((f"{folder}.lambdas_job", "lambdas_job"),))
        found.add(identity(transaction(module.step), names))
    assert len(found) == 1


def test_files_that_are_loaded_under_one_name_are_told_apart(tmp_path: Path) -> None:
    """As plugins are: the module's name says nothing, and is none in sys.modules."""
    found = []
    for name in ("north", "south"):
        path = tmp_path / f"{name}.py"
        path.write_text(SOURCE.format(body="pass"))
        found.append(identity(load(path, "plugin").pay, root="plugins"))
    assert len(set(found)) == 2
    sys.modules.pop("plugin")


def test_code_without_a_module_has_a_name_all_the_same() -> None:
    """Made by exec in a namespace of its own."""
    namespace: dict[str, Any] = {"transaction": transaction}
    exec(compile("def pay(txn):\n    pass\n", "<cell>", "exec"), namespace)  # noqa: S102 - as notebooks do
    assert identity(transaction(namespace["pay"])).function == "@<cell>:pay"


def test_another_s_program_is_not_the_run_s_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's engine runs a user's flow: a user's module of that name is a user's."""
    main = ModuleType("__main__")
    main.__file__ = "/x/prefect/engine.py"
    main.__spec__ = importlib.util.spec_from_loader("prefect.engine", None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert ModuleNames.of_run().of("engine") == "engine"
    main.__spec__ = None
    assert ModuleNames.of_run().of("engine") == "engine (imported)"
    main.__file__ = "/x/alpha/__main__.py"
    assert ModuleNames.of_run().of("__main__") == "alpha"
