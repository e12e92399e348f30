"""Many films in a child process, and ending one with all that it has started."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from KneeBoneAgeLib import process_tree

LIBRARY = Path(__file__).parents[2]


def many(folder, **wanted):
    (folder / "list.json").write_text(json.dumps(wanted))
    return subprocess.Popen(
        [sys.executable, "-m", "KneeBoneAgeLib.service", "--films", str(folder / "list.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1"},
    )


def test_many_films_come_one_line_each_and_a_bad_one_does_not_stop_them(samples, tmp_path):
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"rubbish")
    process = many(
        tmp_path,
        films=[samples["toddler"], str(bad), {"file": samples["adolescent"], "sex": "M", "age_months": 160}],
        device="cpu",
    )
    out, log = process.communicate(timeout=120)
    lines = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0
    assert log == ""
    assert lines[0] == {"of": 3}
    assert lines[-1] == {"finished": True, "films": 3}
    first, second, third = (line for line in lines if "records" in line)
    assert [line["film"] for line in (first, second, third)] == [1, 2, 3]
    assert (first["records"][0]["status"], second["records"][0]["status"]) == ("ok", "error")
    assert third["records"][0]["sex_source"] == "typed"


@pytest.mark.parametrize(
    ("wanted", "kind"), [({"films": []}, "usage"), ({"films": ["/nowhere"]}, None), ({}, "usage")]
)
def test_a_list_without_films_says_so(tmp_path, wanted, kind):
    out, log = many(tmp_path, **wanted).communicate(timeout=120)
    lines = [json.loads(line) for line in out.splitlines()]
    if kind is None:  # a named file is tried, and its line says that it is not there
        assert "no such file" in lines[-2]["records"][0]["reason"]
    else:
        assert lines[-1]["error"]["kind"] == kind
    assert log == ""


def test_what_was_finished_before_a_cancel_is_whole(samples, tmp_path):
    process = many(
        tmp_path, films=[str(Path(samples["toddler"]).parent)] + [samples["school age"]], device="cpu"
    )
    lines = []
    while not any('"records"' in line for line in lines):
        lines.append(process.stdout.readline())
    process_tree.end(process.pid)
    assert process.wait(10) != 0
    for line in lines:
        json.loads(line)


@pytest.mark.skipif(sys.platform == "win32", reason="taskkill does the same there")
def test_a_launcher_is_ended_with_the_child_that_it_started(tmp_path):
    grandchild = "import time; print('up', flush=True); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    launcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout.readline() == "up\n"
    (inner,) = process_tree.descendants(launcher.pid)
    assert process_tree.is_alive(inner)
    threading.Thread(target=launcher.wait).start()
    process_tree.end(launcher.pid)
    launcher.wait(5)
    deadline = time.monotonic() + 5
    while process_tree.is_alive(inner) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not process_tree.is_alive(inner)
    process_tree.end(launcher.pid)  # one that is gone is no error


@pytest.mark.skipif(sys.platform == "win32", reason="there is no polite end on Windows")
def test_a_process_that_ignores_the_polite_end_is_killed():
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process_tree.end(process.pid, grace_s=0.2)
    assert process.wait(5) == -9


@pytest.mark.parametrize("pid", [0, -1, os.getpid()])
def test_the_own_process_and_groups_are_left_alone(pid):
    with pytest.raises(ValueError, match="cannot be ended"):
        process_tree.end(pid)
