"""A bundle is used only when it is whole, of this version, and made for this preprocessing."""

import json
import pickle
import shutil

import pytest

from KneeBoneAgeLib import bundle as bundles
from KneeBoneAgeLib.bundle import (
    PHANTOM_FIRST_LINE,
    Architecture,
    Calibrations,
    IntervalCalibration,
    Manifest,
    Metric,
    NetworkConfig,
    TrainingData,
    card,
    current_preprocessing,
    default_bundle_path,
    load_bundle,
    write_bundle,
)
from KneeBoneAgeLib.errors import BundleError
from KneeBoneAgeLib.estimator import Estimator

torch = pytest.importorskip("torch")


INTERVALS = IntervalCalibration(
    level=0.9, target="true", edges_months=(120,), shift=(0.1, 0.2), count=(10, 10)
)


def make_manifest(**changes):
    facts = {
        "name": "tiny",
        "created": "2026-01-02",
        "architecture": Architecture(
            network=NetworkConfig(backbone="convnext_atto", image_size=160, bins=120, spline_knots=24),
            finder={"encoder": "resnet18"},
            folds=2,
        ),
        "preprocessing": current_preprocessing(),
        "training_data": TrainingData(description="phantom", phantom_seeds=(1, 2), children=10, films=20),
        "metrics": (Metric(name="MAE", value=3.25, data="474 phantom knees"),),
        "calibration": Calibrations(
            **dict.fromkeys(("sex_age", "sex", "age", "none"), INTERVALS),
            mature_from_months={"F": 190, "M": 210},
        ),
        "refusal_file": "refusal.safetensors",
        "intended_use": "demonstration",
        "licence": "Apache-2.0",
    }
    return Manifest(**{**facts, **changes})


TENSORS = {
    "fold0.safetensors": {"weight": torch.arange(6.0).reshape(2, 3)},
    "refusal.safetensors": {"mean": torch.ones(4)},
}


@pytest.fixture
def folder(tmp_path):
    write_bundle(tmp_path / "tiny", make_manifest(), TENSORS)
    return tmp_path / "tiny"


def edit(folder, change):
    path = folder / "bundle.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def test_a_written_bundle_comes_back_with_its_facts_and_tensors(folder):
    bundle = load_bundle(folder)
    assert bundle.name == "tiny"
    assert bundle.manifest.architecture.network.model_dump()["spline_knots"] == 24
    assert torch.equal(bundle.load_tensors("fold0.safetensors")["weight"], torch.arange(6.0).reshape(2, 3))


def test_the_hash_of_a_bundle_changes_with_any_of_its_weights(folder, tmp_path):
    changed = {**TENSORS, "fold0.safetensors": {"weight": torch.zeros(2, 3)}}
    same = write_bundle(tmp_path / "same", make_manifest(), TENSORS)
    other = write_bundle(tmp_path / "other", make_manifest(), changed)
    assert load_bundle(folder).sha256 == same.sha256 != other.sha256


def test_one_flipped_bit_in_the_weights_is_refused(folder):
    path = folder / "fold0.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"fold0\.safetensors: its SHA-256.*copy the bundle again"):
        load_bundle(folder)


def test_a_truncated_or_missing_file_is_refused_by_name(folder):
    path = folder / "fold0.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BundleError, match="bytes instead of"):
        load_bundle(folder)
    path.unlink()
    with pytest.raises(BundleError, match=r"fold0\.safetensors: missing"):
        load_bundle(folder)


@pytest.mark.parametrize(("version", "way_out"), [(2, "update KneeBoneAge"), (0, "export"), ("x", "export")])
def test_another_format_version_is_refused_with_the_way_out(folder, version, way_out):
    edit(folder, lambda facts: facts.update(format_version=version))
    with pytest.raises(BundleError, match=f"format version.*{way_out}"):
        load_bundle(folder)


def test_another_preprocessing_is_refused_and_the_difference_named(folder):
    edit(folder, lambda facts: facts["preprocessing"].update(size_px=999))
    with pytest.raises(BundleError, match=r"another preprocessing \(size_px: bundle 999, library"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "x.pkl", "x.pt"])
