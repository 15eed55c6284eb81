"""Reports in a browser: they draw charts without a network, fit a phone, and can be used without eyes or mouse."""

import pyarrow.parquet as pq
import pytest
from typer import testing as typer_testing

import hensa

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")

from hensa import cli
from hensa.report import report

WIDTHS = {"desktop": 1280, "phone": 390}


def done(*args):
    result = typer_testing.CliRunner().invoke(cli.app, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A run in English and in Japanese, and a comparison."""
    folder = tmp_path_factory.mktemp("report")
    rows = hensa.sample(2_000).read_all()
    stages = {"cumulative_referrals": rows["ad_users"], "own_points": rows["friend_points"]}
    for name, column in stages.items():
        rows = rows.append_column(name, column)
    pq.write_table(rows, folder / "rows.parquet")
    done("score", folder / "rows.parquet", "-o", folder / "paid.parquet", "--month", "2019-10")
    programs = ["-p", "hapi-tomo", "-p", "hapitas-friend"]
    done("compare", folder / "rows.parquet", *programs, "-o", folder / "compared.parquet")
    made = {"en": report(str(folder / "paid.parquet")), "ja": report(str(folder / "paid.parquet"), "ja")}
    made["comparison"] = report(str(folder / "compared.parquet"))
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in made}


@pytest.fixture
def visit(chromium, pages):
    """Open a page and wait for its charts; whatever it writes to the console or asks for from elsewhere fails."""
    complaints, contexts = [], []

    def visit(name, width="desktop", scheme="light"):
        viewport = {"width": WIDTHS[width], "height": 900}
        context = chromium.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url == pages[name] or complaints.append(request.url))
        page.goto(pages[name])
        page.wait_for_function("[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg'))")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize(("name", "n_charts"), [("en", 7), ("ja", 7), ("comparison", 2)])
def test_every_chart_is_drawn_and_nothing_is_wider_than_the_window(visit, name, n_charts):
    page = visit(name)
    marks = page.eval_on_selector_all(
        ".plot", "plots => plots.map(plot => plot.querySelectorAll('.mark-rect path, .mark-line path').length)"
    )
    assert len(marks) == n_charts
    assert min(marks) > 0
    page.eval_on_selector_all("details", "all => all.forEach(details => { details.open = true; })")
    for width in WIDTHS.values():
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            "[...document.querySelectorAll('.plot svg')].every(svg => svg.clientWidth <= innerWidth)"
        )
        assert page.evaluate("document.documentElement.scrollWidth") == width
        rooms = page.eval_on_selector_all(
            ".plot", "all => all.map(p => [p.clientWidth, p.querySelector('svg').clientWidth])"
        )
        assert all(room / 2 < drawn <= room for room, drawn in rooms)


def test_the_colours_follow_the_scheme(visit):
    page, found = visit("comparison"), []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found.append(
            page.evaluate(
                "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color, "
                "getComputedStyle(document.querySelector('.mark-rect path[fill]')).fill]"
            )
        )
    assert all(light != dark for light, dark in zip(*found, strict=True))


@pytest.mark.parametrize(("name", "width", "scheme"), [("en", "desktop", "light"), ("ja", "phone", "dark")])
def test_axe_finds_no_barrier(visit, name, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit(name, width, scheme)
    page.eval_on_selector_all("details", "all => all.forEach(details => { details.open = true; })")
    found = axe.Axe().run(page).response["violations"]
    assert [(violation["id"], violation["nodes"][0]["html"]) for violation in found] == []


def test_the_keyboard_reaches_the_content_and_the_numbers(visit):
    page = visit("comparison")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.focus("summary")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open")
    assert page.locator("details table").first.is_visible()
