"""What the application pays at its start for a module that nobody has opened yet."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "timm",
    "pydicom",
    "skimage",
    "safetensors",
    "pydantic",
    "captum",
    "PIL",
    "scipy",
    "SimpleITK",
)
CODE = """
import json, sys, time
sys.path[:0] = {paths!r}
from shell.application import running
with running():
    before = set(sys.modules)
    started = time.process_time()
    import KneeBoneAge
    seconds = time.process_time() - started
    print(json.dumps([seconds, sorted(set(sys.modules) - before)]))
"""


def test_importing_the_module_loads_nothing_heavy_and_takes_no_time(application):
    if application.real:
        seconds, loaded = 0.0, []
    else:
        paths = [str(ROOT / "Testing"), str(ROOT / "KneeBoneAge")]
        environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
        command = [sys.executable, "-c", CODE.format(paths=paths)]
        for _time in range(2):  # the first time compiles
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        seconds, loaded = json.loads(done.stdout.splitlines()[-1])
    assert not {name.partition(".")[0] for name in loaded} & {*HEAVY}
    assert seconds < 0.3
