"""What a debugger's or a coverage tool's function may do: raise at any step of some modules."""

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

HOW: Final = ("settrace", "setprofile")
_MOST: Final = 2

Step = tuple[str, int, str]
"""A file, a line, and what happens there: ``line``, ``call``, ``return``, ``c_call``."""


class Thrown(BaseException):
    """What the tracer raises."""


@dataclass(frozen=True)
class Ended:
    """How a call ended: what it met, where it was raised into, and what came out of it."""

    steps: Counter[Step]
    thrown_at: Step | None
    error: BaseException | None


def traced(
    call: Callable[[], Any],
    how: str,
    is_meant: Callable[[str], bool],
    target: tuple[Step, int] | None = None,
) -> Ended:
    """Call something, and raise once where the target says; a step counts as often as it comes."""
    steps: Counter[Step] = Counter()
    thrown: list[Step] = []

    def met(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" or how == "setprofile":
            step = (frame.f_code.co_filename, frame.f_lineno, event)
            steps[step] += 1
            if target == (step, steps[step]) and not thrown:
                thrown.append(step)
                raise Thrown
        return met

    def entered(frame: FrameType, event: str, argument: Any) -> Any:
        if is_meant(frame.f_code.co_filename):
            return met(frame, event, argument) if how == "setprofile" else met
        return None

    before = (sys.gettrace(), sys.getprofile())
    error: BaseException | None = None
    try:
        getattr(sys, how)(entered)
        call()
    except BaseException as raised:  # noqa: BLE001 - it is what is looked at
        error = raised
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return Ended(steps, thrown[0] if thrown else None, error)


def sweep(
    call: Callable[[], Any], how: str, is_meant: Callable[[str], bool]
) -> Iterator[tuple[Step, Ended]]:
    """Raise at each step that a call comes by, where it comes by often the first times and last."""
    steps = traced(call, how, is_meant).steps
    for step, times in steps.items():
        for turn in sorted({*range(1, min(times, _MOST) + 1), times}):
            ended = traced(call, how, is_meant, (step, turn))
            if ended.thrown_at is not None:  # caches may spare a call some steps the next time
                yield step, ended


def family(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that it came from or holds."""
    left, seen = [error], set()
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            left += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def shown(error: BaseException | None, *, but: str = "") -> str:
    """Return all that whoever prints an error, its notes and its variables would show.

    Args:
        error: The error.
        but: The file whose own frames are left out.
    """
    told: list[object] = []
    for one in family(error):
        told += [one.args, getattr(one, "__notes__", ()), getattr(one, "details", ())]
        frames = [frame for frame, _ in traceback.walk_tb(one.__traceback__)]
        told += [frame.f_locals for frame in frames if frame.f_code.co_filename != but]
    return repr(told)
