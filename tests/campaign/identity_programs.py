"""Programs made at random, as Python source, and what each of their calls may come to."""

import random
from typing import Final

from tests.campaign import identity_arguments
from tests.campaign.identity_source import PAUSE, May, Program, Scope, indent
from tests.campaign.identity_statements import Statements


def make(dice: random.Random, number: str, *, maps: bool = False) -> Program:
    """Make one program; its number is part of what programs share: jobs, keys outside of flows."""
    return _Maker(dice, number, maps=maps).program()


class _Maker(Statements):
    def program(self) -> Program:
        dice = self.dice
        outside = dice.random() < 0.06
        self.is_async = not outside and dice.random() < 0.2
        lines = self._outside() if outside else self._root()
        source = [*_PRELUDE, *self._imports(), *self.head, "", *lines]
        plan = [f"rt.plan({self.plan!r})"]
        files = {
            f"{name}.py": "\n".join([*_PRELUDE_OF_HELPERS, *text, ""])
            for name, text in self.helpers.items()
        }
        end = ["", 'if __name__ == "__main__":', f"{PAUSE}rt.script(main)", ""]
        files["program.py"] = "\n".join([*source, *plan, *end])
        return Program(files, self.may, outside)

    def _imports(self) -> list[str]:
        return [f"import {name}" for name in self.helpers]

    def _root(self) -> list[str]:
        dice = self.dice
        scope = Scope(at='""')
        if dice.random() < 0.25:
            self.hook(scope)
        body = self.statements(scope, depth=0, count=dice.randint(2, 4))
        if dice.random() < 0.7:
            body += [f'rt.crash("end", "{dice.choice(("raise", "raise", "kill"))}")']
        after = self.plain(scope) if dice.random() < 0.5 else []
        runner = ""
        if dice.random() < 0.02:
            runner = ", task_runner=ProcessPoolTaskRunner(max_workers=1)"
        hooks = f", on_failure=[{', '.join(self.hooks)}]" if self.hooks else ""
        return [
            f'@flow(name="identity", retries={dice.choice((0, 1, 1, 2))}{runner}{hooks})',
            f"{'async ' if self.is_async else ''}def main():",
            *indent(["rt.begin()", *body, *after, "rt.tell(done=True)"]),
            "",
            "",
        ]

    def _outside(self) -> list[str]:
        scope = Scope(at='""')
        lines = ["rt.begin()"]
        for number in range(self.dice.randint(2, 4)):
            key = f"{self.number}-{number}"
            one, other = self.dice.choice(self.twins).shuffled(self.dice)
            given, serial = self.given(), next(self.ids)
            job = self.dice.random() < 0.4
            for which, step in enumerate((one, other)):
                may = May.CONFLICT if which and not job else May.SUCCEED
                call = self.call(scope, step, given, serial, key=key, may=may, catch=True)
                if job:
                    named = f'with using(job="job-{self.number}-{which}"):'
                    lines += [call[0], named, *indent(call[1:])]
                else:
                    lines += call
            lines += self.call(scope, one, given, serial, may=May.LOST, catch=True)
            if self.dice.random() < 0.3:
                lines.append(f'rt.crash("c{number}", "kill")')
        return ["def main():", *indent([*lines, "rt.tell(done=True)"]), "", ""]


_PRELUDE_OF_HELPERS: Final = (
    "from spanctl.flows import transaction",
    "from tests.campaign import identity_runtime as rt",
    "",
    "",
)
_PRELUDE: Final = (
    "import asyncio",
    "import threading",
    "",
    "from prefect import flow, task, unmapped",
    "from prefect.task_runners import ProcessPoolTaskRunner",
    "",
    "from spanctl.flows import transaction, using",
    "from tests.campaign import identity_runtime as rt",
    *identity_arguments.PRELUDE,
    "",
)
