"""The page and the chart that `python -m bench` renders."""

from xml.etree import ElementTree

import pytest

from .__main__ import BEGIN, END, NEW_PAGE, Contest, Timing, chart, merged, section
from .peers import REGISTRY, THREADS
from .roofline import Bandwidth

TIMINGS = [
    Timing(REGISTRY["hensa"], 0.001, 0.003, 0.004, 0.0035, 0),
    Timing(REGISTRY["NumPy"], 0.01, 0.03, 0.04, 0.035, 5),
]
BANDWIDTH = Bandwidth(size=2**30, threads=THREADS, read=8e9, write=1e9, write_past_cache=8e9, copy=32e9)
RUN = Contest(1_000_000, rounds=3, ties=29, undecidable=0, timings=TIMINGS, measured=[BANDWIDTH], reading=[7e9])


def test_a_render_keeps_what_is_written_by_hand():
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\n## Tried and did not pay\n\nBy hand.\n"
    assert merged(page, "new") == page.replace("old", "new")


def test_a_new_page_has_a_place_for_what_did_not_pay():
    assert "## Tried and did not pay" in merged(NEW_PAGE, "new")


def test_a_page_without_markers_is_left_alone():
    with pytest.raises(SystemExit, match="no lines"):
        merged("# Title\n", "new")


def test_the_bound_is_each_passs_bytes_at_the_speed_they_can_move():
    # A million rows: 8 bytes at 8 GB/s; 32 at 32 GB/s and 8 at the faster store's 8 GB/s.
    assert BANDWIDTH.pass1_seconds(1_000_000) == pytest.approx(0.001)
    assert BANDWIDTH.pass2_seconds(1_000_000) == pytest.approx(0.002)
    assert BANDWIDTH.job_seconds(1_000_000) == pytest.approx(0.003)


def test_the_page_gives_each_contestant_its_rate_its_share_of_the_bound_and_its_ratio():
    body = section(RUN)
    assert "| hensa | 1.00 | 3.00 | 4.00 | 3.50 | 250 M | 12.0 | 100% | 75% | 1.00 |" in body
    assert "| NumPy | 10.00 | 30.00 | 40.00 | 35.00 | 25 M | 1.2 | 10% | 8% | 10.00 |" in body
    assert "| 5 of 29 |" in body


def test_the_chart_is_a_drawing_with_a_bar_for_each_contestant():
    root = ElementTree.fromstring(chart(RUN))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"hensa", "NumPy", "4.0 ms", "40.0 ms, 10.0×"} <= set(texts)
