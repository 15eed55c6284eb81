"""Rows shared out to threads: every piece once, the first error, and an end soon after Ctrl-C."""

import threading
import time

import pytest

from hensa import HensaError, threads
from hensa.threads import UNIT, share_out


@pytest.mark.parametrize("n_rows", [0, 1, UNIT - 1, UNIT, UNIT + 1, 5 * UNIT + 7])
@pytest.mark.parametrize("number", [1, 2, 5, 64])
def test_the_pieces_are_all_rows_once_and_in_order(n_rows, number):
    pieces = share_out(lambda start, stop: range(start, stop), n_rows, number)
    assert [row for piece in pieces for row in piece] == list(range(n_rows))


@pytest.mark.parametrize("number", [1, 2, 7])
def test_the_error_of_the_first_row_is_raised_whatever_the_threads(number):
    def work(start, stop):
        if start >= 3 * UNIT:
            raise HensaError(f"row {start}")

    with pytest.raises(HensaError, match=f"^row {3 * UNIT}$"):
        share_out(work, 20 * UNIT, number)


def test_an_interrupt_between_two_pieces_stops_the_other_threads(monkeypatch):
    main, done = threading.current_thread(), []

    class Interrupted:
        """A lock that Ctrl-C reaches the main thread at, the second time it is taken there."""

        def __init__(self):
            self.lock, self.times = threading.Lock(), 0

        def __enter__(self):
            if threading.current_thread() is main:
                self.times += 1
                if self.times == 2:
                    raise KeyboardInterrupt
            self.lock.acquire()

        def __exit__(self, *_):
            self.lock.release()

    def work(start, stop):
        time.sleep(0.01)
        done.append(start)

    monkeypatch.setattr(threads, "Lock", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        share_out(work, 200 * UNIT, 2)
    assert len(done) < 100


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2"])
def test_a_number_of_threads_that_is_none_is_refused(wrong):
    with pytest.raises(HensaError, match="whole number from 1 on"):
        share_out(lambda start, stop: None, 10, wrong)
