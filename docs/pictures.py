"""Take the pictures of the pages that the README and these documents show: python docs/pictures.py

It makes a month of synthetic members with the command, and photographs its pages in a headless Chromium (extras report
and browser). Chromium is found by its name, or by HENSA_BROWSER.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

PICTURES = Path(__file__).parent / "pictures"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--hide-scrollbars"]


def hensa(*arguments: str) -> None:
    """Run the command of this environment."""
    subprocess.run([Path(sys.executable).parent / "hensa", *arguments], check=True, stderr=subprocess.DEVNULL)


def pages(folder: Path) -> dict[str, str]:
    """Reports of a run, in English and Japanese."""
    rows, paid = str(folder / "october.parquet"), str(folder / "paid.parquet")
    hensa("sample", "-n", "1_000_000", "-o", rows)
    hensa("score", rows, "-o", paid, "--month", "2019-10")
    found = {}
    for lang in ("en", "ja"):
        path = folder / f"{lang}.html"
        hensa("report", paid, "-o", str(path), "--lang", lang)
        found[lang] = path.as_uri()
    return found


def take(browser: Browser, url: str, name: str, width: int, height: int, scheme: str, start: str | None = None) -> None:
    """A picture of a page as it stands in a window, from its top or from an element on."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
    page.goto(url)
    page.wait_for_function("[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg'))")
    if start is not None:
        page.evaluate("start => scrollTo(0, document.querySelector(start).getBoundingClientRect().top)", start)
    page.screenshot(path=PICTURES / name)
    page.close()


def main() -> None:
    """Take every picture."""
    PICTURES.mkdir(exist_ok=True)
    chromium = os.environ.get("HENSA_BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        found = pages(Path(folder))
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        take(browser, found["en"], "report.png", 1280, 1150, "light")
        take(browser, found["en"], "report-bands.png", 1280, 1100, "light", "#bands")
        take(browser, found["ja"], "report-phone.png", 390, 844, "dark")
        take(browser, found["ja"], "report-phone-scores.png", 390, 844, "dark", "#scores")
        browser.close()


if __name__ == "__main__":
    main()
