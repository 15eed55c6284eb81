"""The compiled loops. One source is built once per instruction set; the best build that this CPU runs is chosen here.

Every build does the same integer and IEEE 754 operations in the same order, so they differ in speed alone.
``HENSA_KERNEL`` names a build to use instead: ``baseline`` or ``x86-64-v3``.
"""

import importlib
import os
import platform
from types import ModuleType
from typing import Any

import pyarrow as pa

from hensa.errors import HensaError

__all__ = ["active", "builds", "name"]


def runnable() -> tuple[str, ...]:
    """The builds that this CPU runs, best first.

    Arrow reads the CPU's features; every CPU with AVX2 on which Arrow runs has the rest of x86-64-v3.
    """
    if platform.machine().lower() in ("x86_64", "amd64") and pa.runtime_info().detected_simd_level in (
        "avx2",
        "avx512",
    ):
        return ("x86-64-v3", "baseline")
    return ("baseline",)


def load(build: str) -> ModuleType:
    """Import one build; a build that is missing is an error, never replaced by another."""
    return importlib.import_module(f"hensa.kernels._{build.replace('-', '_')}")


builds: tuple[str, ...] = runnable()
"""Names of the builds that this CPU runs, best first."""

name: str
"""Name of the build in use."""

active: ModuleType
"""The build in use."""


def __getattr__(attribute: str) -> Any:
    """Chooses the build when it is first looked at, so that a wrong HENSA_KERNEL is an error like any other."""
    if attribute not in ("name", "active"):
        raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
    wanted = os.environ.get("HENSA_KERNEL") or builds[0]
    if wanted not in builds:
        raise HensaError(f"HENSA_KERNEL is {wanted!r}, but this CPU runs only {', '.join(builds)}.")
    globals().update(name=wanted, active=load(wanted))
    return globals()[attribute]
