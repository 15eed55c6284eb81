"""What is left of a dataset when its run is killed, the disk is full or cannot be written, or a rename fails."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from killing import content

import hensa
from hensa import HensaError, Manifest, manifest

PROGRAM = hensa.Program.load("hapitas-friend")
STARTS = ["fresh", "over", "over-slowly"]
"""Nothing at the destination, another dataset, and another one that the filesystem cannot swap for the new."""
posix = pytest.mark.skipif(os.name != "posix", reason="processes are forked, file systems mounted, as POSIX has it")


@pytest.fixture
def source(tmp_path):
    """Four files."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for seed in range(4):
        pq.write_table(hensa.sample(20_000, seed=seed).read_all(), folder / f"{seed}.parquet")
    return folder


@pytest.fixture
def expected(source, tmp_path):
    """The bytes of an uninterrupted run, elsewhere."""
    hensa.score_dataset(source, tmp_path / "uninterrupted", PROGRAM)
    return content(tmp_path / "uninterrupted")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, and what mounts it again with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    if os.name != "posix" or (done := mount("size=400k")).returncode:
        pytest.skip(f"a file system cannot be mounted here: {'' if os.name != 'posix' else done.stderr.strip()}")
    yield place, lambda options: mount(f"remount,{options}").check_returncode()
    subprocess.run(["umount", str(place)], check=True)


def killed(tmp_path, *arguments):
    script = Path(__file__).with_name("killing.py")
    command = [sys.executable, str(script), str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [line.split()[1:3] for line in done.stdout.splitlines()]


@posix
@pytest.mark.parametrize(("start", "steps"), [("fresh", 200), ("over", 20), ("over-slowly", 20)])
def test_killed_before_any_step_a_run_leaves_the_old_or_the_new_and_the_next_one_completes_it(tmp_path, start, steps):
    found = killed(tmp_path, "steps", str(steps), start)  # the last 20 are all in which the starts differ
    assert 50 < len(found) < 200 if start == "fresh" else len(found) == 20
    states = [state for _, state in found]
    assert [states[0], states[-1]] == ["old", "new"]
    assert states.count("neither") == (start == "over-slowly")  # between two renames nothing is there


@posix
@pytest.mark.parametrize(
    ("start", "number"), [("over", 10), *(pytest.param(start, 40, marks=pytest.mark.long) for start in STARTS)]
)
def test_killed_at_any_moment_a_run_leaves_the_old_or_the_new_and_the_next_one_completes_it(tmp_path, start, number):
    assert len(killed(tmp_path, "moments", str(number), start)) == number


@posix
def test_a_part_is_synced_before_it_is_in_its_place_and_the_manifest_is_last(source, tmp_path, monkeypatch):
    log = []
    fsync, replace, rename = os.fsync, os.replace, os.rename
    stage = tmp_path / ".paid.hensa"

    def short(path):
        path = Path(path)
        return "/".join(path.relative_to(stage).parts[1:]) if stage in path.parents else path.name

    def logged_fsync(number):
        log.append(("sync", short(os.readlink(f"/proc/self/fd/{number}"))))
        fsync(number)

    def logged(call):
        def logging(one, other):
            log.append(("rename", short(one), short(other)))
            call(one, other)

        return logging

    if not Path("/proc/self/fd").exists():
        pytest.skip("there is no /proc, which says what is synced")
    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged(replace))
    monkeypatch.setattr(os, "rename", logged(rename))
    hensa.score_dataset(source, tmp_path / "paid", PROGRAM, threads=1)
    for part in range(4):
        place = log.index(next(entry for entry in log if entry[-1] == f"data/{part}.parquet"))
        _, new, _ = log[place]
        assert log[place - 1 : place + 2] == [("sync", new), log[place], ("sync", "data")]
        assert log[place + 3][2] == f"parts/{part}.parquet.json"
    *_, before, manifest_, after, last, parent = log
    assert before == ("sync", manifest_[1])
    assert manifest_[2] == "data/_manifest.json"
    assert (after, last, parent) == (("sync", "data"), ("rename", "data", "paid"), ("sync", tmp_path.name))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("call", ["replace", "rename"])
def test_a_rename_that_fails_leaves_what_was_there(source, tmp_path, expected, monkeypatch, start, call):
    place, calls, failing = tmp_path / "paid", 0, None
    if start == "over-slowly":
        monkeypatch.setattr(manifest, "_swapped", lambda one, other: False)
    if start != "fresh":
        hensa.score_dataset(source, place, PROGRAM, columns=["rate"])
    old, real = content(place), getattr(os, call)

    def fails(*arguments):
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.EIO, "Input/output error", *arguments)
        real(*arguments)

    def completes():
        nonlocal calls, failing
        calls, failing = 0, (failing or 0) + 1
        try:
            hensa.score_dataset(source, place, PROGRAM, overwrite=True, threads=1)
        except HensaError as error:
            return "Input/output error" not in str(error)
        return True

    monkeypatch.setattr(os, call, fails)
    while not completes():
        assert content(place) == old
    # A part takes two, its own and that of its record, and what is done is not done again; the thread that parts are
    # written on may be done with one more before an error stops it.
    if call == "replace":
        assert 3 <= failing <= 6
    else:
        assert failing == {"fresh": 2, "over": 1, "over-slowly": 3}[start]
    assert content(place) == expected
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("start", ["fresh", "over"])
def test_on_a_full_disk_the_old_stays_and_a_run_with_more_room_goes_on(source, small_disk, expected, start):
    disk, remount = small_disk
    place = disk / "paid"
    if start == "over":
        hensa.score_dataset(source / "0.parquet", place, PROGRAM, columns=[])
    old = content(place)
    with pytest.raises(HensaError, match=r"No space left on device; . of 4 parts are done, and the same run goes on"):
        hensa.score_dataset(source, place, PROGRAM, overwrite=True, threads=1)
    assert content(place) == old
    assert not list(disk.glob(".paid.hensa/*/new/*"))
    kept = {path.name: path.stat().st_mtime_ns for path in disk.glob(".paid.hensa/*/data/*")}
    assert kept
    remount("size=4m")
    hensa.score_dataset(source, place, PROGRAM, overwrite=True, threads=1)
    assert content(place) == expected
    assert {path.name: path.stat().st_mtime_ns for path in place.iterdir() if path.name in kept} == kept
    assert [path.name for path in disk.iterdir()] == ["paid"]


def test_where_nothing_can_be_written_nothing_is_changed(source, small_disk):
    disk, remount = small_disk
    place = disk / "paid"
    hensa.score_dataset(source / "0.parquet", place, PROGRAM)
    old = content(disk)
    remount("ro")
    with pytest.raises(HensaError, match="paid: Read-only file system"):
        hensa.score_dataset(source, place, PROGRAM, overwrite=True)
    assert content(disk) == old
    assert Manifest.load(place).rows == 20_000
