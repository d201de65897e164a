"""multipart/form-data as the tools take it: the parts of a request's body, bytes untouched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from plugins.sandbox.http import Request

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form; `filename` is None for a plain field."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str = "text/plain"

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


def parts_of(request: Request) -> list[Part]:
    """The parts in their order; empty when the request is no multipart form, or a broken one."""
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    found = re.search(r'boundary="?([^";]+)"?', parameters)
    if kind.strip().lower() != "multipart/form-data" or found is None:
        return []
    limit = b"\r\n--" + found[1].encode("latin-1")
    sections = (b"\r\n" + request.body).split(limit)
    if len(sections) < 3 or not sections[-1].startswith(b"--"):
        return []
    return [part for section in sections[1:-1] if (part := _part(section)) is not None]


def _part(section: bytes) -> Part | None:
    head, blank, content = section.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    headers = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    told = dict(_PARAMETER.findall(headers.get("content-disposition", "")))
    if not blank or "name" not in told:
        return None
    filename = unquote(told["filename"]) if "filename" in told else None
    return Part(unquote(told["name"]), content, filename, headers.get("content-type", "text/plain"))
