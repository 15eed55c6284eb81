"""Builds the kernels: one source, one extension per instruction set; everything else is in pyproject.toml.

HENSA_DEBUG=1     no optimisation, C assertions, debug symbols
HENSA_SANITIZE=1  AddressSanitizer and UndefinedBehaviorSanitizer (gcc or clang)
"""

import os
import platform
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

MSVC = sys.platform == "win32" and "GCC" not in sys.version
DEBUG = os.environ.get("HENSA_DEBUG") == "1"
SANITIZE = os.environ.get("HENSA_SANITIZE") == "1"

# Floating point is the same in every build: no contraction to fused multiply-adds, no fast-math.
# Warnings are errors. Cython's own C leaves functions and variables unused when a .pxi is shared.
if MSVC:
    COMMON = ["/O2", "/fp:precise", "/W3", "/WX", "/wd4244", "/wd4267", "/wd4101", "/wd4551"]
    LEVELS = {"_x86_64_v3": ["/arch:AVX2"], "_x86_64_v4": ["/arch:AVX512"]}
else:
    COMMON = [
        "-O3",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unused-function",
        "-Wno-unused-parameter",
        "-Wno-missing-field-initializers",
    ]
    LEVELS = {"_x86_64_v3": ["-march=x86-64-v3"], "_x86_64_v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}
LINK: list[str] = []
if DEBUG:
    COMMON += ["/Od"] if MSVC else ["-O0", "-g"]
if SANITIZE:
    COMMON += [
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
        "-fno-omit-frame-pointer",
        "-O1",
        "-g",
    ]
    LINK += ["-fsanitize=address,undefined"]


def machine() -> str:
    """The target: cibuildwheel and cross-compilers on macOS say it in ARCHFLAGS."""
    flags = os.environ.get("ARCHFLAGS", "")
    return flags.split()[-1] if flags else platform.machine().lower()


names = ["_baseline", *(LEVELS if machine() in ("x86_64", "amd64") else ())]
setup(
    ext_modules=cythonize(
        [
            Extension(
                f"hensa.kernels.{name}",
                [f"src/hensa/kernels/{name}.pyx"],
                extra_compile_args=COMMON + LEVELS.get(name, []),
                extra_link_args=LINK,
                depends=[f"src/hensa/kernels/{part}.pxi" for part in ("columns", "totals", "floats", "moments", "cohorts", "score")],
            )
            for name in names
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": False,
            "freethreading_compatible": True,
        },
    )
)
