"""The tiny study that the tests of knees share."""

import sys
from pathlib import Path

import pytest

from KneeBoneAgeTrainingLib.cohort.study import open_study

sys.path.insert(0, str(Path(__file__).parent))
from knee_study import make_study


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("knees")


@pytest.fixture(scope="module")
def study(place):
    return open_study(make_study(place / "data"))