def test_file_names_that_leave_the_folder_or_hold_pickle_are_refused(folder, name):
    edit(folder, lambda facts: facts["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(BundleError, match="is not allowed in a bundle"):
        load_bundle(folder)


def test_unknown_and_missing_keys_are_refused_by_their_place(folder):
    edit(folder, lambda facts: facts["calibration"].update(surprise=1))
    with pytest.raises(BundleError, match=r"calibration\.surprise"):
        load_bundle(folder)
    edit(folder, lambda facts: (facts["calibration"].pop("surprise"), facts.pop("licence")))
    with pytest.raises(BundleError, match="licence"):
        load_bundle(folder)


def test_as_many_shifts_as_age_bands_are_asked_for(folder):
    edit(folder, lambda facts: facts["calibration"]["sex_age"].update(shift=[0.1]))
    with pytest.raises(BundleError, match="2 age bands"):
        load_bundle(folder)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{\xff}", b"null"])
def test_a_manifest_that_is_not_one_is_refused(folder, content):
    (folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError):
        load_bundle(folder)


def test_a_folder_without_manifest_says_what_to_give(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle\.json"):
        load_bundle(tmp_path)


def test_pickle_named_as_safetensors_is_never_run(folder):
    ran = []

    class Bomb:
        def __reduce__(self):
            return (ran.append, (1,))

    path = folder / "fold0.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    entry = bundles._entry(path).model_dump()
    edit(folder, lambda facts: facts["files"].update({"fold0.safetensors": entry}))
    with pytest.raises(BundleError, match="not a safetensors file"):
        load_bundle(folder).load_tensors("fold0.safetensors")
    assert not ran


def test_files_that_the_bundle_does_not_list_cannot_be_loaded(folder):
    (folder / "extra.safetensors").write_bytes((folder / "fold0.safetensors").read_bytes())
    with pytest.raises(BundleError, match="lists no file"):
        load_bundle(folder).load_tensors("extra.safetensors")


def test_a_failed_write_leaves_the_old_bundle_and_no_rubbish(folder, monkeypatch):
    before = load_bundle(folder).sha256
    with pytest.raises(BundleError, match="another preprocessing"):
        write_bundle(folder, make_manifest(preprocessing={}), TENSORS)
    assert load_bundle(folder).sha256 == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_writing_again_replaces_the_bundle_and_its_old_files(folder):
    manifest = make_manifest(name="second", refusal_file=None)
    write_bundle(folder, manifest, {"only.safetensors": {"x": torch.ones(1)}})
    assert load_bundle(folder).name == "second"
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.json", "only.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_what_all_networks_have_alike_is_kept_once(folder):
    tensors = {
        "shared.safetensors": {"stem": torch.ones(2)},
        "fold-0.safetensors": {"head": torch.zeros(1)},
        "fold-1.safetensors": {"head": torch.full((1,), 3.0)},
    }
    manifest = make_manifest(refusal_file=None, shared_file="shared.safetensors")
    bundle = write_bundle(folder, manifest, tensors)
    for fold, head in enumerate((0.0, 3.0)):
        found = bundle.load_fold(fold)
        assert sorted(found) == ["head", "stem"]
        assert found["head"].item() == head
        assert torch.equal(found["stem"], torch.ones(2))
    assert list(write_bundle(folder, make_manifest(refusal_file=None), tensors).load_fold(1)) == ["head"]


@pytest.mark.parametrize("role", ["shared_file", "refusal_file", "closure_file"])
def test_a_file_with_a_role_must_be_listed(folder, role):
    edit(folder, lambda facts: facts.update({role: "gone.safetensors"}))
    with pytest.raises(BundleError, match=f"'gone.safetensors', its {role}, is not listed"):
        load_bundle(folder)


def test_the_card_begins_with_what_the_bundle_has_never_seen(folder):
    text = card(load_bundle(folder))
    assert text.splitlines()[0] == PHANTOM_FIRST_LINE
    assert "never seen a real child" in PHANTOM_FIRST_LINE
    assert "demonstration" in PHANTOM_FIRST_LINE
    assert "MAE 3.25 months" in text


def test_a_phantom_bundle_cannot_say_anything_else_first(folder):
    edit(folder, lambda facts: facts.update(card_first_line="Approved for clinical use."))
    with pytest.raises(BundleError, match="without real children"):
        load_bundle(folder)


def test_a_bundle_of_real_children_cannot_say_that_it_has_seen_none(folder):
    real = TrainingData(description="a study", children=40, films=50, real_children=40)
    both_fields = r"training_data\.real_children is 40, yet card_first_line is .*; say in card_first_line"
    with pytest.raises(ValueError, match=both_fields):
        make_manifest(training_data=real)
    unchecked = make_manifest().model_copy(update={"training_data": real})
    with pytest.raises(BundleError, match=both_fields):
        write_bundle(folder, unchecked, TENSORS)
    edit(folder, lambda facts: facts["training_data"].update(real_children=40))
    with pytest.raises(BundleError, match=both_fields):
        load_bundle(folder)
    own = "Trained on films of 40 children of a study."
    bundle = write_bundle(folder, make_manifest(training_data=real, card_first_line=own), TENSORS)
    assert card(bundle).splitlines()[0] == own


def test_the_bundle_that_ships_has_at_most_40_megabytes_and_nothing_beside_what_it_lists():
    bundle = load_bundle()
    files = list(bundle.folder.iterdir())
    assert {file.name for file in files} == {bundles.MANIFEST_NAME, *bundle.manifest.files}
    assert sum(file.stat().st_size for file in files) <= 40e6


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"patella_features": 24}, "patella_features"),
        ({"region_blocks": 1.5}, "region_blocks must be a whole number"),
        ({"points": 10}, "10 landmarks: the regions need 20"),
    ],
)
def test_a_network_of_another_version_is_told(said, named, tmp_path):
    if not (default_bundle_path() / "bundle.json").is_file():
        pytest.skip("the bundle that ships is not here")
    folder = shutil.copytree(default_bundle_path(), tmp_path / "copy")
    edit(folder, lambda facts: facts["architecture"]["network"].update(said))
    with pytest.raises(BundleError, match=f"copy: a network that this version does not know.*{named}"):
        Estimator.load(folder)
