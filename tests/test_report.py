"""Reports: what the page says, against the rows; that it says it safely, equally and within a bounded size."""

import json
import re
import string
from decimal import Decimal
from fractions import Fraction
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples
from typer import testing as typer_testing

import hensa
from hensa import figures

pytest.importorskip("jinja2")
pytest.importorskip("altair")

from hensa import charts, cli
from hensa.comparison import EDGES
from hensa.counts import percent
from hensa.errors import HensaError
from hensa.explanation import NAMES
from hensa.ledger import FINDINGS
from hensa.report import report
from hensa.report_words import WORDS

# The domain's worked example: 99 members with 10 newcomers, one with 5,000. All have 7 ad users and 100,000 points.
EXAMPLE = pa.table(
    {
        "referrer_id": [f"m{i}" for i in range(100)],
        "new_referrals": [10] * 99 + [5000],
        "ad_users": [7] * 100,
        "friend_points": [100_000] * 100,
    }
)


@pytest.fixture(autouse=True)
def no_library(monkeypatch):
    """The plotting library takes seconds to put together, and is the same for every page."""
    monkeypatch.setattr(charts, "javascript", lambda: "/* plots */")


def done(*args):
    result = typer_testing.CliRunner().invoke(cli.app, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def scored(tmp_path):
    """Score rows and give the path of the result."""

    def score(rows, *options, suffix=".parquet"):
        source, target = tmp_path / "rows.parquet", tmp_path / f"paid{suffix}"
        pq.write_table(rows, source)
        done("score", source, "-o", target, *options)
        return str(target)

    return score


class Page(HTMLParser):
    """The tables of a page by caption (the last of each), its texts, and the tags that are in it."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.texts, self.tags, self.tiles = {}, [], [], {}
        self._cells = self._caption = self._name = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th", "caption", "dt", "dd"):
            self._cells = []

    def handle_endtag(self, tag):
        if tag == "table":
            self.tables[self._caption] = self._rows
        elif tag in ("td", "th"):
            self._rows[-1].append("".join(self._cells).strip())
        elif tag == "caption":
            self._caption = "".join(self._cells).strip()
        elif tag == "dt":
            self._name = "".join(self._cells).strip()
        elif tag == "dd":
            self.tiles.setdefault(self._name, self._cells[0].strip())

    def handle_data(self, data):
        if self._cells is not None:
            self._cells.append(data)
        if data.strip():
            self.texts.append(data.strip())


def specs_of(text):
    return json.loads(re.search('id="charts">(.*?)</script>', text).group(1))


# ---- a scoring run


def test_the_worked_example_in_bands(scored):
    page = Page(report(scored(EXAMPLE, "--month", "2019-10")))
    bands = {row[0]: row[1:] for row in page.tables["Bands of rates"]}
    # 99 are on step 49, which pays 9.8%; the outlier's score is 50 + sqrt(99)/2 = 54.97, and step 54 pays 14%.
    assert bands["8% – 9.8%"] == ["99", "99.00%", "9,900,000", f"{99 * 9800:,}", f"{99 * 9800 / 984_200:.2%}"]
    assert bands["10% – 19%"] == ["1", "1.00%", "100,000", "14,000", f"{14_000 / 984_200:.2%}"]
    assert bands["All"] == ["100", "100.00%", "10,000,000", "984,200", "100.00%"]
    assert page.tiles["Rows"] == "100"
    assert page.tiles["Points paid"] == "984,200"
    assert page.tiles["Average rate"] == f"{984_200 / 10_000_000:.2%}"
    assert page.tiles["Top 1%"] == f"{14_000 / 984_200:.1%}"


def test_the_worked_example_as_a_population(scored):
    text = report(scored(EXAMPLE))
    page = Page(text)
    assert page.tables["New referrals"][1:] == [
        ["10–19", "99", "99.00%"],
        *([name, "0", "0.00%"] for name in ("20–49", "50–99", "100–199", "200–499", "500–999")),
        *([name, "0", "0.00%"] for name in ("1,000–1,999", "2,000–4,999")),
        ["5,000–9,999", "1", "1.00%"],
    ]
    # mean (99 x 10 + 5000) / 100; the deviations are -49.9 and 4940.1
    sd = ((99 * 49.9**2 + 4940.1**2) / 100) ** 0.5
    moments = page.tables["Mean and standard deviation that the rows were scored by"]
    assert moments[1] == ["New referrals", "59.9", f"{sd:.6g}", "10", "5,000"]
    assert moments[2] == ["Ad users", "7", "0", "7", "7"]
    assert "Ad users is the same in every row: its standard deviation is 0." in page.texts
    layers = [layer["data"]["values"] for layer in specs_of(text)["chart-1"]["layer"]]
    assert layers[0] == [{"low": 10, "high": pytest.approx(59.9 + sd)}]  # one SD to either side, from the first bin on
    assert [{key: bar[key] for key in ("low", "high", "count")} for bar in layers[1] if bar["count"]] == [
        {"low": 10, "high": 20, "count": 99},
        {"low": 5000, "high": 10000, "count": 1},
    ]
    assert layers[2] == [{"mean": 59.9}]


def test_scores_are_counted_between_the_steps_of_the_rate_table(scored):
    page = Page(report(scored(EXAMPLE)))
    assert page.tables["Rows by score"][1:] == [["49 to below 50", "99", "99.00%"], ["54 to below 55", "1", "1.00%"]]
    rates = page.tables["Rate by score"]
    assert rates[1] == ["0", "0.1%"]
    assert rates[-1] == ["100", "45%"]
    assert len(rates) == 1 + 101


def test_top_referrers_are_those_with_the_most_points_and_of_equals_the_first(scored):
    page = Page(report(scored(EXAMPLE)))
    top = page.tables["Top referrers"]
    assert [row[:2] for row in top[1:4]] == [["1", "m99"], ["2", "m0"], ["3", "m1"]]
    assert top[1][2:] == ["5,000", "7", "100,000", "54.9749", "14%", "14,000"]
    assert len(top) == 1 + 20


def test_a_report_in_japanese_has_the_japanese_title(scored):
    assert "<h1>ハピタスフレンド：新規紹介登録者数と" in report(scored(EXAMPLE), "ja")
    assert "<h1>Hapitas Friend (ハピタスフレンド): referrers by" in report(scored(EXAMPLE))


def test_ids_can_be_hidden(scored):
    path = scored(EXAMPLE)
    shown, hidden = report(path), report(path, hide_ids=True)
    assert ">m99<" in shown
    assert not re.search(r"m\d\d?\b", hidden.split("<main")[1].split('id="charts"')[0])
    assert Page(hidden).tables["Top referrers"][0][:2] == ["Rank", "New referrals"]


def test_rows_without_an_id_column_are_numbered(scored):
    page = Page(report(scored(EXAMPLE.drop_columns("referrer_id"))))
    assert page.tables["Top referrers"][:2][0][:2] == ["Rank", "Row (from 0)"]
    assert page.tables["Top referrers"][1][:2] == ["1", "99"]
    told = "The file has no column referrer_id, so rows are numbered; --id-column NAME names another column of ids."
    assert told in page.texts
    assert told not in Page(report(scored(EXAMPLE))).texts


def test_nulls_are_reported(scored):
    rows = EXAMPLE.set_column(2, "ad_users", pa.array([7] * 98 + [None, 7]))
    page = Page(report(scored(rows)))
    assert page.tiles["Rows"] == "100"
    assert any(text.startswith("1 row (1.00%) without a result") for text in page.texts)
    assert "Ad users is null in 1 row." in page.texts
    assert page.tables["Bands of rates"][-1][1] == "99"


def test_the_record_is_shown(scored):
    text = report(scored(EXAMPLE, "--month", "2019-10"))
    page = Page(text)
    assert "Paid for 2019-10 · 100 rows" in page.texts
    assert any(hensa.audit.Rules.of(hensa.Program.load("hapitas-friend")).sha256 in text for text in page.texts)
    assert any(hensa.kernels.name in text and hensa.__version__ in text for text in page.texts)


def test_a_month_is_told_to_be_outside_of_the_dates_only_if_it_is(scored):
    for month, is_outside in (("2019-09", True), ("2019-10", False)):
        page = Page(report(scored(EXAMPLE, "--month", month, "--any-month")))
        assert any("outside of the program's dates" in text for text in page.texts) == is_outside


def test_dates_with_an_open_end_are_told_without_a_dash(scored):
    rows = pa.table({"cumulative_referrals": [1], "own_points": [0], "friend_points": [100]})
    page = Page(report(scored(rows, "-p", "hapi-tomo", "--month", "2019-09")))
    assert "until 2019-09-30" in page.texts


def test_what_was_never_published_is_told_in_the_words_of_explain(scored):
    path = scored(EXAMPLE, "--month", "2019-10")
    [english] = [text for text in Page(report(path)).texts if text.startswith("Not published by the operator")]
    [japanese] = [text for text in Page(report(path, "ja")).texts if text.startswith("次の点は運営者が公表しておらず")]
    assert "that the variance divides by n, " in english
    assert english.endswith("how points are rounded, the rates of steps 1 to 48, the rates of steps 51 to 80.")
    assert "分散をnで割ること、" in japanese
    assert "ステップ51から80のポイント率" in japanese


@pytest.mark.parametrize(("part", "shown"), [(0, "0.00%"), (1, "<0.01%"), (4, "<0.01%"), (5, "0.01%"), (9, "0.01%")])
def test_a_share_that_is_not_0_never_looks_as_if_it_were(part, shown):
    assert percent(part, 100_000) == shown


def test_an_axis_of_whole_numbers_has_no_ticks_between_them():
    counts = [figures.Bin(number, number + 1, 1) for number in range(5)]
    lengths = [figures.Bin(Decimal(number) / 2, Decimal(number + 1) / 2, 1) for number in range(5)]
    axes = [charts.histogram(bins, [""] * 5, "", "")["layer"][0]["encoding"]["x"]["axis"] for bins in (counts, lengths)]
    assert [axis.get("tickMinStep") for axis in axes] == [1, None]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kind", ["gain", "share"])
def test_the_bars_of_few_bands_can_be_seen(kind, n):
    vl_convert = pytest.importorskip("vl_convert")
    bands = [f"band {i}" for i in range(n)]
    if kind == "gain":
        spec = charts.diverging(bands, [300] * n, [1000] * n, "Points", ("Gained", "Lost"))
    else:
        spec = charts.bars_by_band(bands, [(name, [0.5] * n, [""] * n) for name in ("Rows", "Points")], "Share")
    drawn = vl_convert.vegalite_to_svg(spec | {"width": 600})
    heights = [float(height) for height in re.findall(r'<path d="M[^"]*?v([0-9.]+)h[^"]*" fill="var', drawn)]
    assert len(heights) >= 2 * n
    assert min(heights) >= 6


def test_a_csv_gives_the_page_of_the_parquet_file(scored):
    pages = [report(scored(EXAMPLE, suffix=suffix)) for suffix in (".parquet", ".csv", ".arrow")]
    assert pages[0] == pages[1].replace("wrote beside the file", "wrote into the file") == pages[2]


def test_decimal_bases_are_added_up_exactly(scored):
    points = pa.array([f"{i}.05" for i in range(100)]).cast(pa.decimal128(12, 2))
    rows = EXAMPLE.set_column(3, "friend_points", points)
    page = Page(report(scored(rows)))
    bands = {row[0]: row[3] for row in page.tables["Bands of rates"]}
    assert bands["10% – 19%"] == "99.05"
    assert bands["All"] == f"{sum(range(100)) + 5:,}"


def test_a_stage_program(scored):
    rows = pa.table(
        {
            "referrer_id": [1, 2, 3],
            "cumulative_referrals": [0, 2, 1000],
            "own_points": [0, 0, 0],
            "friend_points": [100] * 3,
        }
    )
    page = Page(report(scored(rows, "-p", "hapi-tomo")))
    bands = {row[0]: row[1:] for row in page.tables["Bands of rates"]}
    assert bands["No stage · 0%"] == ["1", "33.33%", "100", "0", "0.00%"]
    assert bands["Stage 2 · 15%"] == ["1", "33.33%", "100", "15", f"{15 / 55:.2%}"]
    assert bands["Stage 8 · 40%"] == ["1", "33.33%", "100", "40", f"{40 / 55:.2%}"]
    assert "Scores and the rate table" not in page.texts
    assert "No bonuses were paid: there is no column stage_before." in page.texts


def test_a_program_of_events(scored):
    rows = pa.table({"referrer_id": [1, 2, 3], "registrations": [1, 2, None], "first_valid_ads": [0, 2, 5]})
    page = Page(report(scored(rows, "-p", "share-hapi", "--month", "2019-01")))
    # 100 points for each, and 100 to the friend; the third row has no reward.
    assert page.tables["Events"][1:] == [
        ["Registrations", "3", "100", "300", "100", "300"],
        ["First valid ads", "2", "100", "200", "100", "200"],
        ["All", "", "", "500", "", "500"],
    ]
    assert page.tiles["Points paid"] == page.tiles["Points to friends"] == "500"


def test_cohorts_have_no_common_mean(scored):
    rows = EXAMPLE.append_column("site", pa.array(["a", "b"] * 50))
    page = Page(report(scored(rows, "--by", "site")))
    assert not any(text.startswith("Mean ") and "59.9" in text for text in page.texts)
    assert any("of 2 cohorts by site" in text for text in page.texts)
    assert "Mean and standard deviation that the rows were scored by" not in page.tables
    assert any("deviation of its own cohort" in text and text.endswith("cohorts: 2.") for text in page.texts)


@pytest.mark.parametrize(("suffix", "where"), [(".parquet", "into"), (".arrow", "into"), (".csv", "beside")])
def test_it_says_where_the_record_is(scored, suffix, where):
    page = Page(report(scored(EXAMPLE, suffix=suffix)))
    assert f"From the record that hensa score wrote {where} the file." in page.texts


def test_of_no_rows_it_says_so_and_draws_nothing(scored):
    rows = pa.table({"cumulative_referrals": [1], "own_points": [0], "friend_points": [5]}).slice(1)
    text = report(scored(rows, "-p", "hapi-tomo"))
    assert "There are no rows." in Page(text).texts
    assert specs_of(text) == {}


def test_one_row_is_told_of_in_the_singular(scored):
    text = report(scored(EXAMPLE.slice(0, 1)))
    assert {"to 1 row", "the 1 row with the most points"} <= {*Page(text).texts}
    assert re.findall(r"\b1 (?:rows|points|ids|cohorts|steps)\b", text) == []


@pytest.mark.parametrize("name", ["rep.pdf", "rep"])
def test_a_page_has_the_suffix_of_one(scored, tmp_path, name):
    result = typer_testing.CliRunner().invoke(cli.app, ["report", scored(EXAMPLE), "-o", str(tmp_path / name)])
    assert result.exit_code == 2
    assert "ends in none of .html, .htm" in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / name).exists()


def test_a_result_without_a_score_or_a_rate_has_the_other_sections(scored):
    page = Page(report(scored(EXAMPLE, "--columns", "reward")))
    assert page.tiles["Points paid"] == "984,200"
    assert "Scores and the rate table" not in page.texts
    assert "The file has no column rate, so there are no bands." in page.texts


def test_a_dataset(tmp_path):
    for part in range(2):
        (tmp_path / "rows").mkdir(exist_ok=True)
        pq.write_table(EXAMPLE.slice(50 * part, 50), tmp_path / "rows" / f"{part}.parquet")
    hensa.score_dataset(tmp_path / "rows", tmp_path / "paid", hensa.Program.load("hapitas-friend"))
    page = Page(report(str(tmp_path / "paid")))
    assert page.tiles["Points paid"] == "984,200"
    assert page.tables["Top referrers"][1][1] == "m99"


# ---- comparisons and restatements

FRIENDS = pa.table(
    {
        "referrer_id": list(range(1, 6)),
        "cumulative_referrals": [1, 2, 5, 5, 2000],
        "own_points": [0] * 5,
        "new_referrals": [0, 0, 1, 1, 500],
        "ad_users": [1, 1, 2, None, 800],
        "friend_points": [1000, 1000, 2000, 3000, 50_000],
    }
)


@pytest.mark.parametrize(
    ("band", "edges", "bands"),
    [
        ("cumulative_referrals", None, ["1", "2", "3–9", "1,000 or more"]),
        ("cumulative_referrals", [2, 5], ["below 2", "2–4", "5 or more"]),
        (None, None, []),
    ],
)
def test_a_comparison_has_the_tallies_that_compare_gives(tmp_path, band, edges, bands):
    pq.write_table(FRIENDS, tmp_path / "rows.parquet")
    options = ["--band", band] if band else []
    options += ["--edges", ",".join(map(str, edges))] if edges else []
    done(
        "compare",
        tmp_path / "rows.parquet",
        "-p",
        "hapi-tomo",
        "-p",
        "hapitas-friend",
        *options,
        "-o",
        tmp_path / "c.csv",
    )
    page = Page(report(str(tmp_path / "c.csv")))
    assert "hapi-tomo is compared without its bonuses: there is no column stage_before." in page.texts
    found = hensa.compare(FRIENDS, ["hapi-tomo", "hapitas-friend"], band, edges or EDGES)
    [total] = found.totals.values()
    rows = page.tables["Who gains and who loses"]
    assert rows[-1] == ["All", *_counts(total)]
    if band:
        tallies = [tally for tally in found.bands["hapitas-friend"] if tally.rows]
        assert [row[1:] for row in rows[1:-1]] == [_counts(tally) for tally in tallies]
        assert [row[0] for row in rows[1:-1]] == bands
    assert page.tiles["hapi-tomo"] == f"{found.costs['hapi-tomo']:,}"
    assert page.tiles["hapitas-friend"] == f"{found.costs['hapitas-friend']:,}"
    assert "1 row has no reward under hapi-tomo or hapitas-friend: not compared." in page.texts
    differences = found.rows["hapitas-friend_difference"].to_pylist()
    losses = sorted((d, i + 1) for i, d in enumerate(differences) if d is not None and d < 0)
    assert [row[1] for row in page.tables["Lose the most"][1:]] == [str(i) for _, i in losses]
    assert sum(int(row[1].replace(",", "")) for row in page.tables["Rows by difference in points"][1:]) == 4


def _counts(tally):
    difference = f"{tally.difference:+,}" if tally.difference else "0"
    return [*(f"{n:,}" for n in (tally.gains, tally.loses, tally.stays, tally.gained, tally.lost)), difference]


def test_a_restatement(tmp_path):
    before = pa.table({"referrer_id": [1, 2, 3, 4, 5], "reward": [10, 20, 3000, None, 7]})
    after = pa.table({"referrer_id": [1, 2, 3, 4, 6], "reward": [10, 25, 1000, 4, 9]})
    for name, rows in (("before", before), ("after", after)):
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    done(
        "restate",
        tmp_path / "before.parquet",
        tmp_path / "after.parquet",
        "-o",
        tmp_path / "r.parquet",
        "--policy",
        "net",
    )
    page = Page(report(str(tmp_path / "r.parquet")))
    # 2: +5, 3: -2000, 4: +4, 5: gone, -7, 6: new, +9; 1 is unchanged
    assert page.tiles["To pay"] == "18"
    assert page.tiles["To get back"] == "-2,007"
    assert page.tiles["Due"] == "-1,989"
    assert page.tiles["Unchanged"] == "1"
    assert page.tables["What was found"][1:] == [
        ["Paid too little", "2", "+9"],
        ["Paid too much", "1", "-2,000"],
        ["Missing before", "1", "+9"],
        ["Missing after", "1", "-7"],
        ["All", "5", "-1,989"],
    ]
    assert page.tables["Gain the most"][1] == ["1", "6", "0", "9", "+9"]
    assert page.tables["Who gains and who loses"][0] == [
        "Points before",
        "Gain",
        "Lose",
        "Points gained",
        "Points lost",
        "Difference",
    ]
    assert page.tables["Who gains and who loses"][-1] == ["All", "3", "2", "18", "2,007", "-1,989"]
    assert page.tables["Lose the most"][1] == ["1", "3", "3,000", "1,000", "-2,000"]


# ---- what every page is


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def test_hostile_text_is_shown_and_never_markup(scored, tmp_path):
    program = hensa.Program.load("hapitas-friend")
    (tmp_path / "hostile.toml").write_text(
        program.to_toml()
        .replace(json.dumps(program.title, ensure_ascii=False), json.dumps(HOSTILE))
        .replace('"new_referrals"', json.dumps(HOSTILE))
    )
    rows = EXAMPLE.set_column(0, "referrer_id", pa.array([HOSTILE] * 100))
    rows = rows.rename_columns(["referrer_id", HOSTILE, "ad_users", "friend_points"])
    text = report(scored(rows, "-p", tmp_path / "hostile.toml"))
    page = Page(text)
    assert page.texts.count(HOSTILE) >= 20
    assert HOSTILE in page.tables["Top referrers"][1]
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 3  # the charts' data, the library and what draws them
    assert "img" not in tags
    assert "<script>alert" not in text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_a_page_loads_nothing_and_runs_its_own_scripts_alone(scored):
    text = report(scored(EXAMPLE))
    page = Page(text)
    [policy] = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2]
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", text)


def test_equal_files_give_equal_pages(scored):
    path = scored(EXAMPLE)
    assert report(path) == report(path)


@pytest.mark.parametrize("n", [1_000, 200_000])
def test_the_size_does_not_grow_with_the_rows(scored, n):
    text = report(scored(hensa.sample(n).read_all()))
    assert 30_000 < len(text.encode()) < 120_000


def test_tables_have_headings_with_a_scope_and_charts_a_text(scored):
    page = Page(report(scored(EXAMPLE)))
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    plots = [attributes for tag, attributes in page.tags if attributes.get("class") == "plot"]
    assert len(plots) == 7
    assert all(attributes["role"] == "img" and len(attributes["aria-label"]) > 20 for attributes in plots)
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))


# ---- languages


def test_both_languages_have_the_same_texts_with_the_same_fields():
    def fields(text):
        return sorted(name for _, name, *_ in string.Formatter().parse(text) if name)

    english, japanese = WORDS["en"], WORDS["ja"]
    assert set(japanese) - set(english) == {f"ledger.{name}" for name in FINDINGS}
    assert set(english) - set(japanese) == set()
    assert [key for key in english if fields(english[key]) != fields(japanese[key])] == []


def test_a_japanese_page_has_no_english_of_ours(scored):
    text = report(scored(EXAMPLE, "--month", "2019-10"), "ja")
    page = Page(text)
    assert dict(page.tags)["html"]["lang"] == "ja"
    ours = {word for word in WORDS["en"].values() if "{" not in word and len(word) > 3}
    ours |= {name for name, _ in NAMES["en"].values()}
    assert not ours & set(page.texts)
    titles = re.findall(r'"title":"(.*?)"', re.search('id="charts">(.*?)</script>', text).group(1))
    assert not ours & set(titles)
    assert "付与ポイント" in page.tiles


# ---- refusals


def test_a_file_without_a_record_is_refused(tmp_path):
    pq.write_table(EXAMPLE, tmp_path / "plain.parquet")
    with pytest.raises(HensaError, match=r"plain.parquet: there is no record in its metadata of how it was made."):
        report(str(tmp_path / "plain.parquet"))


def test_a_file_of_another_command_is_refused(tmp_path):
    done("sample", "-n", 10, "-o", tmp_path / "rows.parquet")
    with pytest.raises(
        HensaError, match="it was written by hensa sample; a report tells of score, compare and restate"
    ):
        report(str(tmp_path / "rows.parquet"))


def test_a_file_whose_rows_do_not_fit_its_record_is_refused(scored):
    path = scored(EXAMPLE)
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(HensaError, match="it has 99 rows, while its record tells of 100; it was changed"):
        report(path)


def test_a_rate_that_the_program_has_not_is_refused(scored):
    path = scored(EXAMPLE)
    paid = pq.read_table(path)
    pq.write_table(paid.set_column(paid.column_names.index("rate"), "rate", pa.array([0.5] * 100)), path)
    with pytest.raises(HensaError, match=r"column 'rate': found 0\.5, which is no rate of 'hapitas-friend'"):
        report(path)


def test_points_that_are_no_numbers_are_refused(scored):
    path = scored(EXAMPLE, suffix=".csv")
    paid = arrow_csv.read_csv(path)
    changed = paid.set_column(paid.column_names.index("reward"), "reward", pa.array(["many"] * 100))
    arrow_csv.write_csv(changed, path)
    with pytest.raises(HensaError, match="'reward'"):
        report(path)


def test_standard_input_is_refused():
    result = typer_testing.CliRunner().invoke(cli.app, ["report", "-", "-o", "x.html"])
    assert result.exit_code == 2
    assert "name a file" in result.output


# ---- the figures


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30))
def test_bins_hold_what_lies_between_their_edges(values):
    bins = figures.Bins(figures.log_edges())
    bins.add(np.array(values, dtype=np.int64))
    for bin in bins.all():
        inside = [v for v in values if (bin.low is None or bin.low <= v) and (bin.high is None or v < bin.high)]
        assert bin.count == len(inside)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_even_edges_are_equally_far_apart_and_reach_four_sds(mean, sd):
    edges = figures.even_edges(mean, sd, whole=False)
    widths = {Fraction(b) - Fraction(a) for a, b in pairwise(edges)}
    assert len(widths) == 1
    assert edges[0] <= Fraction(mean) - 4 * Fraction(sd) <= Fraction(mean) + 4 * Fraction(sd) <= edges[-1]
    assert 8 <= len(edges) <= 40


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2)), max_size=30))
def test_sums_by_group_are_exact(pairs):
    sums = figures.GroupSums(3)
    for part in (pairs[::2], pairs[1::2]):
        points, groups = (np.array([pair[i] for pair in part], dtype=np.int64) for i in range(2))
        sums.add(points, groups)
    assert sums.totals() == [sum(p for p, g in pairs if g == group) for group in range(3)]


POINTS = st.one_of(st.integers(0, 50), st.integers(0, 10**6), st.integers(0, 2**63 - 1))


@examples(30)
@given(st.lists(POINTS, min_size=1, max_size=60), st.fractions(Fraction(1, 100), 1))
def test_the_share_of_the_top_lies_within_its_bounds(points, part):
    found = figures.Concentration()
    found.add(np.array(points, dtype=np.int64))
    if not sum(points):
        return
    share = found.share_of_top(part)
    wanted = -(-part.numerator * len(points) // part.denominator)
    exact = Fraction(sum(sorted(points)[len(points) - wanted :]), sum(points))
    assert share.rows == wanted
    assert share.low <= exact <= share.high
    if max(points) < 1024:
        assert share.low == share.high


@examples(30)
@given(st.lists(st.integers(0, 1023), min_size=1, max_size=60))
def test_the_curve_goes_through_exact_shares(points):
    found = figures.Concentration()
    found.add(np.array(points, dtype=np.int64))
    if not sum(points):
        return
    ordered = sorted(points)
    exact = {(n / len(points), sum(ordered[:n]) / sum(points)) for n in range(len(points) + 1)}
    curve = found.curve()
    assert curve[0] == (0, 0)
    assert curve[-1] == (1, 1)
    assert set(curve) <= exact


@given(st.lists(st.integers(-5, 5), max_size=60), st.integers(1, 8))
def test_the_top_of_batches_is_the_top_of_all(keys, n):
    top = figures.Top(n)
    for start in range(0, len(keys), 7):
        part = np.array(keys[start : start + 7], dtype=np.int64)
        top.add(pa.record_batch({"key": part}), part, part != 0)
    expected = sorted((-key, place) for place, key in enumerate(keys) if key)[:n]
    assert [(place, row["key"]) for place, row in top] == [(place, -key) for key, place in expected]
