"""Kills runs of score_dataset, at every step that changes the disk or at random moments, and tells what was left.

``python tests/killing.py FOLDER steps|moments NUMBER fresh|over|over-slowly`` runs in FOLDER, which is empty, kills at
the last NUMBER steps or at as many moments, and prints a line for each run that was killed. Nothing is synced to the
disk, as what the system has already outlives a process that is killed; so it is quick. Every run is a process of its
own, forked from this one, which has loaded everything but started no thread. A run that leaves anything but the old or
the new dataset, or that the next run cannot complete, ends it with an error.
"""

import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from threading import Timer

import pyarrow.parquet as pq

import hensa
from hensa import dataset, manifest

PROGRAM = hensa.Program.load("hapitas-friend")
STEPS = ("mkdir", "replace", "rename", "fsync", "unlink", "rmdir")


def content(folder):
    """All files of a directory with their bytes, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def forked(work):
    """Run in a process of its own; how it ended: its exit code, or minus the signal that killed it."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(number):
    """From here on, the process is killed before the step of this number; a file that is written is so half-way.

    Returns what tells how many steps there were.
    """
    steps = 0

    def step():
        nonlocal steps
        if steps == number:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

    def counted(call):
        def counting(*arguments, **options):
            step()
            return call(*arguments, **options)

        return counting

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    manifest._swapped = counted(manifest._swapped)
    write = dataset.write

    class Halves:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            half = len(data) // 2
            self.file.write(data[:half])
            self.file.flush()
            step()
            self.file.write(data[half:])

    dataset.write = lambda file, *arguments, **options: write(Halves(file), *arguments, **options)
    return lambda: steps


def main(folder, how, number, start):
    os.fsync = lambda number: None
    source, place = folder / "rows", folder / "paid"
    for seed in range(2):
        (source / f"month={seed}").mkdir(parents=True)
        pq.write_table(hensa.sample(200, seed=seed).read_all(), source / f"month={seed}" / "rows.parquet")
    hensa.score(hensa.sample(1), PROGRAM)  # loads the kernels
    if start == "over-slowly":
        manifest._swapped = lambda one, other: False

    def run(columns=("score", "reward"), **options):
        hensa.score_dataset(source, place, PROGRAM, columns=columns, overwrite=True, threads=1, **options)

    def made(*arguments):
        assert forked(lambda: run(*arguments)) == 0
        return content(place)

    def reset():
        shutil.rmtree(place)
        shutil.copytree(folder / "old", place) if old else None

    def count():
        steps = killed_at(None)
        run()
        Path(folder, "steps").write_text(str(steps()))

    old = {} if start == "fresh" else made(("rate",))
    shutil.copytree(place, folder / "old") if old else None
    started = time.monotonic()
    new = made()
    seconds = time.monotonic() - started
    assert new != old
    reset()
    assert forked(count) == 0
    steps = int(Path(folder, "steps").read_text())
    moments = random.Random(7)
    for i in range(max(steps - number, 0), steps) if how == "steps" else range(number):
        reset()
        delay = moments.uniform(0, 1.2 * seconds)

        def attempt(i=i, delay=delay):
            if how == "steps":
                killed_at(i)
            else:
                Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
            run()

        ended = forked(attempt)
        assert ended == -signal.SIGKILL or (ended == 0 and how == "moments"), f"run {i} ended with {ended}"
        left = content(place) if place.exists() else {}
        what = "old" if left == old else "new" if left == new else "neither"
        print(i, "completed" if ended == 0 else "killed", what)
        between = start == "over-slowly" and not place.exists() and (folder / ".paid.hensa" / "old").exists()
        assert what != "neither" or between, sorted(left)
        assert forked(run) == 0
        assert content(place) == new, f"after run {i} was killed, the next made something else"
        assert {path.name for path in folder.iterdir()} == {"paid", "rows", "steps", *(["old"] if old else [])}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
