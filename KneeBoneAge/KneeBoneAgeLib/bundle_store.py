"""The person's own folder of bundles: what is in it, as cards, and how one gets into it."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import BundleError

MOST_BYTES = 4 << 30
MOST_FILES = 200


def folder_of(path: str | Path | None) -> Path:
    """The folder that a request means; None or "" is the default bundle."""
    from .bundle import default_bundle_path

    return Path(path) if path else default_bundle_path()


def described(path: str | Path | None = None) -> dict[str, Any]:
    """The card of a verified bundle. Raises BundleError."""
    from .bundle import default_bundle_path, load_bundle
    from .model_card import rows

    bundle = load_bundle(folder_of(path))
    facts = bundle.manifest
    metrics = [
        f"{m.name} {m.value:g} {m.unit}".rstrip() + (f" ({m.data})" if m.data else "") for m in facts.metrics
    ]
    return {
        "name": bundle.name,
        "first_line": facts.card_first_line,
        "sha256": bundle.sha256,
        "intended_use": facts.intended_use,
        "licence": facts.licence,
        "created": facts.created,
        "real_children": facts.training_data.real_children,
        "metrics": metrics,
        "rows": [row._asdict() for row in rows(bundle)],
        "path": str(bundle.folder),
        "is_default": bundle.folder.resolve() == default_bundle_path().resolve(),
    }


def all_described(folder: str | Path | None) -> list[dict[str, Any]]:
    """Cards of the default bundle and of those in a folder; a damaged one is named with its ``error``."""
    from .bundle import MANIFEST_NAME

    places: list[Path | None] = [None]
    if folder and Path(folder).is_dir():
        places += sorted(place for place in Path(folder).iterdir() if (place / MANIFEST_NAME).is_file())
    cards = []
    for place in places:
        try:
            cards.append(described(place))
        except BundleError as error:
            name = place.name if place else "default"
            cards.append(
                {"name": name, "path": str(folder_of(place)), "error": str(error), "is_default": not place}
            )
    return cards


def install(source: str | Path, into: str | Path) -> Path:
    """Copy a bundle's folder, or unzip it, into the folder of bundles; its new place.

    It is verified beside its place and renamed there, so that a damaged or half-copied one is never seen. One
    with the same manifest that stands there already is kept.

    Raises
    ------
    BundleError : not a bundle, damaged, or a zip file with paths that lead out of it.
    OSError : the folder cannot be written.
    """
    from .bundle import load_bundle

    source, into = Path(source), Path(into)
    if not source.exists():
        raise BundleError(f"{source}: there is no such file or folder")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=into) as room:
        new = Path(room, "bundle")
        if source.is_dir():
            _copy(source, new)
        else:
            _unzip(source, new)
        try:
            bundle = load_bundle(new)
        except BundleError as error:
            raise BundleError(str(error).replace(str(new), str(source))) from None
        place = _free_place(into, bundle.name, bundle.sha256)
        if not place.exists():
            new.rename(place)
    return place


def _copy(source: Path, new: Path) -> None:
    """Only the files of a bundle, which lie side by side; links and folders are left behind."""
    from .bundle import MANIFEST_NAME, load_bundle

    bundle = load_bundle(source)
    new.mkdir()
    for name in (MANIFEST_NAME, *bundle.manifest.files):
        shutil.copyfile(source / name, new / name)


def _unzip(source: Path, new: Path) -> None:
    from .bundle import MANIFEST_NAME

    if not zipfile.is_zipfile(source):
        raise BundleError(f"{source}: not a zip file; choose the zip file or the folder of a bundle")
    try:
        with zipfile.ZipFile(source) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            _check_members(source, members)
            manifests = [
                PurePosixPath(i.filename) for i in members if PurePosixPath(i.filename).name == MANIFEST_NAME
            ]
            if len(manifests) != 1:
                raise BundleError(
                    f"{source}: holds {len(manifests)} bundles; a zip file of one bundle is needed"
                )
            root = manifests[0].parent
            new.mkdir()
            for info in members:
                if PurePosixPath(info.filename).parent == root:
                    with (
                        archive.open(info) as packed,
                        (new / PurePosixPath(info.filename).name).open("wb") as out,
                    ):
                        shutil.copyfileobj(packed, out)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise BundleError(f"{source}: cannot be unzipped ({error}); copy it again") from None


def _check_members(source: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MOST_FILES or sum(info.file_size for info in members) > MOST_BYTES:
        raise BundleError(f"{source}: larger than any bundle")
    for info in members:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if (
            path.is_absolute()
            or ".." in path.parts
            or ":" in info.filename
            or stat.S_ISLNK(info.external_attr >> 16)
        ):
            raise BundleError(
                f"{source}: names a file outside of itself ({info.filename}); it is not installed"
            )


def _free_place(into: Path, name: str, sha256: str) -> Path:
    """A folder named after the bundle: the one that already holds it, else a name that nobody has."""
    from .bundle import load_bundle

    plain = (
        "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name).strip("-")
        or "bundle"
    )
    for place in (into / plain, into / f"{plain}-{sha256[:8]}"):
        if not place.exists():
            return place
        try:
            if load_bundle(place).sha256 == sha256:
                return place
        except BundleError:
            continue
    raise BundleError(f"{into / plain}: a damaged bundle of this name stands there; delete its folder first")
