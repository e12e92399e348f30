"""Bundles of a person: their cards, and how one is installed."""

import io
import zipfile
from pathlib import Path

import pytest

from KneeBoneAgeLib import bundle_store
from KneeBoneAgeLib.bundle import default_bundle_path
from KneeBoneAgeLib.errors import BundleError
from KneeBoneAgeLib.model_card import FIRST_LINES

pytestmark = pytest.mark.skipif(
    not (default_bundle_path() / "bundle.json").is_file(),
    reason="the default bundle is not there: make bundle",
)


def packed(folder, path, root=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"{root}{file.name}")
    return path


def test_the_cards_name_the_default_bundle_and_a_damaged_one(child, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bundle.json").write_text("{}")
    first, second = child.done("bundles", folder=str(tmp_path))["bundles"]
    assert first["is_default"]
    assert "never seen a real child" in first["first_line"]
    assert len(first["sha256"]) == 64
    assert first["metrics"]
    rows = {row["label"]: row["sentence"].format(**row["values"]) for row in first["rows"]}
    assert rows["SHA-256"] == first["sha256"]
    assert ", of them real: 0; films: " in rows["Children"]
    assert first["first_line"] in FIRST_LINES  # so that it can be translated
    assert "format version" in second["error"]


def test_a_folder_that_is_no_bundle_is_said(child, samples, tmp_path):
    error = child.error("bundle", "bundle", path=str(tmp_path))
    assert "not a bundle" in error["message"]
    child.error("bundle", "estimate", film={"file": samples["toddler"]}, bundle=str(tmp_path), device="cpu")


def test_a_bundle_is_installed_from_a_zip_file_and_from_a_folder(child, samples, tmp_path):
    source = packed(default_bundle_path(), tmp_path / "bundle.zip", "some/folder/")
    card = child.done("install_bundle", file=str(source), into=str(tmp_path / "bundles"))
    assert Path(card["path"]).parent == tmp_path / "bundles"
    assert not card["is_default"]
    again = child.done("install_bundle", folder=str(default_bundle_path()), into=str(tmp_path / "bundles"))
    assert again["path"] == card["path"]
    assert [entry.name for entry in (tmp_path / "bundles").iterdir()] == [Path(card["path"]).name]
    film = {"file": samples["toddler"]}
    records = child.done("estimate", film=film, bundle=card["path"], device="cpu")["records"]
    assert records[0]["bundle_sha256"] == card["sha256"]


def test_a_zip_file_cannot_write_outside_of_its_place(tmp_path):
    into = tmp_path / "bundles"
    for name in ("../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:evil.txt"):
        bad = tmp_path / "bad.zip"
        packed(default_bundle_path(), bad)
        with zipfile.ZipFile(bad, "a") as archive:
            archive.writestr(name, "evil")
        with pytest.raises(BundleError, match="outside of itself"):
            bundle_store.install(bad, into)
    link = zipfile.ZipInfo("fold-9.safetensors")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(packed(default_bundle_path(), tmp_path / "bad.zip"), "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(BundleError, match="outside of itself"):
        bundle_store.install(tmp_path / "bad.zip", into)
    assert not list(tmp_path.rglob("evil*"))
    assert list(into.iterdir()) == []


def test_a_damaged_bundle_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in default_bundle_path().iterdir():
        content = file.read_bytes()
        (folder / file.name).write_bytes(content[:-1] + b"x" if file.name == "gate.safetensors" else content)
    for source in (folder, packed(folder, tmp_path / "copy.zip")):
        with pytest.raises(BundleError, match="SHA-256") as caught:
            bundle_store.install(source, tmp_path / "bundles")
        assert str(source) in str(caught.value)
    for content in (b"no zip", zipfile_of_nothing()):
        (tmp_path / "odd.zip").write_bytes(content)
        with pytest.raises(BundleError, match=r"not a zip file|holds 0 bundles"):
            bundle_store.install(tmp_path / "odd.zip", tmp_path / "bundles")
    assert list((tmp_path / "bundles").iterdir()) == []


def zipfile_of_nothing():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    return stream.getvalue()
