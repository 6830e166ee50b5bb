"""Things that are closed when their block ends."""

import pytest

from spanctl.closing import Closing


class Held(Closing):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_block_hands_out_the_thing_and_closes_it() -> None:
    """Also when the block raises, whose exception goes on."""
    held = Held()
    with held as given:
        assert given is held
        assert not held.closed
    assert held.closed == 1
    with pytest.raises(KeyError), held:
        raise KeyError
    assert held.closed == 2
