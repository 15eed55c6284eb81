"""The compiled loops. One source is built once per instruction set; the best build that this CPU runs is chosen here.

Every build does the same integer and IEEE 754 operations in the same order, so they differ in speed alone.
``HENSA_KERNEL`` names a build to use instead: ``baseline``, ``x86-64-v3`` or ``x86-64-v4``.
"""

import importlib
import os
import platform
from types import ModuleType

import pyarrow as pa

from hensa.errors import HensaError

__all__ = ["active", "builds", "name"]


def runnable() -> tuple[str, ...]:
    """The builds that this CPU runs, best first.

    Arrow reads the CPU's features; every CPU with AVX2 on which Arrow runs has the rest of x86-64-v3, and Arrow's
    "avx512" is the F, CD, BW, DQ and VL of x86-64-v4.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ("baseline",)
    level = pa.runtime_info().detected_simd_level
    return {"avx512": ("x86-64-v4", "x86-64-v3", "baseline"), "avx2": ("x86-64-v3", "baseline")}.get(
        level, ("baseline",)
    )


def load(build: str) -> ModuleType:
    """Import one build; a build that is missing is an error, never replaced by another."""
    return importlib.import_module(f"hensa.kernels._{build.replace('-', '_')}")


def _choose() -> str:
    wanted = os.environ.get("HENSA_KERNEL")
    if wanted and wanted not in builds:
        raise HensaError(f"HENSA_KERNEL is {wanted!r}, but this CPU runs only {', '.join(builds)}.")
    return wanted or builds[0]


builds: tuple[str, ...] = runnable()
"""Names of the builds that this CPU runs, best first."""

name: str = _choose()
"""Name of the build in use."""

active: ModuleType = load(name)
"""The build in use."""
