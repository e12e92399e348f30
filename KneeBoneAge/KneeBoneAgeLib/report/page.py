"""The page to look at: self-contained HTML that grows film by film."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence

from ..version import VERSION
from .files import Sink
from .records import Result, Run, format_age, headline, side_name, unknown_facts, utf8

_PAGE_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>KneeBoneAge report</title><style>
body{font:15px/1.5 system-ui,"Segoe UI",Roboto,sans-serif;color:#1b2733;background:#f5f6f4;margin:0}
main{max-width:1080px;margin:0 auto;padding:24px}
h1{font-size:24px;font-weight:600;margin:0}h2{font-size:17px;margin:0 0 12px;overflow-wrap:anywhere}
.quiet{color:#66727d;font-size:13px}section{background:#fff;border-radius:10px;padding:20px;margin:20px 0;
box-shadow:0 1px 3px #0002;break-inside:avoid}
img{max-width:100%;border-radius:6px;display:block;margin:0 0 12px}
.film{float:right;max-width:34%;max-height:420px;margin-left:20px}
table{border-collapse:collapse;margin:0 0 12px}
th,td{text-align:left;padding:3px 18px 3px 0;vertical-align:top}
th{font-weight:500;color:#66727d;white-space:nowrap}
.age{font-size:20px;font-weight:600}.refused .age{color:#a23b3b}.error .age{color:#a23b3b}
.end{clear:both}
</style></head><body><main>
"""


class Page(Sink):
    """A self-contained HTML page that grows film by film; a page that is cut short still opens."""

    def __init__(self, target: str | os.PathLike[str], run: Run) -> None:
        super().__init__(target)
        bundle = f"Bundle {run.bundle}, SHA-256 {run.bundle_sha256}. " if run.bundle else ""
        lines = "".join(
            f'<p class="quiet">{html.escape(line)}</p>'
            for line in (run.caution, f"{bundle}KneeBoneAge {VERSION}.")
        )
        self.put(f"{_PAGE_HEAD}<h1>Bone age from knee radiographs</h1>{lines}\n".encode())

    def write(
        self, results: Sequence[Result], film: bytes | None = None, knees: Sequence[bytes] = ()
    ) -> None:
        """Add a film: its records, its overlay and a picture for each knee (encoded JPEG or PNG)."""
        parts = [f"<section><h2>{html.escape(results[0].file)}</h2>"]
        if film is not None:
            parts.append(_image(film, "film with the crops", "film"))
        for result, picture in zip(results, [*knees, *[None] * len(results)], strict=False):
            parts.append(_knee_html(result))
            if picture is not None:
                parts.append(
                    '<div class="end"></div>' + _image(picture, "crop, explanation and distribution", "knee")
                )
        parts.append('<div class="end"></div></section>\n')
        self.put(utf8("".join(parts)))

    def close(self) -> None:
        self.put(b"</main></body></html>\n")
        super().close()


def _image(content: bytes, words: str, kind: str) -> str:
    mime = "png" if content.startswith(b"\x89PNG") else "jpeg"
    data = base64.b64encode(content).decode()
    return f'<img class="{kind}" alt="{words}" src="data:image/{mime};base64,{data}">'


def _knee_html(result: Result) -> str:
    rows: list[tuple[str, str]] = []
    if result.reason:
        rows.append(("Reason", result.reason))
    if result.interval_months is not None and not result.mature:
        low, high = result.interval_months
        level = f"{result.interval_level:.0%} " if result.interval_level else ""
        rows.append((f"{level}interval", f"{low:.1f} to {high:.1f} months"))
    if result.chronological_age_months is not None:
        age = result.chronological_age_months
        rows.append(("Chronological age", f"{format_age(age)} ({age:.1f} months), {result.age_source}"))
    if result.sex is not None:
        rows.append(("Sex", f"{result.sex}, {result.sex_source}"))
    if unknown := unknown_facts(result):
        rows.append(("Unknown", unknown))
    if result.side_conflict:
        rows.append(("Side", f"the anatomy says {result.side}, the header {result.side_from_header}"))
    if result.box_px is not None:
        box = ", ".join(f"{value:.0f}" for value in result.box_px)
        sure = ", uncertain" if result.crop_uncertain else ""
        rows.append(
            ("Crop", f"{result.crop_origin}, [{box}] px, confidence {result.crop_confidence:.2f}{sure}")
        )
    if result.spacing_mm is None and result.status != "error":
        rows.append(("Spacing", "uncalibrated"))
    rows.extend(("Note", note) for note in result.notes)
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows
    )
    title = html.escape(f"{side_name(result)}: {headline(result)}")
    return f'<div class="{result.status}"><p class="age">{title}</p><table>{cells}</table></div>'
