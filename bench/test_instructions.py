"""The kernels execute no more instructions than they did: `pytest bench/test_instructions.py`, with Valgrind."""

import os
import shutil

import pytest

from . import instructions
from .instructions import KEPT, compiler, count, differences, instructions_in, kept

# The functions of two modules, one of which calls the other, and one that Cython adds; names are written out.
CALLGRIND = """\
# callgrind format
positions: line
events: Ir

ob=/lib/libc.so.6
fn=memset
1 1000

ob=/lib/hensa/_baseline.so
fl=moments.c
fn=__pyx_f_5hensa_exact_small
10 100
+2 20
calls=3 0
+1 5000
-4 3
fi=inlined.h
* 7
fn=__pyx_f_5hensa_tile
20 40
fn=__Pyx_GetItem
30 90

ob=/lib/libc.so.6
fn=memcpy
1 9
cob=/lib/hensa/_baseline.so
cfn=__pyx_f_5hensa_tile
calls=1 20
2 40
"""


def test_what_a_kernel_executes_itself_is_counted_and_what_it_calls_is_not(tmp_path):
    path = tmp_path / "counts"
    path.write_text(CALLGRIND, encoding="utf-8")
    expected = {"__pyx_f_5hensa_exact_small": 100 + 20 + 3 + 7, "__pyx_f_5hensa_tile": 40}
    assert instructions_in(path, "_baseline.so") == expected
    assert instructions_in(path, "other.so") == {}


def test_a_count_beyond_the_margin_is_named_in_both_directions():
    expected = {"baseline": {"a": 1000, "b": 1000, "c": 1000, "d": 1000}}
    counted = {"baseline": {"a": 1050, "b": 950, "c": 1051, "d": 949}}
    assert differences(counted, expected) == [
        "baseline: c: 1,051 instructions, kept 1,000 (+5.1%)",
        "baseline: d: 949 instructions, kept 1,000 (-5.1%)",
    ]


def test_a_case_that_only_one_side_has_is_named():
    assert differences({"x": {"new": 1}}, {"x": {"old": 1}}) == ["x: new: not kept", "x: old: no longer counted"]


def test_recording_keeps_the_counts_of_other_compilers(tmp_path, monkeypatch):
    monkeypatch.setattr(instructions, "KEPT", tmp_path / "kept.json")
    instructions.record({"baseline": {"a": 1}}, "GCC 1.0")
    instructions.record({"baseline": {"a": 2}}, "GCC 2.0")
    instructions.record({"baseline": {"a": 3}}, "GCC 2.0")
    assert kept() == {"GCC 1.0": {"baseline": {"a": 1}}, "GCC 2.0": {"baseline": {"a": 3}}}


def test_the_kernels_execute_as_many_instructions_as_kept():
    if shutil.which("valgrind") is None and "CI" not in os.environ:
        pytest.skip("valgrind is not installed")
    expected = kept().get(compiler())
    if expected is None:
        pytest.skip(f"{KEPT.name} has no counts for {compiler()}, only for {', '.join(kept())}")
    found = differences(count(), expected)
    assert not found, "\n".join(
        [f"Counts differ by more than {instructions.MARGIN:.0%}:", *found, "Keep them if they are better, or if the "
         "reason is good: python -m bench.instructions --record"]
    )  # fmt: skip
