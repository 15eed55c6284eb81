"""What the sections write: tables in Markdown, charts as SVG, each between its own two marker lines of a page."""

import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from html import escape
from importlib.metadata import version
from pathlib import Path

from .timing import THREADS

OURS, THEIRS, BOUND, INK = "#0a7d5a", "#9aa4b2", "#b3261e", "#24292f"


@dataclass(frozen=True)
class Page:
    """What one section has to say: in docs/benchmarks.md, in README.md, and its charts by file name."""

    body: str
    readme: str = ""
    charts: Mapping[str, str] = field(default_factory=dict)


def markers(section: str) -> tuple[str, str]:
    return f"<!-- python -m bench {section}: begin -->", f"<!-- python -m bench {section}: end -->"


def merged(page: str, section: str, body: str) -> str:
    """Put a new body between the markers of a section, leaving the rest of the page as it is."""
    begin, end = markers(section)
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(
            f"the page has no lines {begin} and {end} to write between; add them where the section belongs"
        )
    return f"{before}{begin}\n{body}\n{end}{after}"


def table(header: Sequence[str], lines: Iterable[Sequence[str]], *, text: int = 1) -> str:
    """Lay out a table whose first `text` columns are words and the others numbers."""
    rule = ["---"] * text + ["---:"] * (len(header) - text)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def provenance(section: str, *packages: str) -> str:
    """Say when, on what machine and with which versions a section was measured."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return (
        f"Measured on {date.today().isoformat()} by `python -m bench {section}`: {cpu_name()}, {THREADS} CPUs, "
        f"{memory()}{platform.system()} {platform.release()}, Python {platform.python_version()}"
        + (f", {versions}." if versions else ".")
    )


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory, "
    except (AttributeError, ValueError, OSError):
        return ""


def svg(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    size = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13"'
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>
<title>{escape(title)}</title>
<rect width="{width}" height="{height}" fill="#fff"/>
{chr(10).join(parts)}
</svg>
"""


def words(x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{more}>{escape(text)}</text>'


def bars(title: str, entries: Sequence[tuple[str, float, str, bool]], bound: tuple[float, str]) -> str:
    """Draw horizontal bars, one for each (name, length, label, whether it is ours), and a bound as a line."""
    left, width, step, top = 280, 390, 26, 44
    end = top + step * len(entries)
    scale = width / max(length for _, length, _, _ in entries)
    parts = [words(left, 24, title, more=' font-size="15" font-weight="bold"')]
    for number, (name, length, label, ours) in enumerate(entries):
        y = top + step * number
        parts += [
            words(left - 8, y + 14, name, anchor="end"),
            f'<rect x="{left}" y="{y}" width="{max(length * scale, 1):.1f}" height="18" rx="2" '
            f'fill="{OURS if ours else THEIRS}"/>',
            words(left + length * scale + 6, y + 14, label),
        ]
    x = left + bound[0] * scale
    parts += [
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 6}" y2="{end}" stroke="{BOUND}"/>',
        words(x, end + 14, bound[1], colour=BOUND, more=' font-size="11"'),
    ]
    return svg(810, end + 26, title, parts)


Series = Mapping[str, Sequence[tuple[float, float]]]  # by name: points with x and y above 0


def lines(title: str, panels: Sequence[tuple[str, Series]]) -> str:
    """Draw panels one below the other over the same x, each named by what its y is; all axes are logarithmic.

    At most three series, named at the top right of their panel.
    """
    left, width, top, height, gap = 80, 660, 60, 170, 40
    xs = [x for _, series in panels for points in series.values() for x, _ in points]
    low_x, high_x = decades(xs)
    parts = [words(left, 24, title, more=' font-size="15" font-weight="bold"')]
    for number, (name, series) in enumerate(panels):
        y_top = top + number * (height + gap)
        low, high = decades([y for points in series.values() for _, y in points])

        def at(x: float, y: float, y_top: int = y_top, low: int = low, high: int = high) -> tuple[float, float]:
            across, up = (math.log10(x) - low_x) / (high_x - low_x), (math.log10(y) - low) / (high - low)
            return left + width * across, y_top + height * (1 - up)

        parts.append(words(left, y_top - 8, name))
        for power in range(low, high + 1):
            _, y = at(10**low_x, 10**power)
            parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d8dee4"/>')
            parts.append(words(left - 8, y + 4, f"{10**power:,}" if power >= 0 else f"{10**power}", anchor="end"))
        for power in range(low_x, high_x + 1):
            x, _ = at(10**power, 10**low)
            parts.append(words(x, y_top + height + 16, f"10{str(power).translate(SUPERSCRIPTS)}", anchor="middle"))
        for place, (colour, (label, points)) in enumerate(zip((OURS, BOUND, THEIRS), series.items(), strict=False)):
            placed = [at(x, y) for x, y in points]
            joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
            parts.append(words(left + width - 90 * place, y_top - 8, label, anchor="end", colour=colour))
    return svg(780, top + len(panels) * (height + gap), title, parts)


SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def decades(values: Iterable[float]) -> tuple[int, int]:
    """The powers of ten that hold all values between them, at least one apart."""
    values = list(values)
    low = math.floor(math.log10(min(values)))
    return low, max(math.ceil(math.log10(max(values))), low + 1)
