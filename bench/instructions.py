"""Instructions that the kernels execute on fixed inputs, counted by Valgrind, against those kept in instructions.json.

    python -m bench.instructions              count and compare
    python -m bench.instructions --record     count and keep, for the compiler that made the kernels here

Counts repeat where times do not: only what the kernels' own modules execute is counted, on one thread, so neither the
machine nor its load changes them. The compiler does, so counts are kept for each one, and for each build.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

import hensa
from hensa import kernels

from .column_types import KINDS, SHAPES, rows_of

Counts = dict[str, dict[str, int]]  # by build and case

KEPT = Path(__file__).with_suffix(".json")
MARGIN = 0.05
ROWS = 1 << 15
SCORED = ("int8", "int32", "int64", "float32", "float64", "bool", "decimal128", "int64, full range")
"""Kinds of columns for pass 2, each with loops of its own."""
COLUMNS = ("score", "step", "rate", "reward", "new_referrals_score")


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    """Name every case and make its call, with inputs made and everything checked that is checked once."""
    program = hensa.Program.load("hapitas-friend")
    for kind in KINDS:
        for shape in SHAPES if kind in ("int32", "float64") else ("dense",):
            table = rows_of(kind, shape, ROWS)
            yield f"pass 1, {kind}, {shape}", partial(hensa.population, table, program, threads=1)
            if kind == "int32" or (kind in SCORED and shape == "dense"):
                population = hensa.population(table, program, threads=1)
                score = partial(hensa.score, table, program, population=population, threads=1)
                yield f"pass 2, {kind}, {shape}", score
    for kind in ("int32", "float64"):
        table = rows_of(kind, "dense", ROWS)
        welford = partial(hensa.population, table, program, method="welford", threads=1)
        yield f"pass 1, {kind}, dense, Welford's method", welford
        for key, cohorts in (("int64", "cohorts"), ("string", "cohorts by text")):
            keys = pa.array(np.arange(ROWS) * 7919 % 1_000).cast(key)
            by = partial(hensa.score, table.append_column("key", keys), program, by="key", threads=1)
            yield f"both passes, {kind}, dense, 1,000 {cohorts}", by
    table = rows_of("int32", "dense", ROWS)
    yield (
        "pass 2, int32, dense, all columns",
        partial(hensa.score, table, program, population=hensa.population(table, program), columns=COLUMNS, threads=1),
    )


def mark() -> None:
    """Call what nothing else calls, so that Valgrind writes down and begins anew."""
    os.getppid()


def run() -> None:
    """Run every case in every build, with a mark before the first of a build and after each."""
    calls, parts = dict(cases()), []
    for build in kernels.builds:
        kernels.name, kernels.active = build, kernels.load(build)
        next(iter(calls.values()))()
        mark()
        parts.append((build, None))
        for case, call in calls.items():
            call()
            mark()
            parts.append((build, case))
    print(json.dumps(parts))


def count() -> Counts:
    """Run under Valgrind and read what it wrote.

    Raises
    ------
    RuntimeError
        Valgrind failed, wrote another number of parts than there are marks, or counted nothing in a kernel.
    """
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # Valgrind replaces malloc
        "OPENBLAS_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--callgrind-out-file={folder}/counts", "--dump-before=getppid"]
        options += ["--compress-strings=no", "--dump-line=no"]
        command = ["valgrind", "--tool=callgrind", *options, sys.executable, "-m", "bench.instructions", "run"]
        valgrind = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1]
        )
        if valgrind.returncode:
            raise RuntimeError(f"valgrind ended with exit code {valgrind.returncode}:\n{valgrind.stderr}")
        parts = json.loads(valgrind.stdout)
        if len(list(Path(folder).iterdir())) != len(parts) + 1:  # the last is what came after the last mark
            raise RuntimeError("Something else than bench.instructions called getppid; its parts cannot be told apart.")
        counts: Counts = {}
        for number, (build, case) in enumerate(parts, 1):
            if case is None:
                continue
            by_function = instructions_in(Path(folder, f"counts.{number}"), Path(kernels.load(build).__file__).name)
            counts.setdefault(build, {})[case] = sum(by_function.values())
            if not by_function:
                raise RuntimeError(f"Valgrind counted nothing in the build {build} for {case}.")
    return counts


def instructions_in(path: Path, module: str) -> Counter[str]:
    """Add up what the functions of one kernel executed themselves, in a file of Callgrind with uncompressed names.

    Functions that Cython adds to every module are left out: their names do not have hensa's. A line of numbers is a
    place and a cost; the one after `calls=` is what the callee executed, which is its own.
    """
    counts: Counter[str] = Counter()
    inside, function, called = False, "", False
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("ob="):
                inside = Path(line[3:].strip()).name == module
            elif line.startswith("fn="):
                function = line[3:].strip()
            elif line.startswith("calls="):
                called = True
            elif line[0] in "0123456789+-*":
                if inside and not called and "hensa" in function:
                    counts[function] += int(line.split()[1])
                called = False
    return counts


def compiler() -> str:
    """Name the compiler that made the kernels in use here, as it wrote into them.

    >>> compiler() == "an unknown compiler" or compiler().split()[0] in ("GCC", "clang")
    True
    """
    text = Path(kernels.active.__file__).read_bytes()
    found = re.search(rb"(GCC): \(.*?\) ([\d.]+)|(clang) version ([\d.]+)", text)
    return " ".join(part.decode() for part in found.groups() if part) if found else "an unknown compiler"


def kept() -> dict[str, Counts]:
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def differences(counted: Counts, expected: Counts) -> list[str]:
    """Say where counts differ by more than the margin, in either direction, or where there is none to compare with."""
    lines = []
    for build in sorted({*counted, *expected}):
        now, then = counted.get(build, {}), expected.get(build, {})
        for case in sorted({*now, *then}):
            if case not in now or case not in then:
                lines.append(f"{build}: {case}: {'no longer counted' if case in then else 'not kept'}")
            elif abs(now[case] - then[case]) > MARGIN * then[case]:
                change = now[case] / then[case] - 1
                lines.append(f"{build}: {case}: {now[case]:,} instructions, kept {then[case]:,} ({change:+.1%})")
    return lines


def record(counted: Counts, name: str) -> None:
    KEPT.write_text(json.dumps({**kept(), name: counted}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    if sys.argv[1:] == ["run"]:
        return run()
    if sys.argv[1:] not in ([], ["--record"]):
        raise SystemExit(__doc__)
    name, counted = compiler(), count()
    for line in differences(counted, kept().get(name, {})):
        print(line)
    if sys.argv[1:]:
        record(counted, name)
        print(f"kept for {name}: {sum(map(len, counted.values()))} counts of {', '.join(counted)}")
    return None


if __name__ == "__main__":
    main()
