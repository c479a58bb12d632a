"""The queue before a model: what is gathered, who waits, who is turned away; and what is made once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from featx.serve.answers.batcher import Batcher, Busy
from featx.serve.answers.memory import OVERHEAD, Memory
from featx.serve.answers.single import Flights

T = 30  # seconds: never reached


class Doubling:
    """Doubles numbers, remembers its batches, can be held up; a negative number is an error of the whole call."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.busy.set()
        assert self.gate.wait(T)
        self.batches.append(list(numbers))
        if any(n < 0 for n in numbers):
            raise ValueError(f"one of {list(numbers)} is negative")
        return [ZeroDivisionError("nothing") if n == 0 else 2 * n for n in numbers]


@pytest.fixture
def work() -> Doubling:
    return Doubling()


@pytest.fixture
def batcher(work: Doubling) -> Iterator[Batcher[int, int]]:
    made = Batcher(work, "test", size=4, wait=0, room=6, group=lambda n: n >= 100, alone=lambda n: n == 7)
    yield made
    work.gate.set()
    made.close(T)


def held(batcher: Batcher[int, int], work: Doubling) -> Future[int]:
    """A first question, at which the thread is held up until ``work.gate`` is opened."""
    work.gate.clear()
    first = batcher.submit(1)
    assert work.busy.wait(T)
    return first


def test_what_gathers_while_the_thread_works_shares_a_call(batcher: Batcher[int, int], work: Doubling) -> None:
    first = held(batcher, work)
    others = [batcher.submit(n) for n in (2, 3, 4, 5, 6)]
    work.gate.set()
    assert [f.result(T) for f in (first, *others)] == [2, 4, 6, 8, 10, 12]
    assert work.batches == [[1], [2, 3, 4, 5], [6]]


def test_questions_of_one_moment_are_waited_for() -> None:
    work = Doubling()
    batcher: Batcher[int, int] = Batcher(work, "test", size=3, wait=T)
    futures = [batcher.submit(n) for n in (1, 2, 3)]  # the third fills the batch, long before the wait is over
    assert [f.result(T) for f in futures] == [2, 4, 6]
    assert work.batches == [[1, 2, 3]]
    batcher.close(T)


def test_only_what_has_one_group_shares_a_call_and_the_oldest_is_next(
    batcher: Batcher[int, int], work: Doubling
) -> None:
    first = held(batcher, work)
    others = [batcher.submit(n) for n in (100, 2, 101, 7, 3, 7)]
    work.gate.set()
    assert [f.result(T) for f in (first, *others)] == [2, 200, 4, 202, 14, 6, 14]
    assert work.batches == [[1], [100, 101], [2, 3], [7], [7]]


def test_beyond_the_room_one_is_turned_away_until_there_is_room_again(
    batcher: Batcher[int, int], work: Doubling
) -> None:
    held(batcher, work)
    waiting = [batcher.submit(n) for n in (2, 3, 4, 5, 6, 8)]
    with pytest.raises(Busy) as turned_away:
        batcher.submit(9)
    assert 1 <= turned_away.value.retry_after <= 60
    work.gate.set()
    assert [f.result(T) for f in waiting] == [4, 6, 8, 10, 12, 16]
    assert batcher.submit(9).result(T) == 18


def test_whoever_gives_up_leaves_its_place_and_is_not_computed(batcher: Batcher[int, int], work: Doubling) -> None:
    first = held(batcher, work)
    waiting = [batcher.submit(n) for n in (2, 3, 4, 5, 6, 8)]
    for future in waiting[1:4]:
        assert future.cancel()
    assert batcher.waiting == 3
    more = [batcher.submit(n) for n in (9, 10, 11)]
    work.gate.set()
    assert [f.result(T) for f in (first, waiting[0], *waiting[4:], *more)] == [2, 4, 12, 16, 18, 20, 22]
    assert not {3, 4, 5} & {n for batch in work.batches for n in batch}


def test_a_coroutine_that_is_cancelled_leaves_its_place(batcher: Batcher[int, int], work: Doubling) -> None:
    async def main() -> None:
        held(batcher, work)
        task = asyncio.ensure_future(batcher.ask(2))
        await asyncio.sleep(0)
        assert batcher.waiting == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert batcher.waiting == 0

    asyncio.run(main())


