"""The documentation: examples in docstrings give what they say, and the rooms are as CONTRIBUTING.md lists them."""

import ast
import doctest
import importlib.util
import inspect
import pkgutil
import re
from itertools import chain
from pathlib import Path

import pytest

import hensa

MODULES = ["hensa", *(module.name for module in pkgutil.walk_packages(hensa.__path__, "hensa."))]
ROOT = Path(__file__).parents[1]
ROOMS = [
    room
    for row in re.findall(r"^\| (`.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    for room in re.findall(r"`(\w+)`", row)
]
EXTRAS = {
    "hensa.distributed": "distributed",
    "hensa.ledger": "duckdb",
    "hensa.page": "jinja2",
    "hensa.simulator": "jinja2",
}


def rooms_imported_by(room):
    module = Path(importlib.util.find_spec(f"hensa.{room}").origin)
    files = module.parent.glob("*.py") if module.name == "__init__.py" else [module]
    for node in chain.from_iterable(ast.walk(ast.parse(file.read_text(encoding="utf-8"))) for file in files):
        if isinstance(node, ast.ImportFrom) and node.module == "hensa":
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("hensa."):
            yield node.module.split(".")[1]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("hensa.kernels._")])
def test_examples_in_docstrings_give_what_they_say(name):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", [name for name in hensa.__all__ if inspect.isfunction(getattr(hensa, name))])
def test_a_public_function_has_an_example(name):
    assert ">>>" in inspect.getdoc(getattr(hensa, name))


def test_the_page_of_the_api_has_every_public_name():
    page = (ROOT / "docs" / "reference" / "api.rst").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto(?:function|class):: (\w+)$|^\.\. automodule:: hensa\.(\w+)$", page, re.MULTILINE)
    assert sorted(map("".join, listed)) == sorted(hensa.__all__)


def test_contributing_lists_every_room():
    assert sorted(ROOMS) == sorted(name.split(".")[1] for name in MODULES if name.count(".") == 1)


@pytest.mark.parametrize("room", ROOMS)
def test_an_import_points_to_a_room_further_down_the_list(room):
    assert set(rooms_imported_by(room)) - {room} <= set(ROOMS[ROOMS.index(room) + 1 :])
