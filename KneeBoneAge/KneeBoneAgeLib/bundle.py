"""Model bundles: a folder with ``bundle.json`` and safetensors, checked before anything in it is used.

A bundle says what it was made of (architecture, preprocessing, training data), what it is worth (metrics,
calibration) and what it is for. Pickle is never read: weights are safetensors, the rest is JSON or text.
A bundle that is damaged, of another version, or made for another preprocessing raises `BundleError`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from .errors import BundleError
from .model_card import in_words, rows

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
SHARED_FILE = "shared.safetensors"
MANIFEST_NAME = "bundle.json"
MANIFEST_LIMIT_BYTES = 4 << 20
PHANTOM_FIRST_LINE = (
    "This bundle has never seen a real child: it was trained on a phantom only and is for demonstration."
)
"""First line of the card of every bundle without real children in its training data, and of no other."""

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.(safetensors|json|txt|md)")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Months = Annotated[float, Field(ge=0, le=600)]


def fold_file(fold: int) -> str:
    """Name of the weights of a fold, counted from 0."""
    return f"fold-{fold}.safetensors"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NetworkConfig(_Section):
    """`network.AgeNetworkConfig` as JSON; what is named here is checked, the rest is the network's own."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    backbone: str
    image_size: int = Field(gt=0, le=4096)
    bins: int = Field(gt=0, le=10000)


class Architecture(_Section):
    """The networks: ``folds`` times ``network`` reads an age off a crop, ``finder`` finds the knees.

    The distribution has ``network.bins`` equal bins from ``months_from`` to ``months_to``.
    """

    network: NetworkConfig
    finder: dict[str, JsonValue]
    folds: int = Field(ge=1, le=100)
    inputs: tuple[Literal["image", "sex", "chronological_age"], ...] = ("image", "sex", "chronological_age")
    months_from: Months = 0.0
    months_to: Months = 240.0


class TrainingData(_Section):
    """What the bundle was trained on. ``real_children`` 0 means the phantom only."""

    description: str
    phantom_seeds: tuple[int, ...] = ()
    children: int = Field(ge=0)
    films: int = Field(ge=0)
    real_children: int = Field(0, ge=0)


class Metric(_Section):
    """One figure with the data that it was measured on."""

    name: str
    value: float
    unit: str = "months"
    data: str = ""


class IntervalCalibration(_Section):
    """`intervals.Calibration` as JSON."""

    level: float = Field(gt=0, lt=1)
    target: Literal["true", "assigned"]
    edges_months: tuple[Months, ...]
    shift: tuple[float, ...]
    count: tuple[int, ...]

    @model_validator(mode="after")
    def _one_shift_a_band(self) -> Self:
        bands = len(self.edges_months) + 1
        if len(self.shift) != bands or len(self.count) != bands:
            raise ValueError(f"{bands} age bands need as many shifts and counts")
        return self


class Calibrations(_Section):
    """One calibration for each case of what is known beside the picture (sex, chronological age), and the age
    by sex from which on a knee is reported as mature."""

    sex_age: IntervalCalibration
    sex: IntervalCalibration
    age: IntervalCalibration
    none: IntervalCalibration
    mature_from_months: dict[Literal["F", "M"], Months] | None = None


