"""Reasons that the library gives, as sentences that can be translated: why a film, a model or a crop is not used.

They go into records, logs and errors in English, with their values already in them, and are said in the language of
the application where they are shown: `known_reason` finds the sentence and the values again. Where a reason is
written, it stays plain text; Testing/Python/test_words.py holds this list against those places.
"""

from __future__ import annotations

import re
import string
from functools import cache

from .words import mark as _

# fmt: off
REASONS = (
    # a film that cannot be read
    _("there is no such file"),
    _("cannot be opened ({cause})"),
    _("is a folder, not a film"),
    _("is not a regular file"),
    _("the file is empty"),
    _("is larger than {size} MiB, too large for one film"),
    _("says it has {rows} x {columns} pixels, which is no picture"),
    _("says it has {rows} x {columns} pixels; more than {most} million are not read"),
    _("cannot be read: {cause}"),
    _("could not be read ({kind}: {cause})"),
    _("could not be worked on ({kind}: {cause})"),
    _("looks like DICOM without file meta information, so its transfer syntax is unknown"),
    _("is no image that can be read (DICOM, PNG, JPEG, TIFF, BMP, NRRD, MHA, NIfTI)"),
    _("holds {frames} pictures; give a single film"),
    _("is no readable {kind} picture; it may be damaged or cut short"),
    _("the {kind} picture cannot be read: {cause}"),
    _("the picture cannot be read: {cause}"),
    _("is a colour picture, not a radiograph"),
    _("is a colour picture ({reason}), not a radiograph"),
    _("{channels} samples a pixel"),
    _("has {channels} channels, which is no radiograph"),
    _("has {channels} channels of {kind}, which is no radiograph"),
    _("has {size} pixels; a film has one slice of rows and columns"),
    _("has the shape {size}; a film has one slice of rows and columns"),
    _("holds {kind}, not numbers"),
    _("has an impossible pixel spacing {spacing}"),
    _("neither a file nor a picture was given"),
    _("its picture cannot be read ({cause})"),
    # a DICOM film
    _("the DICOM data set cannot be read; it may be cut short ({cause})"),
    _("has no transfer syntax, so its pixels cannot be read"),
    _("the deflated data set is damaged"),
    _("unpacks to more than {size} MiB, too large for one film"),
    _("the header lacks {keyword}, so the pixels cannot be read"),
    _("holds no pixel data"),
    _("holds {frames} frames; give a single film"),
    _("the pixel data are cut short: {size} bytes of {expected}"),
    _("this installation has no decoder for its transfer syntax ({syntax})"),
    _("the pixel data cannot be decoded ({syntax}): {cause}"),
    _("the pixel data cannot be decoded: {cause}"),
    _("the compressed pixel data cannot be read: {cause}"),
    _("the header says {rows} x {columns} pixels, the pixel data have {size}"),
    _("the header says {rows} x {columns} pixels, the compressed picture {height} x {width}"),
    _("is no radiograph: modality {modality}"),
    # what was typed
    _("sex must be F or M, not {value}"),
    _("side must be R or L, not {value}"),
    _("chronological age must lie between 0 and {most} months, not {value}"),
    # notes on a film
    _("turned upright as its EXIF orientation says; pixel coordinates are those of the turned picture"),
    _("the volume in the scene shows another picture than its file; the volume was used"),
    _("the file could not be read ({reason}); the volume in the scene was used"),
    _("sex typed as {typed}, the file says {read}"),
    _("age typed as {typed} months, the file says {read}"),
    _("side typed as {typed}, the file says {read}"),
    _("magnification factor {factor} ignored"),
    _("PatientAge cannot be understood"),
    _("birth date and study date give no possible age"),
    _("PatientAge says {stated} months, the dates {dated}; PatientAge is used"),
    _("the VOI LUT hid most of the film and was not used"),
    _("the window hid part of the film and was widened"),
    _("the window hid most of the film and was not used"),
    # knees
    _("film of {columns} x {rows} pixels is too small to show a knee (64 needed)"),
    _("no frontal knee found on the film: lateral view, another body part, or too little of it"),
    _("what looks like a knee at first is not a frontal knee on the film (confidence {confidence})"),
    _("lateral view according to the header; only frontal films are used"),
    _("body part {part} according to the header, not a knee"),
    _("blank film: it shows no contrast"),
    _("fibula unclear on one of two knees: sides taken from their places, right knee on the left"),
    _("fibula unclear: side {side} as typed"),
    _("fibula unclear: side {side} taken from the header"),
    _("the fibula shows a {side} knee, the header says {header}: check the side"),
    _("the fibula shows a {side} knee, typed is {typed}: check the side"),
    # a crop
    _("the crop is uncertain (confidence {confidence}): look whether the square lies on the knee"),
    _("most of the crop lies outside of the film; move it onto the knee"),
    _("what is in the crop does not look like a frontal knee without implants"),
    _("what is in the crop is unlike anything the networks were trained on"),
    _("side of a crop must be a positive number of pixels, not {value}"),
    _("centre and angle of a crop must be finite, not {centre}, {angle}"),
    # a model
    _("{file}: the bundle lists no file {name}; make or copy it again"),
    _("{file}: not a safetensors file ({cause}); copy the bundle again"),
    _("{file}: not readable as JSON ({cause}); copy the bundle again"),
    _("{file}: not a bundle, there is no bundle.json; {reason}"),
    _("run `make bundle`"),
    _("give the folder that holds it"),
    _("{file}: larger than any bundle.json; copy the bundle again"),
    _("{file}: not valid JSON ({cause}); copy the bundle again"),
    _("{file}: format version {version}, this library reads {known}; {reason}"),
    _("update KneeBoneAge"),
    _("export it again"),
    _("{file}: {place}: {cause}; export the bundle again"),
    _("{file}: made for another preprocessing ({key}: bundle {theirs}, library {ours}); use the library version that "
      "made it, or train it again"),
    _("{file}: file name {name} is not allowed in a bundle; plain names ending in .safetensors, .json, .txt or .md "
      "are"),
    _("{file}: the bundle lists no weights; export it again"),
    _("{file}: {name}, its {role}, is not listed; export it again"),
    _("{file}: missing; copy the bundle again"),
    _("{file}: {size} bytes instead of {expected}: damaged, copy it again"),
    _("{file}: its SHA-256 is not the listed one: damaged, copy the bundle again"),
    _("{file}: a network that this version does not know ({cause}); update KneeBoneAge, or export the bundle again"),
    _("{file}: not weights of this architecture ({cause})"),
    _("{file}: there is no such file or folder"),
    _("{file}: not a zip file; choose the zip file or the folder of a bundle"),
    _("{file}: holds {count} bundles; a zip file of one bundle is needed"),
    _("{file}: cannot be unzipped ({cause}); copy it again"),
    _("{file}: larger than any bundle"),
    _("{file}: names a file outside of itself ({name}); it is not installed"),
    _("{file}: a damaged bundle of this name stands there; delete its folder first"),
)
# fmt: on


def known_reason(text: str) -> tuple[str, dict[str, str]] | None:
    """The sentence of `REASONS` that a text is, and the values in it; None for any other text.

    Of several that fit the one with the most words of its own is taken.

    Examples
    --------
    >>> known_reason("holds 3 frames; give a single film")
    ('holds {frames} frames; give a single film', {'frames': '3'})
    """
    for sentence, pattern in _patterns():
        found = pattern.fullmatch(text)
        if found:
            return sentence, found.groupdict()
    return None


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Sentences with the expressions that find them, the most definite first."""
    made = []
    for sentence in REASONS:
        parts = list(string.Formatter().parse(sentence))
        own = sum(len(words) for words, *_rest in parts)
        pattern = "".join(
            re.escape(words) + (f"(?P<{name}>.+?)" if name else "") for words, name, *_rest in parts
        )
        made.append((own, sentence, re.compile(pattern, re.DOTALL)))
    made.sort(key=lambda one: -one[0])
    return tuple((sentence, pattern) for _own, sentence, pattern in made)
