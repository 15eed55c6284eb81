"""The page and the charts that `python -m bench` renders."""

from xml.etree import ElementTree

import pytest

from . import __main__ as command
from . import page
from .memory import READING, TEXTBOOK, Contest, Reading, Timing, pass1_table, render
from .peers import REGISTRY, THREADS
from .roofline import Bandwidth
from .timing import ROOT

TIMINGS = [
    Timing(REGISTRY["hensa"], 0.001, 0.003, 0.004, 0.0035, 0),
    Timing(REGISTRY["NumPy"], 0.01, 0.03, 0.04, 0.035, 5),
]
READINGS = [
    Reading("hensa, exact", "int32", 0.002, 8_000_000, 0.001, 0.02),
    Reading(READING, "int32", 0.00125, 8_000_000, 0.001, 0.02),
    Reading(TEXTBOOK, "int32", 0.02, 8_000_000, 0.001, 0.02),
]
BANDWIDTH = Bandwidth(size=2**30, threads=THREADS, read=8e9, write=1e9, write_past_cache=8e9, copy=32e9)
RUN = Contest(1_000_000, 3, 29, 0, TIMINGS, READINGS, measured=[BANDWIDTH], reading=[7e9])
BEGIN, END = page.markers("memory")


def texts_of(drawing):
    root = ElementTree.fromstring(drawing)
    return {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}


def test_a_render_keeps_what_is_written_by_hand_and_other_sections():
    other = "\n".join(page.markers("types"))
    old = f"# Title\n\n{BEGIN}\nold\n{END}\n\n{other}\n\n## Tried and did not pay\n\nBy hand.\n"
    assert page.merged(old, "memory", "new") == old.replace("old", "new")


def test_a_page_without_markers_is_left_alone():
    with pytest.raises(SystemExit, match="no lines"):
        page.merged("# Title\n", "memory", "new")


@pytest.mark.parametrize("section", command.SECTIONS)
def test_the_page_has_a_place_for_each_section(section):
    begin, end = page.markers(section)
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert (text.count(begin), text.count(end)) == (1, 1)


def test_a_section_is_written_to_the_page_the_readme_and_the_charts(tmp_path):
    (tmp_path / "docs").mkdir()
    for path in (tmp_path / "docs" / "benchmarks.md", tmp_path / "README.md"):
        path.write_text(f"By hand.\n{BEGIN}\n{END}\n", encoding="utf-8")
    command.write(tmp_path, "memory", page.Page("body", "summary", {"one.svg": "<svg/>"}))
    assert (tmp_path / "docs" / "benchmarks.md").read_text(encoding="utf-8") == f"By hand.\n{BEGIN}\nbody\n{END}\n"
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == f"By hand.\n{BEGIN}\nsummary\n{END}\n"
    assert (tmp_path / "docs" / "one.svg").read_text(encoding="utf-8") == "<svg/>"


def test_the_bound_is_each_passs_bytes_at_the_speed_they_can_move():
    # A million rows: 8 bytes at 8 GB/s; 32 at 32 GB/s and 8 at the faster store's 8 GB/s.
    assert BANDWIDTH.pass1_seconds(1_000_000) == pytest.approx(0.001)
    assert BANDWIDTH.pass2_seconds(1_000_000) == pytest.approx(0.002)
    assert BANDWIDTH.job_seconds(1_000_000) == pytest.approx(0.003)


def test_the_page_gives_each_contestant_its_rate_its_share_of_the_bound_and_its_ratio():
    body = render(RUN).body
    assert "| hensa | 1.00 | 3.00 | 4.00 | 3.50 | 250 M | 12.0 | 100% | 75% | 1.00 |" in body
    assert "| NumPy | 10.00 | 30.00 | 40.00 | 35.00 | 25 M | 1.2 | 10% | 8% | 10.00 |" in body
    assert "| 5 of 29 |" in body


def test_pass_1_alone_gives_its_share_of_reading_and_how_many_times_the_textbook_it_is():
    text = pass1_table(READINGS)
    assert "| hensa, exact | int32 | 2.00 | 4.0 | 50% | 10.0 |" in text
    assert "| reading alone | int32 | 1.25 | 6.4 | 80% |  |" in text


def test_the_chart_has_a_bar_for_each_contestant():
    drawing = render(RUN).charts["benchmarks.svg"]
    assert {"hensa", "NumPy", "4.0 ms", "40.0 ms, 10.0×", "memory bound 3.0 ms"} <= texts_of(drawing)


def test_a_chart_of_lines_places_points_by_the_logarithm():
    drawing = page.lines("Growth", [("seconds", {"ours": [(1, 1), (10, 10), (100, 100)]})])
    assert {"Growth", "seconds", "ours", "1", "10", "100", "10⁰", "10¹", "10²"} <= texts_of(drawing)
    circles = ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}circle")
    (x0, y0), (x1, y1), (x2, y2) = ((float(c.get("cx")), float(c.get("cy"))) for c in circles)
    assert x2 - x1 == pytest.approx(x1 - x0)
    assert y1 - y2 == pytest.approx(y0 - y1)
    assert y0 > y2
