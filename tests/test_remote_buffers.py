"""Memory that is used again: never by two at once, and without a lock that a collector of garbage could wait for."""

from __future__ import annotations

import threading

from featx.store.remote import buffers
from featx.store.remote.buffers import KEPT, Buffer, Buffers, Loan


class Cyclic(Buffer):
    """One during whose look-up garbage is collected: a loan in a circle ends there."""

    pool: Buffers

    @property
    def size(self) -> int:
        Loan(self.pool, 1)
        return 1

    @size.setter
    def size(self, size: int) -> None:
        """It is always 1."""


def test_a_loan_that_ends_while_another_is_taken_blocks_nothing() -> None:
    pool = Buffers()
    Cyclic.pool = Buffers()
    pool.give(Cyclic(1))
    Cyclic.pool = pool
    taken: list[Buffer] = []
    pool._free.append(Buffer(1))  # what the loan inside takes
    thread = threading.Thread(target=lambda: taken.append(pool.take(1 << 22)), daemon=True)
    thread.start()
    thread.join(10)
    assert taken
    assert taken[0].size >= 1 << 22


def test_no_buffer_is_lent_twice() -> None:
    pool, wrong = Buffers(), []

    def use(mark: int) -> None:
        for _ in range(300):
            loan = Loan(pool, 1 + mark)
            loan.buffer.view[0] = mark
            if loan.buffer.view[0] != mark or loan.buffer in pool._free:
                wrong.append(mark)

    threads = [threading.Thread(target=use, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_buffer_is_used_again_where_it_is_large_enough_and_few_are_kept() -> None:
    pool = Buffers()
    small, large = Loan(pool, 10), Loan(pool, 3 * buffers.STEP)
    kept = {id(small.buffer), id(large.buffer)}
    del small, large
    assert id(pool.take(2 * buffers.STEP)) in kept
    for _ in range(KEPT + 3):
        pool.give(Buffer(1))
    assert len(pool._free) == KEPT
