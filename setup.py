"""Builds the kernels: one source, one extension per instruction set; everything else is in pyproject.toml.

HENSA_STRICT=1    compiler warnings are errors, as in CI; a compiler that CI does not know may warn of more
HENSA_DEBUG=1     no optimisation, C assertions, debug symbols
HENSA_SANITIZE=1  AddressSanitizer and UndefinedBehaviorSanitizer (gcc or clang)
"""

import os
import platform
import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

MSVC = sys.platform == "win32" and "GCC" not in sys.version
STRICT = os.environ.get("HENSA_STRICT") == "1"
DEBUG = os.environ.get("HENSA_DEBUG") == "1"
SANITIZE = os.environ.get("HENSA_SANITIZE") == "1"

# Floating point is the same in every build: no contraction to fused multiply-adds, no fast-math.
# Cython's own C leaves functions, parameters and fields unused when .pxi files are shared; gcc 12 invents an overflow
# where it inlines a loop of unknown length over an array of known length.
if MSVC:
    COMMON = ["/O2", "/fp:precise", "/W3", "/wd4244", "/wd4267", "/wd4101", "/wd4551", *(["/WX"] if STRICT else [])]
    LEVELS = {"_x86_64_v3": ["/arch:AVX2"]}
else:
    COMMON = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"]
    COMMON += ["-Wno-unused-function", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
    # Loops stay functions of their own: gcc vectorises them better than inlined, and profiles name them.
    COMMON += ["-fno-inline-functions-called-once", "-fno-inline-small-functions", "-fno-inline-functions"]
    COMMON += ["-Wno-stringop-overflow", *(["-Werror"] if STRICT else [])]
    # Builds for AVX-512 were no faster (docs/benchmarks.md): the loops wait for table look-ups and for memory.
    LEVELS = {"_x86_64_v3": ["-march=x86-64-v3"]}
LINK: list[str] = []
if DEBUG:
    COMMON += ["/Od", "/UNDEBUG"] if MSVC else ["-O0", "-g", "-UNDEBUG"]
if SANITIZE:
    COMMON += [
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
        "-fno-omit-frame-pointer",
        "-O1",
        "-g",
    ]
    LINK += ["-fsanitize=address,undefined"]


if sys.platform == "darwin":
    # A universal2 Python would build both halves with the flags of one.
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")


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
                depends=sorted(glob("src/hensa/kernels/*.pxi")),
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
