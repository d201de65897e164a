"""Ids and keys: how an event, a ticket's key and a link are named. Pure."""

from __future__ import annotations

import os
import threading
import time
from hashlib import blake2b

_lock = threading.Lock()
_last = 0


def new_event_id() -> str:
    """A UUIDv7 (RFC 9562), growing within this process even when the clock stands still or steps back."""
    global _last
    with _lock:
        stamp = max(time.time_ns() >> 8, _last + 1)  # 3.9 M steps a second: the sub-millisecond part keeps order
        _last = stamp
    nanos = stamp << 8
    millis, rest = divmod(nanos, 1_000_000)
    sub = (rest << 12) // 1_000_000  # 12 bits of the millisecond
    value = (millis & ((1 << 48) - 1)) << 80 | 0x7 << 76 | sub << 64 | 0b10 << 62 | int.from_bytes(os.urandom(8), "big") >> 2
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def ticket_key(tenant: str, tool: str, ticket_id: str) -> str:
    """The topic key of a ticket's events, and the source key of its links."""
    return f"{tenant}/{tool}/{ticket_id}"


def delivery_key(tenant: str, tool: str, body: bytes) -> str:
    """The topic key of a delivery that names no ticket: equal bodies share it."""
    return f"{tenant}/{tool}/#{blake2b(body, digest_size=8).hexdigest()}"


def delivery_dedup_key(tenant: str, tool: str, delivery_id: str, body: bytes | None = None) -> bytes:
    """16 bytes for a delivery with an id; pass the body when the signature does not cover the id."""
    h = blake2b(f"{tenant}/{tool}\0{delivery_id}\0".encode(), digest_size=16)
    if body is not None:
        h.update(body)
    return h.digest()


def body_dedup_key(key: str, body: bytes) -> bytes:
    """16 bytes for a delivery without an id: 8 of its topic key's hash, then 8 of its body's."""
    return blake2b(key.encode(), digest_size=8).digest() + blake2b(body, digest_size=8).digest()


def external_id(source_key: str, target_tool: str) -> str:
    """Our id of a link, short enough for a label or a tag: one mirrored ticket for one source ticket and target tool."""
    return "aia-" + blake2b(f"{source_key}\0{target_tool}".encode(), digest_size=12).hexdigest()
