"""What ApiClient's Multipart sends is what a sandbox reads."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from plugins.http.multipart import Multipart
from plugins.sandbox.http import Request
from plugins.sandbox.multipart import parts_of


async def sent(form: Multipart) -> Request:
    body = b"".join([chunk async for chunk in form.stream()])
    return Request("POST", "/", headers={name.lower(): value for name, value in form.headers.items()}, body=body)


async def test_a_files_bytes_and_name_arrive_untouched() -> None:
    """Line ends, quotes and what looks like a boundary belong to the file."""

    async def content() -> AsyncIterator[bytes]:
        yield b"\x00\r\n--x\r\n"
        yield b"\n\r\n"

    form = Multipart([("a[]", "1"), ("a[]", "zwei é")], "file", 'log "é".bin', "application/x-log", content(), 1000)
    first, second, file = parts_of(await sent(form))
    assert [(p.name, p.text, p.filename) for p in (first, second)] == [("a[]", "1", None), ("a[]", "zwei é", None)]
    assert (file.name, file.filename, file.content_type) == ("file", 'log "é".bin', "application/x-log")
    assert file.content == b"\x00\r\n--x\r\n\n\r\n"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--b\r\n"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\ncut'),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Type: text/plain\r\n\r\nnameless\r\n--b--\r\n"),
    ],
)
def test_what_is_no_whole_form_has_no_parts(content_type: str, body: bytes) -> None:
    """A tool refuses a torn upload instead of keeping half of it."""
    assert parts_of(Request("POST", "/", headers={"content-type": content_type}, body=body)) == []
