"""Examples in docstrings run and give what they say."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import hensa

MODULES = ["hensa", *(module.name for module in pkgutil.walk_packages(hensa.__path__, "hensa."))]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("hensa.kernels._")])
def test_examples_in_docstrings_give_what_they_say(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", [name for name in hensa.__all__ if inspect.isfunction(getattr(hensa, name))])
def test_a_public_function_has_an_example(name):
    assert ">>>" in inspect.getdoc(getattr(hensa, name))
