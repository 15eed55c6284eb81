"""Measure hensa and its peers, section by section, and render docs/benchmarks.md and the charts of README.md.

    python -m bench                           all sections
    python -m bench memory types              some of: memory, types, small, cohorts, files,
                                              datasets, growth
    python -m bench files --large             with 100 million rows, too
    python -m bench cohorts --rows 1000000    another size
    python -m bench --quick                   smaller, printed only

Whatever stands outside the marker lines of the sections that ran is kept.
"""

import argparse
from pathlib import Path

from . import cohorts, column_types, datasets, files, growth, memory, small
from .page import Page, merged
from .peers import REGISTRY
from .timing import ROOT, Settings, progress

SECTIONS = {
    "memory": memory,
    "types": column_types,
    "small": small,
    "cohorts": cohorts,
    "files": files,
    "datasets": datasets,
    "growth": growth,
}


def write(root: Path, section: str, page: Page) -> None:
    """Put a section's tables, charts and summary where they belong under the root of the project."""
    for path, body in ((root / "docs" / "benchmarks.md", page.body), (root / "README.md", page.readme)):
        if body:
            path.write_text(merged(path.read_text(encoding="utf-8"), section, body), encoding="utf-8")
    for name, drawing in page.charts.items():
        (root / "docs" / name).write_text(drawing, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="default: all")
    parser.add_argument("--rows", type=int, help="rows, instead of each section's own (growth: at most)")
    parser.add_argument("--rounds", type=int, help="rounds that count, instead of each section's own")
    parser.add_argument("--large", action="store_true", help="files of 100 million rows, too")
    parser.add_argument("--quick", action="store_true", help="smaller sizes without ties, printed and not written")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(REGISTRY),
        metavar="NAME",
        help="in memory, take only this contestant, printed and not written; may be repeated",
    )
    given = parser.parse_args()
    for name in given.sections:
        if name not in SECTIONS:
            parser.error(f"{name} is not a section; there are {', '.join(SECTIONS)}")
    settings = Settings(given.rows, given.rounds, given.large, given.quick, tuple(given.only or ()))
    for name in given.sections or SECTIONS:
        progress(f"==== {name}")
        page = SECTIONS[name].render(SECTIONS[name].measure(settings))
        print(page.body, flush=True)
        if not (given.quick or given.only):
            write(ROOT, name, page)


if __name__ == "__main__":
    main()
