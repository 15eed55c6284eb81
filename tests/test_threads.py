"""Rows shared out to threads: every piece once, the first error, and an end soon after Ctrl-C."""

import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

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


def test_threads_stay_for_the_next_call():
    def work(start, stop):
        time.sleep(0.001)  # long enough for the others to begin
        return threading.current_thread()

    used = {thread for _ in range(30) for thread in share_out(work, 8 * UNIT, 3)}
    assert 1 < len(used) < 30  # and not two more in each call; a thread may be made while another is about to be idle


def test_what_the_work_is_about_is_let_go_at_the_end():
    class Rows:
        pass

    for _ in range(200):
        rows = Rows()
        known = weakref.ref(rows)
        share_out(lambda start, stop, rows=rows: None, 3 * UNIT, 3)
        del rows
        assert known() is None


def test_callers_on_several_threads_do_not_wait_for_each_other():
    began = threading.Barrier(4, timeout=60)

    def call(_):
        return share_out(lambda start, stop: began.wait() if start == 0 else 0, 4 * UNIT, 2)

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(call, range(4)))) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_starts_threads_of_its_own():
    share_out(lambda start, stop: None, 4 * UNIT, 2)
    child = os.fork()
    if child == 0:
        met = threading.Barrier(2, timeout=60)
        share_out(lambda start, stop: met.wait(), 2 * UNIT, 2)  # each of two threads has a piece
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2"])
def test_a_number_of_threads_that_is_none_is_refused(wrong):
    with pytest.raises(HensaError, match="whole number from 1 on"):
        share_out(lambda start, stop: None, 10, wrong)