class FileEntry(_Section):
    """A file of the bundle as it was written."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class Manifest(_Section):
    """The whole of ``bundle.json``."""

    format_version: int = FORMAT_VERSION
    name: str = Field(min_length=1, max_length=200)
    created: str
    card_first_line: str = PHANTOM_FIRST_LINE
    architecture: Architecture
    preprocessing: dict[str, JsonValue]
    training_data: TrainingData
    metrics: tuple[Metric, ...] = ()
    calibration: Calibrations
    shared_file: str | None = None
    refusal_file: str | None = None
    closure_file: str | None = None
    intended_use: str
    licence: str
    files: dict[str, FileEntry] = {}

    @model_validator(mode="after")
    def _says_what_it_is(self) -> Self:
        real, phantom_line = self.training_data.real_children, self.card_first_line == PHANTOM_FIRST_LINE
        if real == 0 and not phantom_line:
            raise ValueError(f'without real children, card_first_line must be "{PHANTOM_FIRST_LINE}"')
        if real > 0 and phantom_line:
            raise ValueError(
                f'training_data.real_children is {real}, yet card_first_line is "{PHANTOM_FIRST_LINE}"; say in '
                "card_first_line what the bundle was trained on, or, where that was the phantom only, set "
                "real_children to 0"
            )
        return self


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk.

    Attributes
    ----------
    sha256 : SHA-256 of ``bundle.json``, which holds those of all other files: it names the bundle exactly.
    """

    folder: Path
    manifest: Manifest
    sha256: str

    @property
    def name(self) -> str:
        return self.manifest.name

    def path(self, name: str) -> Path:
        """The path of a listed file; BundleError for any other name."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.folder}: the bundle lists no file {name!r}; make or copy it again")
        return self.folder / name

    def load_tensors(self, name: str, device: str = "cpu") -> dict[str, Tensor]:
        """The tensors of one safetensors file."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path(name)
        try:
            return load_file(path, device=device)
        except (SafetensorError, OSError) as error:
            raise BundleError(f"{path}: not a safetensors file ({error}); copy the bundle again") from None

    def load_fold(self, fold: int) -> dict[str, Tensor]:
        """The tensors of one network: those of its own file, and those that all networks have alike."""
        shared = self.manifest.shared_file
        return {**(self.load_tensors(shared) if shared else {}), **self.load_tensors(fold_file(fold))}

    def load_json(self, name: str) -> Any:
        """The content of one JSON file."""
        path = self.path(name)
        try:
            return json.loads(path.read_bytes())
        except (ValueError, OSError) as error:
            raise BundleError(f"{path}: not readable as JSON ({error}); copy the bundle again") from None


def default_bundle_path() -> Path:
    """The folder of the bundle that ships with the library."""
    return Path(__file__).parent / "bundles" / "default"


def current_preprocessing() -> dict[str, Any]:
    """What this library does to a film before its networks see it, as JSON would hold it."""
    from . import crop

    return json.loads(json.dumps(crop.PREPROCESSING))


def load_bundle(path: str | os.PathLike[str] | None = None) -> Bundle:
    """Read and verify a bundle: schema, version, preprocessing, and name, size and SHA-256 of each file.

    Parameters
    ----------
    path : the bundle's folder; None for the default bundle.

    Raises
    ------
    BundleError : with what is wrong and what to do about it.
    """
    folder = default_bundle_path() if path is None else Path(path)
    content = _read_manifest(folder)
    manifest = _parse(folder, content)
    _check_preprocessing(folder, manifest.preprocessing)
    _check_files(folder, manifest)
    return Bundle(folder=folder, manifest=manifest, sha256=hashlib.sha256(content).hexdigest())


