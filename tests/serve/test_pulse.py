from __future__ import annotations

import os
import time

from caravan.serve.pulse import DEAF_PULSES, STILL_PULSES, WORKING_SECONDS, Pulse, seconds_spent


def judged(*signs: tuple[bool, float]) -> list[bool]:
    """What is said of an engine that answers, or not, and works for so many seconds between two pulses."""
    pulse, spent, said = Pulse(), 5.0, []
    for answered, worked in signs:
        spent += worked
        said.append(pulse.stuck(answered, spent))
    return said


def test_an_engine_that_neither_answers_nor_works_is_stuck() -> None:
    idle = WORKING_SECONDS / 2
    assert judged((True, idle), *[(False, idle)] * STILL_PULSES) == [False] * STILL_PULSES + [True]


def test_a_slow_engine_is_not_stuck_as_long_as_it_works() -> None:
    assert judged(*[(False, WORKING_SECONDS * 2)] * (DEAF_PULSES - 1)) == [False] * (DEAF_PULSES - 1)
    assert judged(*[(False, WORKING_SECONDS * 2)] * DEAF_PULSES)[-1]


def test_any_answer_or_work_begins_the_count_again() -> None:
    quiet = [(False, 0.0)] * (STILL_PULSES - 1)
    assert not any(judged((True, 0.0), *quiet, (True, 0.0), *quiet, (False, 1.0), *quiet))


def test_seconds_of_the_processor() -> None:
    before, end = seconds_spent(os.getpid()), time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert 0.1 < seconds_spent(os.getpid()) - before < 5
    assert seconds_spent(2**22 + 1) == 0.0  # no such process: above every limit of Linux
