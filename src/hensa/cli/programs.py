"""`hensa programs`: list, show and check."""

from decimal import Decimal
from itertools import pairwise
from typing import Annotated

from hensa.counts import Count
from hensa.program import PerEvent, Program, RateTable, Rule, Stages, StandardScore, Step
from hensa.terminal import typer

__all__ = ["programs"]

programs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show and check programs (the rules).")


@programs.command("list")
def list_programs() -> None:
    """List the built-in programs."""
    for name in Program.names():
        print(f"{name}\t{Program.load(name).title}")


@programs.command()
def check(file: Annotated[str, typer.Argument(metavar="FILE", help="A program, in TOML.")]) -> None:
    """Check a program: exit code 0 if it is valid.

    Otherwise one sentence says what is wrong.
    """
    program = Program.load(file)
    match program.rule:
        case StandardScore():
            what = f"{Count(len(program.measures)):measure} and {Count(len(program.rate_table.steps)):step}"
        case Stages():
            criteria, stages = Count(len(program.rule.criteria)), Count(len(program.rate_table.steps))
            what = f"{criteria:criterion|criteria} and {stages:stage}"
        case PerEvent():
            what = f"{Count(len(program.rule.events)):event} and {Count(len(program.rule.campaigns)):campaign}"
    print(f"{file}: {program.name} is valid, with {what}")


@programs.command()
def show(name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A built-in program or a TOML file.")]) -> None:
    """Print a program: its rule and its rates.

    In brackets is the standing of each part.
    """
    program = Program.load(name)
    rates, reward = program.rates, program.reward
    parts: dict[str, object] = {
        "title": program.title,
        **({"title_ja": program.title_ja} if program.title_ja else {}),
        "effective_from": program.effective_from,
        "effective_until": program.effective_until,
        **rule_parts(program.rule),
    }
    if rates is not None:
        parts |= {f"rates.{key}": getattr(rates, key) for key in ("unit", "below", "outside")}
        parts["rates.steps"] = f"{len(rates.steps):,}, as follows"
    if reward is not None:
        parts |= {f"reward.{key}": getattr(reward, key) for key in ("base", "rounding", "cap", "negative")}
    print(program.name)
    for key, value in parts.items():
        print(f"{key:<16} {'none' if value is None else value}{mark(program.standing.get(key))}")
    match program.rule:
        case StandardScore():
            show_steps(program.rate_table)
        case Stages():
            show_stages(program.rule, program.rate_table)
        case PerEvent():
            show_events(program.rule)


def rule_parts(rule: Rule) -> dict[str, object]:
    """What a rule says, key by key, but for the minimums and bonuses of stages."""
    match rule:
        case StandardScore():
            measures = (
                f"{measure.column} (weight {measure.weight}{', negative: error' * (measure.negative == 'error')})"
                for measure in rule.measures
            )
            return {
                "rule.kind": "standard-score",
                "rule.measures": ", ".join(measures),
                **{f"rule.{key}": getattr(rule, key) for key in ("scale", "centre", "ddof", "constant")},
            }
        case Stages():
            criteria = (f"{c.column}{' (negative: error)' * (c.negative == 'error')}" for c in rule.criteria)
            return {
                "rule.kind": "stage",
                "rule.criteria": " or ".join(criteria),
                "rule.previous": rule.previous,
                "rule.bonuses": f"{len(rule.bonuses)}, as follows" if rule.bonuses else None,
            }
        case PerEvent():
            return {
                "rule.kind": "per-event",
                "rule.events": f"{len(rule.events)}, as follows",
                "rule.campaigns": f"{len(rule.campaigns)}, as follows" if rule.campaigns else None,
            }


def show_events(rule: PerEvent) -> None:
    width = max(16, *(len(event.column) for event in rule.events))
    print(f"\n{'event':<{width}} points to the referrer and to the friend")
    for event in rule.events:
        negative = ", negative: allow" * (event.negative == "allow")
        print(f"{event.column:<{width}} {event.referrer:,} and {event.friend:,}{negative}{mark(event.standing)}")
    for campaign in rule.campaigns:
        when = f"from {campaign.effective_from} to {campaign.effective_until}"
        amounts = f"{campaign.referrer:,} and {campaign.friend:,}"
        print(f"{campaign.column:<{width}} {amounts} {when}{mark(campaign.standing)}")


def show_stages(rule: Stages, rates: RateTable) -> None:
    print(f"\n{'stage':<16} rate")
    bonuses = {bonus.stage: f", once {Count(bonus.points):point}{mark(bonus.standing)}" for bonus in rule.bonuses}
    for stage, step in enumerate(rates.steps, start=1):
        minimums = " or ".join(
            f"{criterion.column} {entry.minimum:,}{mark(entry.standing)}"
            for criterion in rule.criteria
            for entry in criterion.minimums
            if entry.stage == stage
        )
        rate = f"{step.rate}{unit_of(rates)}{mark(step.standing)}"
        print(f"{stage:<16} {rate} from {minimums}{bonuses.get(stage, '')}")


def unit_of(rates: RateTable) -> str:
    return "%" if rates.unit == "percent" else ""


def show_steps(rates: RateTable) -> None:
    print(f"\n{'score from':<16} rate")
    unit = unit_of(rates)
    for run in step_runs(rates):
        first, last = run[0], run[-1]
        if len(run) > 2:
            rises = sorted({after.rate - before.rate for before, after in pairwise(run)})
            rise = " or ".join(f"{rise:+}" for rise in rises)
            steps = f"{first.threshold} to {last.threshold}", f"{first.rate}{unit} to {last.rate}{unit}, {rise} a step"
            print(f"{steps[0]:<16} {steps[1]}{mark(first.standing)}")
        else:
            for step in run:
                print(f"{step.threshold!s:<16} {step.rate}{unit}{mark(step.standing)}")


def step_runs(rates: RateTable) -> list[list[Step]]:
    """The steps, together while standing and spacing are the same and the rates rise alike up to their rounding."""
    last_digit = min(Decimal((0, (1,), int(step.rate.as_tuple().exponent))) for step in rates.steps)
    runs: list[list[Step]] = []
    for step in rates.steps:
        run = runs[-1] if runs else []
        fits = bool(run) and step.standing == run[0].standing
        if fits and len(run) > 1:
            spacing, rise = run[1].threshold - run[0].threshold, run[1].rate - run[0].rate
            fits = step.threshold - run[-1].threshold == spacing and abs(step.rate - run[-1].rate - rise) <= last_digit
        if fits:
            run.append(step)
        else:
            runs.append([step])
    return runs


def mark(standing: str | None) -> str:
    return f" [{standing}]" if standing else ""