def write_bundle(
    folder: str | os.PathLike[str],
    manifest: Manifest,
    tensors: Mapping[str, Mapping[str, Tensor]],
    texts: Mapping[str, str] | None = None,
) -> Bundle:
    """Write a bundle beside its place and rename it there, so that a half-written one is never seen.

    Parameters
    ----------
    manifest : everything but ``files``, which is filled in here.
    tensors : file name (``*.safetensors``) to named tensors.
    texts : further files (``*.json``, ``*.txt``, ``*.md``) to their text.

    Returns
    -------
    The bundle, verified. One that stood there before is replaced only when the new one is valid.

    Raises
    ------
    BundleError : the manifest contradicts itself, was made for another preprocessing, or names files that no bundle
        may hold.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for name in (*tensors, *(texts or {})):
        _check_name(folder, name)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, values in tensors.items():
            save_file({key: value.detach().cpu().contiguous() for key, value in values.items()}, new / name)
            (new / name).chmod(0o644)
        for name, text in (texts or {}).items():
            (new / name).write_text(text, encoding="utf-8")
        files = {name: _entry(new / name) for name in sorted((*tensors, *(texts or {})))}
        whole = _validated(folder / MANIFEST_NAME, {**manifest.model_dump(), "files": files})
        (new / MANIFEST_NAME).write_text(whole.model_dump_json(indent=1) + "\n", encoding="utf-8")
        load_bundle(new)
        new.chmod(0o755)
        _replace(folder, new)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return load_bundle(folder)


def card(bundle: Bundle) -> str:
    """The bundle in words, for a person; the first line says what it has and has not seen."""
    return in_words(bundle.manifest.card_first_line, list(rows(bundle)))


def _read_manifest(folder: Path) -> bytes:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        hint = "run `make bundle`" if folder == default_bundle_path() else "give the folder that holds it"
        raise BundleError(f"{folder}: not a bundle, there is no {MANIFEST_NAME}; {hint}")
    if path.stat().st_size > MANIFEST_LIMIT_BYTES:
        raise BundleError(f"{path}: larger than any bundle.json; copy the bundle again")
    return path.read_bytes()


def _parse(folder: Path, content: bytes) -> Manifest:
    path = folder / MANIFEST_NAME
    try:
        raw = json.loads(content)
    except ValueError as error:
        raise BundleError(f"{path}: not valid JSON ({error}); copy the bundle again") from None
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        raise BundleError(
            f"{path}: format version {version!r}, this library reads {FORMAT_VERSION}; "
            f"{'update KneeBoneAge' if newer else 'export it again'}"
        )
    return _validated(path, raw)


def _validated(path: Path, raw: Any) -> Manifest:
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "bundle"
        raise BundleError(f"{path}: {where}: {first['msg']}; export the bundle again") from None


def _check_preprocessing(folder: Path, stored: Mapping[str, Any]) -> None:
    current = current_preprocessing()
    for key in sorted({*stored, *current}):
        if stored.get(key) != current.get(key) or (key in stored) != (key in current):
            theirs, ours = (repr(side.get(key, "nothing")) for side in (stored, current))
            raise BundleError(
                f"{folder}: made for another preprocessing ({key}: bundle {theirs}, library {ours}); "
                "use the library version that made it, or train it again"
            )


def _check_name(folder: Path, name: str) -> None:
    if not _FILE_NAME.fullmatch(name) or name == MANIFEST_NAME:
        raise BundleError(
            f"{folder}: file name {name!r} is not allowed in a bundle; plain names ending in "
            ".safetensors, .json, .txt or .md are"
        )


def _check_files(folder: Path, manifest: Manifest) -> None:
    if not any(name.endswith(".safetensors") for name in manifest.files):
        raise BundleError(f"{folder}: the bundle lists no weights; export it again")
    for role in ("shared_file", "refusal_file", "closure_file"):
        named = getattr(manifest, role)
        if named is not None and named not in manifest.files:
            raise BundleError(f"{folder}: {named!r}, its {role}, is not listed; export it again")
    for name, entry in manifest.files.items():
        _check_name(folder, name)
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path}: missing; copy the bundle again")
        if path.stat().st_size != entry.bytes:
            raise BundleError(
                f"{path}: {path.stat().st_size} bytes instead of {entry.bytes}: damaged, copy it again"
            )
        if _entry(path).sha256 != entry.sha256:
            raise BundleError(f"{path}: its SHA-256 is not the listed one: damaged, copy the bundle again")


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    return FileEntry(sha256=digest.hexdigest(), bytes=path.stat().st_size)


def _replace(folder: Path, new: Path) -> None:
    """Put ``new`` in the place of ``folder``; the old one comes back when that fails."""
    if not folder.exists():
        new.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent)) / folder.name
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)
