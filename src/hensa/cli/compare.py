"""`hensa compare`."""

import json
import re
from contextlib import ExitStack, suppress
from fractions import Fraction
from typing import Annotated

import hensa
from hensa import audit
from hensa.audit import Fingerprints, RecordedPopulation, Rules
from hensa.cli.options import (
    AnyMonth,
    AsJson,
    Month,
    Source,
    Threads,
    check_record,
    in_groups,
    keep_apart,
    keep_stdout,
    not_like_a_table,
    run_of,
    writable_if_any,
)
from hensa.comparison import EDGES, Solution
from hensa.counts import Count
from hensa.errors import HensaError
from hensa.files import naming, read, replacing, write
from hensa.program import Program
from hensa.terminal import Run, console, costs_table, printer, say, say_no_bonuses, typer, winners_table

__all__ = ["compare"]


def compare(
    source: Source,
    program: Annotated[
        list[str],
        typer.Option("--program", "-p", metavar="NAME|FILE", help="Give two or more; the first is compared with."),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", callback=writable_if_any, help="The rows, with each reward."),
    ] = None,
    band: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also by bands of this column, such as a number of friends.")
    ] = None,
    edges: Annotated[str, typer.Option(metavar="N,...", help="Where the bands begin.")] = ",".join(map(str, EDGES)),
    budget: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Also the last program, its rates scaled to N points.")
    ] = None,
    scaled: Annotated[str | None, typer.Option(metavar="FILE.toml", help="Write that program to a file.")] = None,
    month: Month = None,
    any_month: AnyMonth = False,
    as_json: AsJson = False,
    threads: Threads = None,
) -> None:
    """Pay IN under several programs: who gains and who loses.

    By how much, in total and by bands, and what each program costs.
    """
    if not re.fullmatch("-?[0-9]+(,-?[0-9]+)*", edges):
        raise typer.BadParameter(f"--edges is {edges}; it must be whole numbers such as 1,10,100")
    keep_stdout(output, as_json)
    if scaled:
        not_like_a_table(scaled, "--scaled writes a program; name it FILE.toml")
    if scaled and budget is None:
        raise typer.BadParameter("--scaled writes what --budget finds; give both")
    rules = [Program.load(name) for name in program]
    for written in filter(None, (output, scaled)):
        keep_apart(written, source, *program)
    check_record(source, month, any_month)
    solution = None
    with ExitStack() as stack:
        run = Run()
        prints = stack.enter_context(Fingerprints(source))
        file = stack.enter_context(replacing(output)) if output else None
        scaled_file = stack.enter_context(replacing(scaled)) if scaled else None
        stack.enter_context(run.progress)
        with run.stage("read"):
            bands = [band] if band else []
            whole = [column for rule in rules for column in rule.whole_columns(rule.results)]
            columns = [column for rule in rules for column in rule.columns]
            try:
                rows = read(source, [*columns, *bands], [*whole, *bands])
            except HensaError as error:
                if band in columns or f", column {band}: " not in str(error):
                    raise
                told = f"{str(error).rstrip('.')}; --band takes a column of integers, such as a number of friends."
                raise HensaError(told) from error
        with suppress(HensaError):  # of a record of another version, say, which is not needed
            paid = run_of(source, rows if source == "-" else None)
            if paid is not None and paid.by:
                label = "standard input" if source == "-" else source
                say(f"{label} was scored in cohorts by {', '.join(paid.by)}; here all its rows are one population.")
        starts = tuple(int(edge) for edge in edges.split(","))
        with run.stage("compare"), naming(source):
            if budget is not None:
                solution = hensa.solve(rows, rules[-1], budget, threads=threads)
                rules.append(solution.program)
            found = hensa.compare(rows, rules, band, starts, threads, month, any_month)
        if solution is not None and scaled_file is not None and scaled is not None and budget is not None:
            scaled_file.write(solution.program.to_toml().encode())
            solved = audit.Solve(program=Rules.of(rules[-2]), budget=budget)
            prints.record(solved, (source, rows.num_rows)).beside(scaled_file, scaled)
        if file is not None and output is not None:
            given = rules[: len(program)]
            made = audit.Compare(
                programs=tuple(map(Rules.of, given)),
                populations=tuple(RecordedPopulation.of(hensa.population(rows, each)) for each in given),
                band=band,
                edges=starts,
                budget=budget,
                month=month,
                any_month=any_month,
            )
            record = prints.record(made, (source, rows.num_rows))
            with run.stage("write", total=rows.num_rows) as advance:
                write(file, output, record.on(found.rows.schema), in_groups(found.rows), advance)
    if as_json:
        facts = found.to_dict()
        if solution is not None:
            facts["solution"] = {
                "factor": str(solution.factor),
                "total": solution.total,
                "next_total": solution.next_total,
                "program": solution.program.to_toml(),
            }
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        target = console if output == "-" else printer
        first, *others = found.costs
        target.print(costs_table(found.costs, target.is_terminal))
        for name in others:
            target.print(f"\n{name} against {first}, in points", soft_wrap=True)
            target.print(winners_table(found.totals[name], found.bands[name], target.is_terminal))
    if solution is not None and budget is not None:
        say(f"{solution.program.name} has the rates of {rules[-2].name} times {solution.factor}")
        if solution.total < budget:
            say(f"It pays {Count(budget - solution.total):point} less than the budget: {limit_of(solution, rules[-2])}")
    for rule in rules[: len(program)]:
        say_no_bonuses(rule, found.rows.column_names)
    for name, points in found.friend_costs.items():
        say(f"{name} pays {Count(points):point} to friends besides")
    for name, total in found.totals.items():
        if total.missing:
            missing = Count(total.missing)
            say(f"{missing:row has|rows have} no reward under {next(iter(found.costs))} or {name}: not compared")
    run.report(rows.num_rows)


def limit_of(solution: Solution, program: Program) -> str:
    """What keeps a total below a budget."""
    assert program.rates is not None
    highest = max(program.rates.shares)
    if not highest:
        return "all rates are 0"
    if solution.next_total is None:
        return f"no rate may be above {float(max(highest, Fraction(1)) * 100):g}%"
    places = max(0, *(-int(step.rate.as_tuple().exponent) for step in solution.program.rate_table.steps))
    return f"the next factor pays {solution.next_total:,}, as rates have {Count(places):decimal place}"
