"""Exact batch scoring over Arrow columns: standard scores, rates and reward points."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hensa import kernels
from hensa.errors import ColumnError, DataError, HensaError, ProgramError
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
from hensa.sample import sample, sample_ledger
from hensa.scoring import score

if TYPE_CHECKING:
    from hensa import reference
    from hensa.comparison import Comparison, Solution, Tally, compare, solve
    from hensa.dataset import score_dataset
    from hensa.events import Board, Compensation, Event, Prize, compensate, rank
    from hensa.explanation import Explanation, explain
    from hensa.ledger import friend_rows, referrer_rows
    from hensa.manifest import Manifest
    from hensa.next_step import to_next_step
    from hensa.restatement import Restatement, restate
    from hensa.simulator import simulator_page

__version__ = "0.1.0"

__all__ = [
    "Board",
    "Bonus",
    "Campaign",
    "ColumnError",
    "Comparison",
    "Compensation",
    "Criterion",
    "DataError",
    "Event",
    "Explanation",
    "HensaError",
    "Manifest",
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
    "friend_rows",
    "kernels",
    "population",
    "rank",
    "reference",
    "referrer_rows",
    "restate",
    "sample",
    "sample_ledger",
    "score",
    "score_dataset",
    "simulator_page",
    "solve",
    "to_next_step",
]


_WHEN_ASKED_FOR = {
    "comparison": ("Comparison", "Solution", "Tally", "compare", "solve"),
    "dataset": ("score_dataset",),
    "events": ("Board", "Compensation", "Event", "Prize", "compensate", "rank"),
    "explanation": ("Explanation", "explain"),
    "ledger": ("friend_rows", "referrer_rows"),
    "manifest": ("Manifest",),
    "next_step": ("to_next_step",),
    "restatement": ("Restatement", "restate"),
    "simulator": ("simulator_page",),
}
"""Names by room: what scoring does not need is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name == "reference":
        return import_module("hensa.reference")
    for room, names in _WHEN_ASKED_FOR.items():
        if name in names:
            return getattr(import_module(f"hensa.{room}"), name)
    raise AttributeError(f"module 'hensa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
