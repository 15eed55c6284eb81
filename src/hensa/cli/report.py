"""`hensa report`."""

import os
from enum import StrEnum
from typing import Annotated

import hensa.report
from hensa.cli.options import keep_apart, with_format
from hensa.files import replacing
from hensa.terminal import Run, say, typer

__all__ = ["report"]


class PageLang(StrEnum):
    """The language of a page."""

    en = "en"
    ja = "ja"


def scored(path: str) -> str:
    if path == "-":
        raise typer.BadParameter("a report tells of a file and the record kept with it; name a file")
    return path if os.path.isdir(path) else with_format(path)


def report(
    source: Annotated[
        str,
        typer.Argument(metavar="SCORED", callback=scored, help="A file or dataset that hensa wrote."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE.html", help="The page; - is stdout.")],
    lang: Annotated[PageLang, typer.Option(help="Language of the page.")] = PageLang.en,
    hide_ids: Annotated[bool, typer.Option("--hide-ids", help="Leave out the ids of rows.")] = False,
    id: Annotated[str, typer.Option("--id", metavar="NAME", help="The column of ids.")] = "referrer_id",
) -> None:
    """Tell of the run that wrote SCORED, as one page of HTML that needs no network.

    What it paid and to whom, the population, scores and rates, how points are shared out, and how the file was made. Of
    a comparison or a restatement: who gains, who loses, and the largest changes.
    """
    keep_apart(output, source)
    run = Run()
    with replacing(output) as file, run.progress, run.stage("report"):
        page = hensa.report.report(source, lang.value, hide_ids=hide_ids, id=id).encode()
        file.write(page)
    say(f"{len(page):,} bytes of HTML in {sum(run.times.values()):.2f} s")
