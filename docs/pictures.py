"""Take the pictures that the README and these documents show: python docs/pictures.py

It makes a month of synthetic members with the command, photographs its pages in a headless Chromium (extras report
and browser), and draws what it prints on a terminal (extra ledger). Chromium is found by its name, or by HENSA_BROWSER.
"""

import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import termios
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

PICTURES = Path(__file__).parent / "pictures"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--hide-scrollbars"]
TYPED = {"new_referrals": 3, "ad_users": 41, "friend_points": 3091, "cumulative_referrals": 52, "own_points": 1200}


def hensa(*arguments: str) -> None:
    """Run the command of this environment."""
    subprocess.run([Path(sys.executable).parent / "hensa", *arguments], check=True, stderr=subprocess.DEVNULL)


def pages(folder: Path) -> dict[str, str]:
    """Reports of a run and simulators, in English and Japanese."""
    rows, paid = str(folder / "october.parquet"), str(folder / "paid.parquet")
    hensa("sample", "-n", "1_000_000", "-o", rows)
    hensa("score", rows, "-o", paid, "--month", "2019-10")
    found = {}
    for lang in ("en", "ja"):
        path = folder / f"{lang}.html"
        hensa("report", paid, "-o", str(path), "--lang", lang)
        found[lang] = path.as_uri()
        path = folder / f"simulator-{lang}.html"
        beside = ["--beside", "hapi-tomo"] if lang == "ja" else []
        hensa("report", "--simulator", rows, "-o", str(path), "--lang", lang, *beside)
        found[f"simulator-{lang}"] = path.as_uri()
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


def take_typed(
    browser: Browser, url: str, name: str, width: int, height: int, scheme: str, start: str = "body"
) -> None:
    """The same of a simulator in which a member has typed."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
    page.goto(url)
    for field, number in TYPED.items():
        if page.locator(f"#{field}").count():
            page.locator(f"#{field}").fill(f"{number:,}")
    page.evaluate("document.activeElement.blur()")
    page.evaluate("start => scrollTo(0, document.querySelector(start).getBoundingClientRect().top + scrollY)", start)
    page.screenshot(path=PICTURES / name)
    page.close()


def terminal(folder: Path, name: str, *commands: str) -> None:
    """A picture of a terminal of 80 columns: commands and what they print."""
    screen = Console(record=True, width=80, file=io.StringIO(), force_terminal=True, color_system="256")
    for command in commands:
        screen.print(Text(f"$ {command}", "bold"))
        screen.print(Text.from_ansi(printed(command, folder)), end="\n\n")
    svg = screen.export_svg(title="hensa", theme=SVG_EXPORT_THEME)
    # The fonts would come from the network.
    (PICTURES / name).write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")


def printed(command: str, folder: Path) -> str:
    """What a command prints on a terminal, once its bars of progress are gone."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 80))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(command, shell=True, cwd=folder, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # so Linux says that the other end is closed
        while part := os.read(ours, 65536):
            seen += part
    os.close(ours)
    if process.wait():
        raise SystemExit(f"{command}: {seen.decode()}")
    return seen.decode().replace("\r\n", "\n").rpartition("\x1b[2K")[2].rstrip()


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
        take_typed(browser, found["simulator-en"], "simulator.png", 1280, 1560, "light")
        take_typed(browser, found["simulator-ja"], "simulator-phone.png", 390, 844, "dark", "#answers > section")
        browser.close()
        hensa("sample", "--ledger", "-n", "20_000", "-o", f"{folder}/ledger")
        ledger = ("--members", f"{folder}/ledger/members.parquet", "--passbook", f"{folder}/ledger/passbook.parquet")
        hensa("rows", *ledger, "--month", "2019-10", "-o", f"{folder}/october.parquet")
        terminal(
            Path(folder),
            "terminal.svg",
            "hensa score october.parquet -o paid.parquet --month 2019-10",
            "hensa compare october.parquet -p hapi-tomo -p hapitas-friend --band cumulative_referrals",
        )


if __name__ == "__main__":
    main()
