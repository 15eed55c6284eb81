"""The command `hensa`: arguments in, library calls, tables and bars out; each module has a family of commands.

Data goes to standard output, messages to standard error. Exit codes: 0 done, 1 the data or the run failed, 2 bad usage.
"""

import gc
import os
import platform
import signal
import sys
from io import TextIOWrapper
from typing import Annotated

import numpy as np
import pyarrow as pa

import hensa
from hensa import kernels
from hensa.cli import compare, events, explain, ledger, programs, report, score, verify
from hensa.terminal import Commands, Stop, ending, show_cursor, typer

__all__ = ["app", "main"]


def version(wanted: bool) -> None:
    if wanted:
        with ending():
            print(f"hensa {hensa.__version__}, kernel {kernels.name}")
            print(f"Python {platform.python_version()}, pyarrow {pa.__version__}, numpy {np.__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show versions and the kernel, and exit.")
    ] = False,
) -> None:
    """Score populations: the mean and SD over all rows give every row a score, a rate and reward points."""


for command in (
    score.score,
    score.population,
    events.rank,
    events.restate,
    events.compensate,
    explain.explain,
    explain.next_step,
    compare.compare,
    ledger.rows,
    ledger.sample,
    report.report,
    verify.verify,
):
    app.command()(command)
app.add_typer(programs.programs, name="programs")


def main() -> None:
    """Run the command `hensa`."""
    try:
        with ending():
            Stop.at(signal.SIGINT, KeyboardInterrupt())
            Stop.at(signal.SIGTERM, SystemExit(143))
            set_up()
            app(prog_name="hensa")
    finally:
        show_cursor()


def set_up() -> None:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # titles are in any script, terminals are not
    # Arrow's own choice gives pages back within milliseconds, and every part of a file would have them cleared again.
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ and "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    sys.meta_path.insert(0, NoPandas)
    gc.freeze()  # what is imported stays: going through it again and again is a sixth of a small run


class NoPandas:
    """Has pandas not be there: the command needs none, and pyarrow would import it, for a fifth of a second, as soon as
    it makes an array, to see whether that is made of one of pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"{name} is not for the command hensa", name=name)
