"""Files go up and come down, streamed, unchanged and bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator

from plugins.api import ApiError, FatalApiError, NotFound, TicketingToolPlugin, ValidationRefused
from plugins.conformance.builders import chunks
from plugins.conformance.check import CheckFailed, check, require
from plugins.conformance.stand import Stand

BINARY = bytes(range(256)) * 300 + b"\r\n--boundary--\r\n\x00"
MIB = 1 << 20
ENDLESS = 200
"""Mebibytes: more than any plugin should take without being told to."""


async def downloaded(plugin: TicketingToolPlugin, ticket_id: str, attachment_id: str) -> bytes:
    content = b""
    async for chunk in plugin.download_attachment(ticket_id, attachment_id):
        require(isinstance(chunk, bytes), f"download_attachment gives {type(chunk).__name__}, not bytes")
        content += chunk
    return content


@check("attachments.upload", "A file is not JSON, each tool wants it another way, and every byte of it arrives under its name.")
async def upload(stand: Stand) -> None:
    stand.needs_method("add_attachment")
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    for name in ("trace.bin", "Türe é.log", 'a "quoted" name.txt'):
        require(
            await plugin.add_attachment(ref.ticket_id, name, "application/octet-stream", chunks(BINARY)), "add_attachment answers no id"
        )


@check("attachments.round_trip", "What was uploaded is listed with its name and size and comes down byte for byte.")
async def round_trip(stand: Stand) -> None:
    stand.needs_method("add_attachment", "list_attachments", "download_attachment")
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    require(not list(await plugin.list_attachments(ref.ticket_id)), "a new ticket has attachments")
    attachment_id = await plugin.add_attachment(ref.ticket_id, "trace.bin", "application/octet-stream", chunks(BINARY))
    listed = {found.attachment_id: found for found in await plugin.list_attachments(ref.ticket_id)}
    require(attachment_id in listed, f"add_attachment answers {attachment_id!r}, listed are {', '.join(listed) or 'none'}")
    found = listed[attachment_id]
    require(found.filename == "trace.bin", f"the file's name is {found.filename!r}")
    require(found.size in (None, len(BINARY)), f"the file's size is {found.size}, {len(BINARY)} were sent")
    content = await downloaded(plugin, ref.ticket_id, attachment_id)
    require(content == BINARY, f"{len(content)} bytes come down, other than the {len(BINARY)} that went up")


@check("attachments.hostile_name", "A file's name comes from outside: it can neither break the upload's form nor lead to another path.")
async def hostile_name(stand: Stand) -> None:
    stand.needs_method("add_attachment")
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    for name in ("../../etc/passwd", 'x"; name="other', "a\r\nContent-Type: text/html\r\n\r\n<b>", "", "x" * 400):
        try:
            await plugin.add_attachment(ref.ticket_id, name, "text/plain", chunks(b"hello"))
        except ValidationRefused:
            continue  # refused by name: as good as taken
        except ApiError as exc:
            raise CheckFailed(f"a file called {name[:30]!r}: {type(exc).__name__}, which is not the file's fault") from exc


@check("attachments.bounded", "A file without an end is given up at the plugin's limit, for good: a retry would send it all again.")
async def bounded(stand: Stand) -> None:
    stand.needs_method("add_attachment")
    plugin, sent = stand.plugin(), 0
    ref = await stand.created(plugin)

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        block = bytes(MIB)
        while sent < ENDLESS:
            sent += 1
            yield block

    try:
        await plugin.add_attachment(ref.ticket_id, "endless.bin", "application/octet-stream", endless())
    except FatalApiError:
        require(sent < ENDLESS, f"all of {ENDLESS} MiB was taken in before the file was refused")
        return
    except ApiError as exc:
        raise CheckFailed(f"a file without an end is {type(exc).__name__} after {sent} MiB, which is tried again") from exc
    raise CheckFailed(f"a file of {ENDLESS} MiB is taken: there is no limit")


@check("attachments.missing", "A file that is not there is NotFound, like a ticket.")
async def missing(stand: Stand) -> None:
    stand.needs_method("download_attachment")
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    for hostile in (stand.told.missing_id, "../1", "1?x=y"):
        try:
            content = await downloaded(plugin, ref.ticket_id, hostile)
        except NotFound:
            continue
        except FatalApiError:
            require(hostile != stand.told.missing_id, "a missing attachment is not NotFound")
            continue
        raise CheckFailed(f"attachment {hostile!r}, which does not exist, has {len(content)} bytes")
