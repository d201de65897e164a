"""multipart/form-data (RFC 7578) as a stream: a file goes from its source to the tool without being held in memory."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from secrets import token_hex

from plugins.api import FatalApiError
from plugins.http.limits import bounded

_QUOTED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class Multipart:
    """A form with one file: `client.answer("POST", path, content=form.stream(), headers=form.headers)`.

    `fields` come before the file, as a mapping or as pairs where a name repeats. Names and the filename are UTF-8 with quotes and
    line ends percent-encoded, as browsers send them (RFC 7578 forbids `filename*`). `size`, or content given as bytes, makes a
    Content-Length, which some tools insist on. More than `max_bytes` of content is a FatalApiError, before anything is sent
    where the size is known. The stream can be read once when the content can.
    """

    def __init__(
        self,
        fields: Mapping[str, str] | Iterable[tuple[str, str]],
        file_field: str,
        filename: str,
        content_type: str,
        content: bytes | AsyncIterable[bytes],
        max_bytes: int,
        *,
        size: int | None = None,
    ) -> None:
        self._boundary = token_hex(16)
        pairs = fields.items() if isinstance(fields, Mapping) else fields
        head = "".join(f"{self._part(name)}\r\n\r\n{value}\r\n" for name, value in pairs)
        kind = content_type if content_type.isprintable() and content_type else "application/octet-stream"
        head += f'{self._part(file_field)}; filename="{_quoted(filename)}"\r\nContent-Type: {kind}\r\n\r\n'
        self._head, self._tail = head.encode("utf-8", "replace"), f"\r\n--{self._boundary}--\r\n".encode()
        self._content, self._max_bytes = content, max_bytes
        self._size = len(content) if isinstance(content, bytes) else size
        if self._size is not None and self._size > max_bytes:
            raise FatalApiError(f"{filename[:100]} is larger than {max_bytes} bytes, the most this tool takes")

    def _part(self, name: str) -> str:
        return f'--{self._boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'

    @property
    def headers(self) -> dict[str, str]:
        """Content-Type, and Content-Length where the size is known."""
        headers = {"Content-Type": f"multipart/form-data; boundary={self._boundary}"}
        if self._size is not None:
            headers["Content-Length"] = str(len(self._head) + self._size + len(self._tail))
        return headers

    async def stream(self) -> AsyncIterator[bytes]:
        yield self._head
        if isinstance(self._content, bytes):
            yield self._content
        else:
            async for chunk in bounded(self._content, self._max_bytes):
                yield chunk
        yield self._tail


def _quoted(text: str) -> str:
    return text.translate(_QUOTED)
