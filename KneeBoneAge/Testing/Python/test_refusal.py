"""The knee gate refuses what is no knee, and not what only looks a little different."""

import numpy as np
import pytest
from safetensors.numpy import load, save

from KneeBoneAgeLib.refusal import KneeGate

FOLDS, FEATURES = 2, 6


@pytest.fixture
def gate() -> KneeGate:
    """Knees are about 0; the first feature tells a knee (low) from something else (high)."""
    hidden = np.zeros((FOLDS, FEATURES, 1))
    hidden[:, 0, 0] = 1
    return KneeGate.from_tensors(
        {
            "centre": np.zeros((FOLDS, FEATURES)),
            "scale": np.ones((FOLDS, FEATURES)),
            "hidden_weight": hidden,
            "hidden_bias": np.zeros((FOLDS, 1)),
            "out_weight": np.full((FOLDS, 1), -2.0),
            "out_bias": np.full(FOLDS, 3.0),
            "components": np.stack([np.eye(FEATURES)] * FOLDS),
            "threshold": np.array([-1.0, 8.0]),
        }
    )


def crops(first: float, others: float = 0.0) -> np.ndarray:
    features = np.full((FOLDS, 1, FEATURES), others)
    features[..., 0] = first
    return features


def test_a_knee_is_accepted_without_a_reason(gate):
    (answer,) = gate.answer(crops(0.0))
    assert answer.accepted
    assert answer.reason == ""
    assert answer.knee_probability > 0.9


def test_what_the_gate_has_learnt_to_refuse_is_refused(gate):
    (answer,) = gate.answer(crops(6.0))
    assert not answer.accepted
    assert "frontal knee" in answer.reason
    assert answer.knee_probability < 0.1


def test_an_unsure_gate_accepts_but_does_not_confirm(gate):
    first = np.linspace(0, 6, 601)
    logits = np.array([float(gate.logit(crops(x))[0]) for x in first])
    unsure = crops(first[np.argmin(np.abs(logits + 0.5))])
    (answer,) = gate.answer(unsure)
    assert answer.accepted
    assert answer.knee_probability == pytest.approx(1 / (1 + np.exp(0.5)), abs=0.02)
    assert gate.confirms(unsure) == [False]
    assert gate.confirms(crops(0.0)) == [True]
    assert gate.confirms(crops(0.0, others=25.0)) == [False]  # like nothing at all


def test_a_film_that_looks_different_is_accepted_until_it_is_like_nothing_at_all(gate):
    (different,) = gate.answer(crops(0.0, others=4.0))
    assert different.accepted
    assert 0.2 < different.distance < 1
    (nothing,) = gate.answer(crops(0.0, others=25.0))
    assert not nothing.accepted
    assert "unlike" in nothing.reason


def test_features_that_are_not_numbers_are_refused(gate):
    (answer,) = gate.answer(crops(np.nan))
    assert not answer.accepted


def test_features_of_the_wrong_networks_are_an_error(gate):
    with pytest.raises(ValueError, match=r"\(2, crops, 6\)"):
        gate.answer(np.zeros((3, 1, FEATURES)))


def test_a_gate_survives_its_file(gate):
    again = KneeGate.from_tensors(load(save(gate.tensors())))
    assert again.answer(crops(1.7, 0.3)) == gate.answer(crops(1.7, 0.3))
    with pytest.raises(ValueError, match="centre"):
        KneeGate.from_tensors({"centre": np.zeros((2, 2))})
