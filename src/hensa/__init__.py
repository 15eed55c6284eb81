"""Exact batch scoring over Arrow columns: standard scores, rates and reward points."""

from importlib.metadata import version

from hensa import kernels, reference
from hensa.errors import DataError, HensaError, ProgramError
from hensa.moments import Moments
from hensa.population import Population, population
from hensa.program import Measure, Program, RateTable, Reward, StandardScore, Step
from hensa.sample import sample
from hensa.scoring import score

__version__ = version("hensa")

__all__ = [
    "DataError",
    "HensaError",
    "Measure",
    "Moments",
    "Population",
    "Program",
    "ProgramError",
    "RateTable",
    "Reward",
    "StandardScore",
    "Step",
    "kernels",
    "population",
    "reference",
    "sample",
    "score",
]
