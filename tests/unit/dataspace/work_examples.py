"""Work for worker processes, which find it by its name."""

import os
import signal
import sys
import time
from pathlib import Path

from privacy.errors import ProtocolViolation, Withheld


def double(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers]


def process(_: int) -> list[int]:
    time.sleep(0.02)
    return [os.getpid()]


def blame(number: int) -> int:
    if number == 3:
        raise ProtocolViolation("right sent a point that is not on P-256")
    return number


def withhold(_: int) -> int:
    raise Withheld("ds:minCohort")


class NotToBeSent(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


def fail_unsendably(_: int) -> int:
    raise NotToBeSent("a", "b")


def die_once(mark: str) -> str:
    """End the process the first time, as a kill from outside would."""
    if mark and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def hoard(megabytes: int) -> int:
    return len(bytearray(megabytes * 2**20))


def modules(_: int) -> list[str]:
    return sorted(sys.modules)


def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def say_and_sleep(mark: str) -> int:
    """Write this process's id into the file `mark` and take long."""
    Path(mark).write_text(str(os.getpid()))
    time.sleep(60)
    return 0
