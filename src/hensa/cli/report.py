"""`hensa report`."""

import os
from enum import StrEnum
from typing import Annotated

import hensa
import hensa.report
from hensa.cli.options import DEFAULT, DEFAULT_ID, keep_apart, program_by_default, stored_population, there, with_format
from hensa.errors import HensaError
from hensa.files import naming, read, replacing
from hensa.population import Population
from hensa.program import Program
from hensa.simulator import simulator_page
from hensa.terminal import Run, say, typer

__all__ = ["report"]


class PageLang(StrEnum):
    """The language of a page."""

    en = "en"
    ja = "ja"


def scored(path: str) -> str:
    if path == "-":
        raise typer.BadParameter("a report tells of a file and the record kept with it; name a file")
    return path if os.path.isdir(path) or is_population(path) else with_format(there(path))


def is_population(path: str) -> bool:
    return path.lower().endswith(".json")


def page(path: str) -> str:
    if path != "-" and not path.lower().endswith((".html", ".htm")):
        raise typer.BadParameter(f"{path} ends in none of .html, .htm")
    return path


@program_by_default
def report(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            callback=scored,
            help="A file or dataset that hensa wrote; with --simulator a population (FILE.json), or rows.",
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE.html", callback=page, help="The page; - is stdout.")
    ],
    lang: Annotated[PageLang, typer.Option(help="Language of the page.")] = PageLang.en,
    hide_ids: Annotated[bool, typer.Option("--hide-ids", help="Leave out the ids of rows.")] = False,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"The column of ids, by default {DEFAULT_ID}.")
    ] = None,
    simulator: Annotated[
        bool,
        typer.Option("--simulator", help="Make a page where members type their numbers and see their rate instead."),
    ] = False,
    program: Annotated[
        str | None,
        typer.Option(
            "--program",
            "-p",
            metavar="NAME|FILE",
            help=f"With --simulator: the rules, by default {DEFAULT}.",
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="With --simulator: show this program too; may be given several times."),
    ] = None,
) -> None:
    """Tell of the run that wrote IN as a page that needs no network.

    What it paid and to whom, the population, scores and rates, how points are shared out, and how the file was made. Of
    a comparison or a restatement: who gains, who loses, and the largest changes.

    With --simulator the page is for members: they type their numbers and see score, step, rate and points, and what the
    next step takes. It is made from the population and the rules alone, and holds no row.
    """
    if simulator and (hide_ids or id_column is not None):
        raise typer.BadParameter("--id-column and --hide-ids are of reports; a simulator has no rows")
    if not simulator and (program or beside or is_population(source)):
        raise typer.BadParameter(
            "a population, --program and --beside are for --simulator; the run names its own rules"
        )
    keep_apart(output, source, program, *(beside or ()))
    run = Run()
    with replacing(output) as file, run.progress, run.stage("report"):
        if simulator:
            rules, *others = (Program.load(name) for name in (program or DEFAULT, *(beside or ())))
            with naming(source):
                population = population_of(source, rules)
            text = simulator_page(rules, population, others, lang.value)
        else:
            text = hensa.report.report(source, lang.value, hide_ids=hide_ids, id=id_column)
        written = text.encode()
        file.write(written)
    say(f"{len(written):,} bytes of HTML in {sum(run.times.values()):.2f} s")


def population_of(path: str, rules: Program) -> Population:
    """The population of a file of one, or of rows; rules without scores, which get no page, need none."""
    if not rules.measures:
        return Population(0, 0)
    stored = stored_population(path if is_population(path) else None, None)
    population = hensa.population(read(path, rules.columns), rules) if stored is None else stored
    if not population.count:
        raise HensaError("the population is empty; a simulator needs one of at least one row")
    return population
