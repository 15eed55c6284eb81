"""Exact batch scoring over Arrow columns: standard scores, rates and reward points."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hensa import kernels
from hensa.compare import Comparison, Solution, Tally, compare, solve
from hensa.errors import DataError, HensaError, ProgramError
from hensa.events import Board, Compensation, Event, Prize, compensate, rank
from hensa.explain import Explanation, explain
from hensa.further import to_next_step
from hensa.moments import Moments
from hensa.population import Population, population
from hensa.program import (
    Bonus,
    Campaign,
    Criterion,
    Measure,
    Minimum,
    PaidEvent,
    PerEvent,
    Program,
    RateTable,
    Reward,
    Stages,
    StandardScore,
    Step,
)
from hensa.restate import Restatement, restate
from hensa.sample import sample, sample_ledger
from hensa.scoring import score

if TYPE_CHECKING:
    from hensa import reference
    from hensa.ledger import referrer_rows

__version__ = "0.1.0"

__all__ = [
    "Board",
    "Bonus",
    "Campaign",
    "Comparison",
    "Compensation",
    "Criterion",
    "DataError",
    "Event",
    "Explanation",
    "HensaError",
    "Measure",
    "Minimum",
    "Moments",
    "PaidEvent",
    "PerEvent",
    "Population",
    "Prize",
    "Program",
    "ProgramError",
    "RateTable",
    "Restatement",
    "Reward",
    "Solution",
    "Stages",
    "StandardScore",
    "Step",
    "Tally",
    "compare",
    "compensate",
    "explain",
    "kernels",
    "population",
    "rank",
    "reference",
    "referrer_rows",
    "restate",
    "sample",
    "sample_ledger",
    "score",
    "solve",
    "to_next_step",
]


def __getattr__(name: str) -> Any:
    """Imports the reference when it is first asked for: a fifth of what importing hensa takes beyond Arrow.

    And the ledger, which reads files.
    """
    if name == "reference":
        return import_module("hensa.reference")
    if name == "referrer_rows":
        return import_module("hensa.ledger").referrer_rows
    raise AttributeError(f"module 'hensa' has no attribute {name!r}")
