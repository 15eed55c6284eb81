"""Every section does, at a small size, the job that it says: `pytest bench/test_sections.py`. No time is asserted."""

import math
import statistics
import sys
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hensa

from . import cohorts, column_types, data, datasets, files, growth, memory, peers, small, timing
from .data import BASE, MEASURES
from .timing import Settings

PROGRAM = hensa.Program.load("hapitas-friend")


def near(got, expected, tolerance=1e-12):
    return abs(got - expected) <= tolerance * abs(expected)


# Timing


def test_each_round_has_every_contestant_once_and_in_another_order():
    rounds = list(timing.shuffled("abcdef", 20))
    assert {tuple(sorted(order)) for order in rounds} == {tuple("abcdef")}
    assert len({tuple(order) for order in rounds}) > 1


@pytest.mark.parametrize(("warm", "calls"), [(True, 6), (False, 4)])
def test_a_call_is_timed_once_in_each_round(warm, calls):
    called = []
    seconds = timing.in_turn({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 3, warm=warm)
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert (called.count("a"), called.count("b")) == (calls, calls)


def test_the_peak_of_a_process_is_its_own_and_not_that_of_the_one_that_starts_it():
    ballast = np.ones(2**25)  # 256 MiB
    peak = timing.process([sys.executable, "-S", "-c", "block = b'x' * 2**26"]).peak
    assert 2**26 < peak < 2**27 < ballast.nbytes


def test_a_process_that_fails_is_an_error_with_its_messages():
    with pytest.raises(RuntimeError, match=r"exit code 3\n.*because"):
        timing.process([sys.executable, "-c", "import sys; print('because', file=sys.stderr); sys.exit(3)"])


# In memory


def test_pass_1_alone_is_the_mean_and_sd_of_exact_sums():
    tables = memory.measures(20_000)
    calls = memory.pass1_contestants(tables)
    for (name, column), call in calls.items():
        if name == memory.READING:
            continue
        for (mean, sd), measure in zip(call(), MEASURES, strict=True):
            values = [Fraction(value) for value in tables[column][measure].to_pylist()]
            variance = statistics.pvariance(values)
            assert near(mean, sum(values) / len(values), 1e-11), (name, column)
            assert near(sd, math.sqrt(variance), 1e-11), (name, column)


# Types


@pytest.mark.parametrize("kind", column_types.KINDS)
@pytest.mark.parametrize("shape", column_types.SHAPES)
def test_a_column_has_its_type_its_nulls_and_its_offset(kind, shape):
    table = column_types.rows_of(kind, shape, 10_000)
    nulls, cut = column_types.SHAPES[shape]
    table.validate(full=True)
    for name in MEASURES:
        column = table[name].chunk(0)
        assert (len(column), column.offset, column.type) == (10_000, cut, column_types.KINDS[kind][0])
        assert (column.buffers()[0] is None) == (nulls is None)
        assert column.null_count / 10_000 == pytest.approx(nulls or 0, abs=0.02)


@pytest.mark.parametrize("kind", column_types.KINDS)
@pytest.mark.parametrize("shape", column_types.SHAPES)
def test_every_kind_of_column_is_scored_as_exact_sums_say(kind, shape):
    table = column_types.rows_of(kind, shape, 500)
    rows = list(zip(*(table[name].to_pylist() for name in (*MEASURES, BASE)), strict=True))
    counted = [[Fraction(value) for value in row] for row in rows if None not in row]
    population = hensa.population(table, PROGRAM)
    paid = hensa.score(table, PROGRAM)["score"]
    scores = [Fraction(50)] * len(counted)
    for place, name in enumerate(MEASURES):
        values = [row[place] for row in counted]
        mean, sd = sum(values) / len(values), math.sqrt(statistics.pvariance(values))
        assert near(population[name].mean, mean)
        assert near(population[name].sd, sd)
        scores = [score + (value - mean) / Fraction(2 * sd) for score, value in zip(scores, values, strict=True)]
    assert paid.drop_null().to_pylist() == pytest.approx([float(score) for score in scores], rel=1e-12)
    assert [score is None for score in paid.to_pylist()] == [None in row for row in rows]


def test_bytes_are_those_of_the_buffers_that_move():
    # A row of dense int32: 8 read in pass 1; 8 and 8 read, 24 written in pass 2.
    assert column_types.bytes_of("int32", "dense", 8) == (64, 8 * 48)
    # With bitmaps, one more for 8 rows of each measure in each pass, and one of the results.
    assert column_types.bytes_of("int32", "1% null", 8) == (66, 8 * 48 + 5)
    assert column_types.bytes_of("bool", "dense", 8) == (2, 4 + 8 * 32)


# Small batches


def test_small_batches_are_scored_alike_by_all():
    calls = small.contestants(1_000)
    for what in (small.NEW, small.GIVEN):
        results = [np.asarray(call()["score"]) for (_, job, _), call in calls.items() if job == what]
        assert len(results) == 3
        assert all(np.allclose(result, results[0], rtol=1e-12, atol=0) for result in results)


def test_a_single_row_is_scored_against_itself_by_hensa_alone():
    names = [name for rows, what, name in small.contestants(1) if what == small.NEW]
    assert names == ["hensa, Arrow table", "hensa, dict of arrays"]


def test_imports_are_timed():
    assert set(small.imports(1)) == {"hensa", "pyarrow", "numpy"}


# Cohorts


def by_fractions(table):
    """Scores by the cohort's sums as fractions."""
    groups = {}
    for row, cohort in enumerate(table["cohort"].to_pylist()):
        groups.setdefault(cohort, []).append(row)
    scores = [Fraction(50)] * table.num_rows
    for name in MEASURES:
        values = table[name].to_pylist()
        for rows in groups.values():
            of_cohort = [Fraction(values[row]) for row in rows]
            mean, variance = sum(of_cohort) / len(rows), statistics.pvariance(of_cohort)
            for row in rows:
                scores[row] += (values[row] - mean) / Fraction(2 * math.sqrt(variance)) if variance else 0
    return [float(score) for score in scores]


@pytest.mark.parametrize("number", cohorts.SIZES)
def test_the_truth_of_cohorts_is_that_of_fractions(number):
    table = cohorts.population(2_000, number)
    assert cohorts.exact(table).score.tolist() == pytest.approx(by_fractions(table), rel=1e-12)


@pytest.mark.parametrize("number", cohorts.SIZES)
def test_the_key_columns_tell_the_same_cohorts_apart(number):
    table = cohorts.population(2_000, number)
    keys = [list(zip(*(table[name].to_pylist() for name in columns), strict=True)) for columns in cohorts.KEYS.values()]
    assert len({len(set(own)) for own in keys}) == 1
    assert len(set(zip(*keys, strict=True))) == len(set(keys[0]))


@pytest.mark.parametrize("contestant", cohorts.CONTESTANTS)
@pytest.mark.parametrize("number", cohorts.SIZES)
@pytest.mark.parametrize("keys", cohorts.KEYS)
def test_a_contestant_scores_cohorts_in_row_order(contestant, number, keys):
    table = cohorts.population(5_000, number)
    peer = contestant(*cohorts.KEYS[keys])
    peers.compare(peer, peer.job(peer.prepare(table)), cohorts.exact(table))


# Files


def test_the_processes_write_the_same_file_of_the_exact_rewards(tmp_path):
    source, ours = tmp_path / "in.parquet", tmp_path / "hensa.parquet"
    rows = data.population(50_000)
    pq.write_table(rows, source)
    run = timing.process(files.hensa_score(source, ours))
    assert set(files.stages(run.messages)) == {"read", "score", "write"}
    truth, written = peers.exact(rows), pq.read_table(ours)
    assert written["rate"].to_pylist() == truth.rate.tolist()
    assert written["reward"].to_pylist() == truth.reward.tolist()
    for number, (name, script) in enumerate(files.SCRIPTS.items()):
        theirs = tmp_path / f"{number}.parquet"
        timing.process(files.script(script, source, theirs, written.column_names))
        files.agree(ours, theirs, name)
        assert {
            pq.read_metadata(theirs).row_group(0).column(place).compression
            for place in range(len(written.column_names))
        } == {"ZSTD"}


def test_a_slim_output_has_the_same_columns_for_all(tmp_path):
    source = tmp_path / "in.parquet"
    pq.write_table(data.population(2_000), source)
    found = files.Files(1, {}, {}, {}, {})
    output = "slim: reward alone"
    files.contest(found, 2_000, output, source, files.OUTPUTS[output])
    assert [name for _, _, name in found.seconds] == ["hensa", *files.SCRIPTS]
    assert output in files.render(found).body


@pytest.mark.parametrize(("column", "row"), [("reward", 1), ("score", 2_500), ("friend_points", 2_999)])
def test_a_file_that_is_off_in_one_row_is_refused(tmp_path, column, row):
    rows = hensa.score(data.population(3_000), PROGRAM)
    values = rows[column].to_numpy().copy()
    values[row] += 1
    off = rows.set_column(rows.column_names.index(column), column, pa.array(values))
    for name, table in (("ours", rows), ("theirs", off)):
        pq.write_table(table, tmp_path / name, row_group_size=1_000 if name == "ours" else 700)
    files.agree(tmp_path / "ours", tmp_path / "ours", "the same")
    with pytest.raises(AssertionError, match=f"other: {column} differs in 1 rows, first in row {row:,}"):
        files.agree(tmp_path / "ours", tmp_path / "theirs", "other")


# Growth


def test_a_stream_scores_as_one_table_does(monkeypatch):
    monkeypatch.setattr(growth, "BATCH", 1_000)
    whole = pa.Table.from_batches(growth.batches(3_500))
    assert [batch.num_rows for batch in growth.batches(3_500)] == [1_000, 1_000, 1_000, 500]
    scored = pa.concat_tables(table for _, table in growth.scored_stream(3_500, PROGRAM) if table is not None)
    truth = peers.exact(whole)
    assert scored["reward"].to_pylist() == truth.reward.tolist()
    assert scored["score"].to_numpy() == pytest.approx(truth.score, rel=1e-12)


def test_no_two_batches_are_the_same_rows(monkeypatch):
    monkeypatch.setattr(growth, "BATCH", 1_000)
    assert len({str(batch.to_pydict()) for batch in growth.batches(5_000)}) == 5


def test_growth_is_measured_in_processes_and_drawn():
    page = growth.render(growth.measure(Settings(rows=100_000)))
    assert page.body.count("| 100,000 |") == 1
    assert "in memory" in page.charts["growth.svg"]


# Datasets


def test_datasets_are_measured_in_processes_and_have_equal_manifests(monkeypatch):
    monkeypatch.setattr(datasets, "WORKERS", (0, 2))
    body = datasets.render(datasets.measure(Settings(rows=20_000))).body
    assert "| cluster, 2 workers |" in body
