"""What generated programs do: one method a kind of statement, each returns lines of source."""

from typing import TYPE_CHECKING, Final

from tests.campaign import identity_arguments
from tests.campaign.identity_runtime import AT_COMMIT
from tests.campaign.identity_source import IGNORED, PAUSE, TAKES, May, Scope, Source, indent

if TYPE_CHECKING:
    from collections.abc import Callable

_KEYS: Final = ("k", "0", "0-0", "0-99", "a\\nb", "a/b", "#0", "=", " ", "ä", "part_1#0/k")
"""Texts that could be taken for something else: an ordinal, a range of them, a path."""


class Statements(Source):
    """Writes statements into a scope, chosen at random."""

    def statements(self, scope: Scope, *, depth: int, count: int) -> list[str]:
        kinds: dict[Callable[[Scope], list[str]], int] = {
            self.plain: 4,
            self._loop: 2,
            self._keyed: 2,
            self._keyed_twins: 4,
            self._keyed_arguments: 4,
            self._branch: 4,
            self._crash: 2,
            self._griefs: 3,
            self._lost: 4,
            self._copied: 2,
            self._job: 1,
            self._task: 2,
            self._side_by_side: 1,
            self._consumes: 2,
            self._closes_over_a_lock: 1,
        }
        if "each" in self.steady:
            kinds[self._mapped] = 12
        if self.is_async and depth == 0:
            kinds[self._gathered] = 3
            kinds[lambda _: self._gathered_subflows()] = 3
        if depth < 2:
            kinds[lambda one: self._subflow(one, depth + 1)] = 4
        if depth == 0:
            kinds[lambda _: self._lost_subflow()] = 2
        chosen = self.dice.choices(list(kinds), list(kinds.values()), k=count)
        return [line for one in chosen for line in one(scope)]

    def _how(self) -> str:
        return self.dice.choice(
            (
                "{step}({args})",
                "{step}({args})",
                "{step}.submit({args}).result()",
                "{step}.with_options(tags={{'t'}})({args})",
            )
        )

    def _ordinal(self, scope: Scope, name: str) -> May:
        return May.CONFLICT if name in scope.unsteady else May.SUCCEED

    def plain(self, scope: Scope) -> list[str]:
        twins = self.dice.choice(self.twins)
        step, _ = twins.shuffled(self.dice)
        may = self._ordinal(scope, twins.name)
        return self.call(scope, step, self.given(), next(self.ids), may=may, how=self._how())

    def _loop(self, scope: Scope) -> list[str]:
        """Equal calls, which nothing but their order tells apart."""
        given, serial = "'equal'", 0
        return [
            line
            for _ in range(self.dice.randint(2, 3))
            for line in self.call(scope, self.steady["tick"], given, serial, how=self._how())
        ]

    def _key(self, name: str) -> str:
        """Return a key that the run has not used for this name."""
        key = self.dice.choice(_KEYS)
        if (name, key) in self.keys:
            return f"{key}-{next(self.ids)}"
        self.keys.add((name, key))
        return key

    def _keyed(self, scope: Scope) -> list[str]:
        """A key that is used again for the very same."""
        twins = self.dice.choice(self.twins)
        step, _ = twins.shuffled(self.dice)
        key, given, serial = self._key(twins.name), self.given(), next(self.ids)
        may, catch, label = self._in_subflow(scope), True, f"w{next(self.ids)}"
        told = {"key": key, "may": may, "catch": catch, "label": label}
        return [
            line
            for _ in range(self.dice.randint(1, 2))
            for line in self.call(scope, step, given, serial, how=self._how(), **told)
        ]

    def _in_subflow(self, scope: Scope) -> May:
        """The same key may be met in the same flow's other run."""
        return May.SUCCEED if len(scope.prefixes) == 1 else May.CONFLICT

    def _keyed_twins(self, scope: Scope) -> list[str]:
        """One key, the same arguments, two functions."""
        twins = self.dice.choice(self.twins)
        key, given, serial = self._key(twins.name), self.given(), next(self.ids)
        lines = []
        for which, step in enumerate(twins.shuffled(self.dice)):
            may = May.CONFLICT if which else self._in_subflow(scope)
            lines += self.call(
                scope, step, given, serial, key=key, may=may, catch=True, how=self._how()
            )
        return lines

    def _keyed_arguments(self, scope: Scope) -> list[str]:
        """One key, one function, two arguments that are hard to tell apart."""
        twins = self.dice.choice(self.twins)
        step, _ = twins.shuffled(self.dice)
        key, serial = self._key(twins.name), next(self.ids)
        lines = []
        for which, given in enumerate(self.dice.choice(identity_arguments.PAIRS)):
            may = May.CONFLICT if which else self._in_subflow(scope)
            lines += self.call(
                scope, step, given, serial, key=key, may=may, catch=True, how=self._how()
            )
        return lines

    def _branch(self, scope: Scope) -> list[str]:
        """What the first attempt calls, later ones don't."""
        twins = self.dice.choice(self.twins)
        one, other = twins.shuffled(self.dice)
        given, serial = self.given(), next(self.ids)
        may = May.CONFLICT
        first = self.call(scope, one, given, serial, may=may, how=self._how())
        shape = self.dice.choice(("function", "arguments", "skip", "insert"))
        match shape:
            case "function":
                then = self.call(scope, other, given, serial, may=may)
            case "arguments":
                then = self.call(scope, one, given, next(self.ids), may=may)
            case _:
                then = ["pass"]
        if shape == "insert":
            first, then = then, first
        scope.unsteady.add(twins.name)
        mark = f'{scope.at} + "b{next(self.ids)}"'
        return [f"if rt.first({mark}):", *indent(first), "else:", *indent(then)]

    def _crash(self, scope: Scope) -> list[str]:
        how = self.dice.choice(("raise", "kill"))
        return [f'rt.crash({scope.at} + "c{next(self.ids)}", "{how}")']

    def _griefs(self, scope: Scope) -> list[str]:
        """A body that dies or fails, or a Commit whose reply is lost."""
        grief = self.dice.choice(("raise", "kill", *AT_COMMIT, *AT_COMMIT))
        twins = self.dice.choice(self.twins)
        step, _ = twins.shuffled(self.dice)
        label = f"w{next(self.ids)}"
        for prefix in scope.prefixes:
            self.plan[f"{prefix}{label}"] = grief
        may = self._ordinal(scope, twins.name)
        how = self.dice.choice(("{step}({args})", "{step}.with_options(retries=1)({args})"))
        return self.call(scope, step, self.given(), next(self.ids), may=may, label=label, how=how)

    def _lost(self, scope: Scope) -> list[str]:
        """A call from where the run's context is lost, with a key or none."""
        place = self.dice.choice(("in_pool", "in_thread", "in_empty_context", "in_pool", "in_fork"))
        key = f"lost-{next(self.ids)}" if self.dice.random() < 0.5 else None
        if place == "in_fork":
            key = None
        step = self.steady["tock"]
        around = f"rt.{place}({{call}})"
        return self.call(
            scope, step, self.given(), next(self.ids),
            key=key, may=May.LOST, catch=True, around=around,
        )  # fmt: skip

    def _copied(self, scope: Scope) -> list[str]:
        """A thread with the run's context: it needs a key."""
        key = f"copied-{next(self.ids)}" if self.dice.random() < 0.6 else None
        may = self._in_subflow(scope) if key else May.LOST
        return self.call(
            scope, self.steady["tock"], self.given(), next(self.ids),
            key=key, may=may, catch=True, around="rt.in_copied_context({call})",
        )  # fmt: skip

    def _job(self, scope: Scope) -> list[str]:
        """A thread that names the job which its calls belong to."""
        number = next(self.ids)
        job = f"rt.in_job('job-{self.number}-' + {scope.at} + '{number}', {{call}})"
        return self.call(
            scope, self.steady["tock"], self.given(), number,
            key="k", catch=True, around=job,
        )  # fmt: skip

    def _task(self, scope: Scope) -> list[str]:
        """A call inside of a plain task: it needs a key."""
        key = f"task-{next(self.ids)}" if self.dice.random() < 0.6 else None
        may = self._in_subflow(scope) if key else May.LOST
        name = f"work_{next(self.ids)}"
        call = self.call(
            scope, self.steady["tock"], self.given(), next(self.ids),
            key=key, may=may, catch=True,
        )  # fmt: skip
        then = f"{name}()" if self.dice.random() < 0.5 else f"{name}.submit().result()"
        if self.dice.random() < 0.4:  # in the task's hook
            hook = [f"def hook_{name}(task, run, state):", *indent(call)]
            return [
                *hook,
                f"@task(on_completion=[hook_{name}])",
                f"def {name}():",
                f"{PAUSE}pass",
                then,
            ]
        return ["@task", f"def {name}():", *indent(call), then]

    def _side_by_side(self, scope: Scope) -> list[str]:
        """Steps that run at the same time, each with its turn."""
        calls = []
        for _ in range(self.dice.randint(2, 3)):
            first, second = self.call(
                scope, self.steady["tick"], "'equal'", 0,
                how="{step}.submit({args})",
            )  # fmt: skip
            calls.append((first, second.replace("rt.call(", "(", 1)))
        return [*(one for one, _ in calls), f"rt.together([{', '.join(c for _, c in calls)}])"]

    def _mapped(self, scope: Scope) -> list[str]:
        """A step over several elements, equal ones and others; with keys it may come again."""
        number, step = next(self.ids), self.steady["each"]
        given = [self.given(), self.given(), *[self.given()] * self.dice.randint(0, 2)]
        keys = [f"m{number}-{place}" for place, _ in enumerate(given)]
        lost = self.dice.random() < 0.2
        if self.dice.random() < 0.4:
            may = May.LOST if lost else May.SUCCEED
            return self._map(scope, step, given, number, may=may, lost=lost)
        lines = self._map(
            scope, step, given, number, keys=keys,
            may=May.LOST if lost else self._in_subflow(scope), lost=lost,
        )  # fmt: skip
        if not lost and self.dice.random() < 0.6:
            then = list(reversed(given))
            lines += self._map(scope, step, then, number + 1000, keys=keys, may=May.CONFLICT)
        return lines

    def _map(  # noqa: PLR0913 - one call, told in full
        self,
        scope: Scope,
        step: str,
        given: list[str],
        serial: int,
        *,
        may: May,
        keys: list[str] | None = None,
        lost: bool = False,
    ) -> list[str]:
        sites = [f"s{next(self.ids)}" for _ in given]
        for prefix in scope.prefixes:
            self.may.update({f"{prefix}{site}": may for site in sites})
        named = ", ".join(f'{scope.at} + "w{site[1:]}"' for site in sites)
        keyed = f", key={keys!r}" if keys else ""
        mapped = f"lambda: {step}.map(g, unmapped({serial}), label=[{named}]{keyed})"
        told = ", ".join(
            f'({scope.at} + "{site}", {scope.at} + "w{site[1:]}", g[{place}])'
            for place, site in enumerate(sites)
        )
        mapped = f"lambda: rt.in_pool({mapped})" if lost else mapped
        caught = ", catch=True" if keys or lost else ""
        return [f"g = [{', '.join(given)}]", f"rt.mapped([{told}], {mapped}{caught})"]

    def _gathered(self, scope: Scope) -> list[str]:
        """Calls of asyncio's tasks, and of a loop's own threads."""
        name, lines = f"part_{next(self.ids)}", []
        key = f"async-{next(self.ids)}" if self.dice.random() < 0.6 else None
        may = May.SUCCEED if key else May.LOST
        lines += self.call(
            scope, self.steady["tock"], self.given(), next(self.ids),
            key=key, may=may, catch=True,
        )  # fmt: skip
        if self.dice.random() < 0.5:
            what = f"await asyncio.gather({name}())"
            return [f"async def {name}():", *indent(lines), what]
        thread = self.dice.random() < 0.5
        if not thread:  # an executor's thread has no context
            site = lines[1].partition("'")[2].partition("'")[0]
            self.may[site] = May.LOST
        run = f"asyncio.get_running_loop().run_in_executor(None, {name})"
        what = f"await asyncio.to_thread({name})" if thread else f"await {run}"
        return [f"def {name}():", *indent(lines), what]

    def _gathered_subflows(self) -> list[str]:
        """Subflows side by side: their order may be another on each attempt, their keys are not."""
        name = f"part_{next(self.ids)}"
        inner = Scope(at="at", prefixes=(f"{name}.0/", f"{name}.1/"))
        keyed = self.dice.random() < 0.7
        call = self.call(
            inner, self.steady["tock"], self.given(), next(self.ids),
            may=May.SUCCEED if keyed else May.LOST, catch=True,
            how="{step}({args}, key=at)" if keyed else "{step}({args})",
        )  # fmt: skip
        self.head += ["@flow", f"async def {name}(at):", *indent(["await asyncio.sleep(0)", *call])]
        self.head += ["", ""]
        return [f'await asyncio.gather({name}("{name}.0/"), {name}("{name}.1/"))']

    def _consumes(self, scope: Scope) -> list[str]:
        """A body that empties its argument, run once or to be run twice."""
        label = f"w{next(self.ids)}"
        grief = self.dice.choice(("", "abort", "raise"))
        may = May.SUCCEED
        how = "{step}({args})"
        if grief:
            may = May.CHANGED
            how = "{step}.with_options(retries=1)({args})"
            for prefix in scope.prefixes:
                self.plan[f"{prefix}{label}"] = grief
        # Once refused it is over: another attempt would give the argument anew, and succeed.
        key = f"pour-{next(self.ids)}"
        lines = self.call(
            scope, self.steady["pour"], "['a', 'b']", next(self.ids),
            key=key, may=self._in_subflow(scope) if may is May.SUCCEED else may,
            catch=True, label=label, how=how,
        )  # fmt: skip
        if not grief:
            return lines
        return [f'if rt.first({scope.at} + "p{next(self.ids)}"):', *indent(lines)]

    def _closes_over_a_lock(self, scope: Scope) -> list[str]:
        """A closure that can't be compared: it is refused, unless a name stands for it."""
        number = next(self.ids)
        named = self.dice.random() < 0.5
        options = f'name="locked_{number}", {IGNORED}' if named else IGNORED
        self.head += [
            f"def lock_{number}(lock):",
            f"{PAUSE}@transaction({options})",
            f"{PAUSE}def locked({TAKES}):",
            f"{PAUSE * 2}with lock:",
            f'{PAUSE * 3}rt.write(txn, label, given, "lock")',
            f"{PAUSE}return locked",
            "",
        ]
        step = f"lock_{number}(threading.Lock())"
        may = May.SUCCEED if named else May.UNNAMED
        return self.call(scope, step, self.given(), number, may=may, catch=True)

    def _subflow(self, scope: Scope, depth: int) -> list[str]:
        name = f"part_{next(self.ids)}"
        prefixes = tuple(
            f"{outer}{name}.{number}/"
            for outer in scope.prefixes
            for number in range(self.dice.randint(1, 2))
        )
        times = len(prefixes) // len(scope.prefixes)
        inner = Scope(at="at", prefixes=prefixes)
        body = self.statements(inner, depth=depth, count=self.dice.randint(1, 3))
        retries = self.dice.choice((0, 1))
        if retries:
            body.append(f'rt.crash(at + "r{next(self.ids)}", "raise")')
        self.head += [
            f"@flow(retries={retries})",
            f"def {name}(at):",
            *indent(body),
            "",
            "",
        ]
        return [f'{name}({scope.at} + "{name}.{number}/")' for number in range(times)]

    def _lost_subflow(self) -> list[str]:
        name = f"part_{next(self.ids)}"
        inner = Scope(at="at", prefixes=(f"{name}.0/",))
        key = self.dice.choice((None, "k"))
        body = self.call(
            inner, self.steady["tock"], self.given(), next(self.ids),
            key=key, may=May.LOST, catch=True,
        )  # fmt: skip
        self.head += ["@flow", f"def {name}(at):", *indent(body), "", ""]
        place = self.dice.choice(("in_pool", "in_thread"))
        return [f'rt.{place}(lambda: {name}("{name}.0/"))']

    def hook(self, scope: Scope) -> None:
        name = f"hook_{next(self.ids)}"
        lines = self.call(
            scope, self.steady["audit"], self.given(), next(self.ids), may=May.LOST, catch=True
        )
        lines += self.call(
            scope, self.steady["audit"], self.given(), next(self.ids), key=name, catch=True
        )
        self.head += [f"def {name}(flow, flow_run, state):", *indent(lines), "", ""]
        self.hooks.append(name)
