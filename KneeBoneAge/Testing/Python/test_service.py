"""The child process: its lines and its answers, asked of a real process."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from KneeBoneAgeLib.problems import Problem
from KneeBoneAgeLib.service import Service, appended_lines, serve

LIBRARY = Path(__file__).parents[2]


def test_a_malformed_line_is_answered_and_the_service_lives_on(child):
    assert child.line("this is no JSON")["error"]["kind"] == "usage"
    assert child.line("[1, 2]")["error"]["kind"] == "usage"
    assert child.error("usage", "dance")["message"] == "unknown request 'dance'"
    child.error("usage", "read")
    child.error("usage", "sample", name="grown-up", folder="/tmp")
    assert child.done("check")["ready"]


def test_quit_and_the_end_of_the_input_end_the_process(other_child):
    child = other_child()
    assert child.done("quit") == {}
    assert child.process.wait(10) == 0
    child = other_child()
    child.process.stdin.close()
    assert child.process.wait(10) == 0


def test_what_libraries_print_never_reaches_the_answers():
    code = """
import os
from KneeBoneAgeLib import service
ours = service.own_stdout()
print("python")
os.write(1, b"native\\n")
ours.write("ours\\n")
ours.flush()
"""
    paths = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=paths)
    assert ran.stdout == "ours\n"
    assert set(ran.stderr.split()) == {"python", "native"}


def test_an_unexpected_failure_is_a_bug_with_its_traceback_in_the_log(capsys):
    service = Service()
    service.actions["sample"] = lambda request, say: 1 / 0
    out = io.StringIO()
    serve(['{"id": 1, "do": "sample"}\n', '{"id": 2, "do": "quit"}\n'], out, service)
    heard, first, _heard_too, last = map(json.loads, out.getvalue().splitlines())
    assert heard == {"id": 1, "got": True}
    assert first["error"]["kind"] == "bug"
    assert last == {"id": 2, "done": {}}
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_requests_can_come_from_a_file_where_the_standard_input_is_not_handed_on(tmp_path):
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(b"")
    process = subprocess.Popen(
        [sys.executable, "-m", "KneeBoneAgeLib.service", "--requests", str(requests)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(LIBRARY)},
    )
    try:
        with requests.open("a") as stream:
            stream.write('{"id": 1, "do": "da')
            stream.flush()
            time.sleep(0.1)
            stream.write('nce"}\n')
        assert json.loads(process.stdout.readline()) == {"id": 1, "got": True}
        assert json.loads(process.stdout.readline())["error"]["kind"] == "usage"
        requests.unlink()
        assert process.wait(20) == 0
    finally:
        process.kill()


def test_a_process_that_nobody_asks_for_long_leaves(tmp_path):
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"id": 1}\n')
    began = time.monotonic()
    assert list(appended_lines(requests, idle_s=0.3)) == ['{"id": 1}']
    assert 0.25 < time.monotonic() - began < 5


def test_a_sentence_comes_with_its_values_apart(child):
    error = child.error("usage", "dance")
    assert error["told"]["message"] == "unknown request {request}"
    assert error["told"]["values"]["request"] == "'dance'"
    again = Problem.from_json(error)
    assert (again.kind, again.message, again.way_out) == ("usage", error["message"], error["way_out"])


def test_an_estimate_finds_both_knees_and_gives_their_distributions(child, samples, tmp_path):
    found = child.done("estimate", film={"file": samples["school age"]}, device="cpu")
    assert [knee["side"] for knee in found["knees"]] == ["R", "L"]
    assert [knee["mirrored"] for knee in found["knees"]] == [False, True]
    assert all(knee["fibula_clear"] for knee in found["knees"])
    for record in found["records"]:
        assert sum(record["distribution"]["probabilities"]) == pytest.approx(1, abs=1e-3)
        assert record["distribution"]["months_to"] == 240
        assert len(record["fold_months"]) == 5
    again = child.done("estimate", film={"file": samples["school age"]}, crops=found["knees"], device="cpu")
    assert [r["bone_age_months"] for r in again["records"]] == [
        r["bone_age_months"] for r in found["records"]
    ]
    assert child.said == ["Estimating…"]  # film and model are kept


def test_a_film_that_changed_on_disk_is_read_again(child, samples, tmp_path, in_slicer):
    film = in_slicer(samples["toddler"], tmp_path)
    child.done("read", film=film)
    child.done("read", film=film)
    assert child.said == []
    time.sleep(0.01)
    Path(film["pixels"]).touch()
    child.done("read", film=film)
    assert child.said == ["Reading the film…"]


def test_saliency_comes_as_a_map_of_the_film(child, samples, in_slicer, tmp_path):
    film = {"file": samples["toddler"]}
    stored = np.load(in_slicer(samples["toddler"], tmp_path)["pixels"])
    found = child.done("find", film=film, device="cpu")
    for method in ("gradcam", "integrated-gradients"):
        answer = child.done(
            "explain", film=film, crop=found["knees"][0], method=method, device="cpu", folder=str(tmp_path)
        )
        values = np.load(answer["map"])
        assert values.shape == stored.shape
        assert values.dtype == np.float32
        assert (values.min(), values.max()) == (0, pytest.approx(1, abs=0.2))
    child.error("usage", "explain", film=film, crop=found["knees"][0], method="guess", device="cpu")


def test_the_samples_are_the_same_each_time_and_say_who_they_are(child, samples, tmp_path):
    expected = {"toddler": ("F", 30, "L"), "school age": ("M", 102, None), "adolescent": ("F", 157, "R")}
    for name, facts in expected.items():
        again = Path(child.done("sample", name=name, folder=str(tmp_path))["file"])
        assert again.read_bytes() == Path(samples[name]).read_bytes()
        read = child.done("read", film={"file": samples[name]})
        assert (read["sex"], read["age_months"], read["side"]) == facts
        assert read["view"] == "frontal"
