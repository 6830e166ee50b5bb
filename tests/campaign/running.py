"""Runs a campaign's cases in its lanes, judges each, and keeps the journal."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from tests.campaign.journal import Journal
from tests.campaign.model import Campaign, Case, Stage, Verdict

Tell = Callable[[Case, Verdict, int, int], None]


def run(
    campaign: Campaign, cases: Sequence[Case], journal: Journal, *, seed: int, tell: Tell
) -> None:
    """Run what the journal doesn't have yet.

    Args:
        campaign: What is run.
        cases: Its cases, or some of them.
        journal: Keeps the verdicts.
        seed: Source of all chance in it.
        tell: Told each verdict, with how many are finished of how many.

    Raises:
        BaseException: What the harness itself died of; the journal holds what was finished.
    """
    waiting = deque(case for case in cases if not journal.has(case))
    if not waiting:
        return
    with campaign.stage() as stage:
        lanes = _Lanes(stage, waiting, journal, seed, tell)
        lanes.run(min(campaign.lanes, len(waiting)), total=len(cases))


class _Lanes:
    """Threads that each take the next case until there is none, or one of them has failed."""

    def __init__(
        self, stage: Stage, waiting: deque[Case], journal: Journal, seed: int, tell: Tell
    ) -> None:
        self._stage = stage
        self._waiting = waiting
        self._journal = journal
        self._seed = seed
        self._tell = tell
        self._failed: list[BaseException] = []
        self._telling = threading.Lock()

    def run(self, lanes: int, *, total: int) -> None:
        threads = [threading.Thread(target=self._lane, args=(total,)) for _ in range(lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def _lane(self, total: int) -> None:
        try:
            with self._stage.lane() as world:
                while not self._failed:
                    try:
                        case = self._waiting.popleft()
                    except IndexError:
                        return
                    verdict = world.judge(case, case.dice(self._seed))
                    self._journal.add(case, verdict)
                    with self._telling:
                        self._tell(case, verdict, total - len(self._waiting), total)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._failed.append(error)