def test_what_is_wrong_with_one_fails_no_other(batcher: Batcher[int, int], work: Doubling) -> None:
    first = held(batcher, work)
    two, bad, none, three = (batcher.submit(n) for n in (2, -1, 0, 3))
    work.gate.set()
    assert [f.result(T) for f in (first, two, three)] == [2, 4, 6]
    with pytest.raises(ValueError, match=r"one of \[-1\]"):
        bad.result(T)
    with pytest.raises(ZeroDivisionError):
        none.result(T)
    assert batcher.submit(4).result(T) == 8


def test_an_end_of_the_program_within_the_work_ends_no_thread() -> None:
    def work(numbers: Sequence[int]) -> list[int | Exception]:
        if numbers[0] == 1:
            raise SystemExit(3)
        return list(numbers)

    batcher: Batcher[int, int] = Batcher(work, "test", wait=0)
    with pytest.raises(SystemExit):
        batcher.submit(1).result(T)
    assert batcher.submit(2).result(T) == 2
    batcher.close(T)


@pytest.mark.parametrize("finish", [False, True])
def test_closing_turns_away_or_finishes_what_waits(work: Doubling, finish: bool) -> None:
    batcher: Batcher[int, int] = Batcher(work, "test", size=1, wait=0)
    first = held(batcher, work)
    second = batcher.submit(2)
    closing = threading.Thread(target=lambda: batcher.close(T, finish=finish))
    closing.start()
    if not finish:
        with pytest.raises(Busy):
            second.result(T)
    work.gate.set()
    closing.join(T)
    assert first.result(T) == 2
    assert not finish or second.result(T) == 4
    with pytest.raises(Busy):
        batcher.submit(3)


# --- single flight ---------------------------------------------------------------------------------------


class Launches:
    def __init__(self) -> None:
        self.futures: list[Future[int]] = []

    def __call__(self) -> Future[int]:
        self.futures.append(Future())
        return self.futures[-1]


def test_however_many_want_it_it_is_made_once() -> None:
    async def main() -> None:
        flights: Flights[int] = Flights()
        launch = Launches()
        tasks = [asyncio.ensure_future(flights.once("a", launch)) for _ in range(50)]
        await asyncio.sleep(0)
        assert (len(launch.futures), flights.joined, len(flights)) == (1, 49, 1)
        launch.futures[0].set_result(5)
        assert await asyncio.gather(*tasks) == [5] * 50
        assert len(flights) == 0
        again = asyncio.ensure_future(flights.once("a", launch))
        await asyncio.sleep(0)
        assert len(launch.futures) == 2
        launch.futures[1].set_result(6)
        assert await again == 6

    asyncio.run(main())


def test_one_that_goes_away_takes_it_from_nobody_and_the_last_one_cancels_it() -> None:
    async def main() -> None:
        flights: Flights[int] = Flights()
        launch = Launches()
        first, second = (asyncio.ensure_future(flights.once("a", launch)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert not launch.futures[0].cancelled()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert launch.futures[0].cancelled()
        assert len(flights) == 0

    asyncio.run(main())


def test_a_failure_is_told_to_all_who_waited_and_then_tried_again() -> None:
    async def main() -> None:
        flights: Flights[int] = Flights()
        launch = Launches()
        tasks = [asyncio.ensure_future(flights.once("a", launch)) for _ in range(3)]
        await asyncio.sleep(0)
        launch.futures[0].set_exception(KeyError("no"))
        found: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [KeyError] * 3

        def done() -> Future[int]:
            future: Future[int] = Future()
            future.set_result(1)
            return future

        assert await flights.once("a", done) == 1
        assert len(flights) == 0

        def full() -> Future[int]:
            raise Busy(1)

        with pytest.raises(Busy):
            await flights.once("a", full)
        assert len(flights) == 0

    asyncio.run(main())


def test_memory_forgets_what_was_used_longest_ago() -> None:
    memory: Memory[str] = Memory(3 * (OVERHEAD + 10))
    for key in "abc":
        memory.put(key, key.upper(), 10)
    assert memory.get("a") == "A"
    memory.put("d", "D", 10)
    assert [memory.get(key) for key in "abcd"] == ["A", None, "C", "D"]
    assert memory.bytes == 3 * (OVERHEAD + 10)
    memory.put("d", "E", 5)
    assert memory.bytes == 3 * OVERHEAD + 25
    memory.put("huge", "H", 10**9)
    assert memory.get("huge") is None
    assert len(memory) == 3
