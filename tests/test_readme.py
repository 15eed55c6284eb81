"""The README and docs/: their code runs from top to bottom and prints what the block of text below it says."""

import contextlib
import io
import os
import re
import subprocess
import sys
import sysconfig
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = re.findall(
    r"^```sh\n(python3 -m venv .*\n)```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
)


def blocks_of(document):
    """Line, kind and code of every block but the one that runs the tests."""
    text = document.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start()) + 1, *match.groups())
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if match[2] != COMMANDS[1]
    ]


DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if blocks_of(path)]

EXTRAS = {"README.md": "vl_convert", "ledger.md": "duckdb", "report.md": "vl_convert", "simulator.md": "jinja2"}


def run_python(code, names):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


def run_shell(code, names):
    """The commands, with the hensa that is installed here instead of one in a new environment."""
    commands = re.sub(r"python3 -m venv (\S+) && \1/bin/pip install .*? && ", "", code).replace(".venv/bin/", "")
    scripts = sysconfig.get_path("scripts")
    environment = {**os.environ, "PATH": scripts + os.pathsep + os.environ["PATH"], "COLUMNS": "80"}
    run = subprocess.run(
        ["bash", "-euc", commands], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


def write_toml(code, names):
    Path(code.split()[1]).write_text(code, encoding="utf-8")  # the first line is "# file name"
    return ""


RUN = {"python": run_python, "sh": run_shell, "toml": write_toml, "text": lambda code, names: ""}


def tidy(text):
    """Lines without their trailing spaces, and without times."""
    lines = (re.sub(r"^[\d.]+ s \(.*\)(, .* rows/s)?$", "(times)", line.rstrip()) for line in text.strip().splitlines())
    return "\n".join(lines)


@pytest.mark.skipif(os.name != "posix", reason="the commands are for a POSIX shell")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_runs_and_prints_what_the_text_below_it_says(document, tmp_path, monkeypatch):
    if document.name in EXTRAS:
        pytest.importorskip(EXTRAS[document.name])
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for (line, kind, code), (_, next_kind, next_code) in pairwise([*blocks_of(document), (0, "", "")]):
        printed = RUN[kind](code, names)
        if next_kind == "text":
            assert tidy(printed) == tidy(next_code), f"of the block at line {line} of {document.name}"
    names.clear()  # functions hold it in a cycle, and DuckDB complains of what is left at the end of Python


@pytest.mark.parametrize("name", ["README.md", "docs/cluster.md"])
def test_python_that_starts_workers_also_runs_as_a_script(name, tmp_path):
    pytest.importorskip("distributed")
    code = "".join(code for _, kind, code in blocks_of(ROOT / name) if kind == "python")
    assert "LocalCluster" in code
    (tmp_path / "script.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_two_commands_are_one_line_each_in_an_environment_of_its_own():
    run, test = COMMANDS
    environments = [re.match(r"python3 -m venv (\S+) && \1/bin/pip install ", command)[1] for command in COMMANDS]
    assert len(set(environments)) == 2
    assert f"{environments[0]}/bin/hensa score " in run
    assert test.endswith(f"{environments[1]}/bin/pytest\n")
