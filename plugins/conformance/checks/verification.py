"""Who may speak to us. Every delivery here is the sandbox's own, really signed, and then spoilt in one way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec

from plugins.api import Delivery, DeliveryTooOld, PluginConfigError, TicketingToolPlugin, Verified, WebhookRejected
from plugins.conformance.check import CheckFailed, NotApplicable, check, require
from plugins.conformance.stand import Secrets, Stand, as_written

OTHER_KEY = b"another-live-key-of-32-bytes-or-more"
DAY = 86_400 * 1_000_000
NOT_PROOF = ("content-type", "content-length", "host", "accept", "accept-encoding", "user-agent", "connection")


def refused(plugin: TicketingToolPlugin, delivery: Delivery, what: str) -> WebhookRejected:
    """The refusal of a delivery that must not be taken."""
    try:
        verified = plugin.validate_webhook(delivery)
    except WebhookRejected as exc:
        return exc
    except Exception as exc:
        raise CheckFailed(f"{what}: {type(exc).__name__} in place of WebhookRejected") from exc
    raise CheckFailed(f"{what} is accepted ({verified})")


def accepted(plugin: TicketingToolPlugin, delivery: Delivery, what: str) -> Verified:
    """How a delivery that must be taken was verified."""
    try:
        return plugin.validate_webhook(delivery)
    except WebhookRejected as exc:
        raise CheckFailed(f"{what} is refused: {exc}") from exc


def changed(delivery: Delivery, **fields: object) -> Delivery:
    return msgspec.structs.replace(delivery, **fields)


def keys(stand: Stand, live: Sequence[bytes | None]) -> Secrets:
    """A secrets callback whose webhook secrets are these; None stands for the real one."""
    hidden = stand.webhook_secrets()
    if not hidden:
        raise NotApplicable("plugin.toml marks no webhook setting as secret")

    def secrets(reference: str) -> Sequence[bytes]:
        if reference in hidden:
            return [reference.encode() if key is None else key for key in live]
        return as_written(reference)

    return secrets


class Proof(NamedTuple):
    """One part of a delivery without which it is refused: a header, or a parameter of the address."""

    delivery: Delivery
    name: str
    value: str
    in_query: bool

    def instead(self, value: str | None) -> Delivery:
        """The delivery with another value there; None leaves it out."""
        if self.in_query:
            pairs = [(n, v) for n, v in parse_qsl(self.delivery.query, keep_blank_values=True) if n != self.name]
            pairs += [(self.name, value)] if value is not None else []
            return changed(self.delivery, query=urlencode(pairs, errors="surrogatepass"))
        headers = {n: v for n, v in self.delivery.headers.items() if n != self.name}
        return changed(self.delivery, headers=headers if value is None else {**headers, self.name: value})


def proofs(plugin: TicketingToolPlugin, delivery: Delivery) -> list[Proof]:
    """Everything in the delivery that proves it; never nothing."""
    parts = [Proof(delivery, name, value, False) for name, value in delivery.headers.items() if name not in NOT_PROOF]
    parts += [Proof(delivery, name, value, True) for name, value in parse_qsl(delivery.query, keep_blank_values=True)]
    needed = []
    for part in parts:
        try:
            plugin.validate_webhook(part.instead(None))
        except WebhookRejected:
            needed.append(part)
    require(needed, "no header and no part of the address is needed: whatever is left out, the delivery is accepted")
    return needed


def signed_body(stand: Stand) -> None:
    if not stand.told.signs_body:
        raise NotApplicable("signs_body = false: this tool's webhooks carry a secret, which covers no byte of the body")


def timestamped(stand: Stand) -> None:
    if not stand.told.timestamped:
        raise NotApplicable("timestamped = false: the signature of this tool's webhooks covers no time")


@check("verification.genuine", "A tool's own delivery is taken, and the event says by which scheme and key it was proven.")
async def genuine(stand: Stand) -> None:
    verified = accepted(stand.reader(), await stand.delivery(), "a genuine delivery")
    require(isinstance(verified, Verified) and verified.scheme, f"validate_webhook answered {verified!r}, not Verified with a scheme")


@check("verification.missing", "Whoever brings no proof at all is refused, or anybody who knows the address could write tickets.")
async def missing(stand: Stand) -> None:
    delivery = await stand.delivery()
    kept = {name: value for name, value in delivery.headers.items() if name in NOT_PROOF}
    refused(stand.reader(), changed(delivery, headers=kept, query=""), "a delivery without any proof")


@check(
    "verification.each_header", "Every header of the proof counts: a signature, its time or its key id altered in one letter is refused."
)
async def each_header(stand: Stand) -> None:
    delivery, plugin = await stand.delivery(), stand.reader()
    for part in proofs(plugin, delivery):
        value = part.value
        at = len(value) // 2
        letter = "b" if value[at] != "b" else "c"
        refused(plugin, part.instead(value[:at] + letter + value[at + 1 :]), f"a delivery with one letter of {part.name} altered")


@check("verification.tampered_body", "A body altered on the way is refused: the signature stands for every byte of it.")
async def tampered_body(stand: Stand) -> None:
    signed_body(stand)
    delivery, plugin = await stand.delivery(), stand.reader()
    for at in (0, len(delivery.body) // 2, len(delivery.body) - 1):
        body = delivery.body[:at] + bytes([delivery.body[at] ^ 1]) + delivery.body[at + 1 :]
        refused(plugin, changed(delivery, body=body), f"a body with byte {at} altered")


@check("verification.reformatted_body", "The bytes are signed, not the meaning: the same JSON laid out anew is another body.")
async def reformatted_body(stand: Stand) -> None:
    signed_body(stand)
    delivery, plugin = await stand.delivery(), stand.reader()
    refused(plugin, changed(delivery, body=delivery.body + b"\n"), "a body with a line end added")
    refused(plugin, changed(delivery, body=b" " + delivery.body), "a body with a space before it")


@check("verification.another_body", "A signature belongs to its own delivery and proves no other.")
async def another_body(stand: Stand) -> None:
    signed_body(stand)
    first, second = await stand.delivery('{"n": 1}'), await stand.delivery('{"n": 2}')
    refused(stand.reader(), changed(first, body=second.body), "one delivery's body under another's signature")


@check("verification.wrong_key", "A delivery signed with a key we do not have is refused, however well it is made.")
async def wrong_key(stand: Stand) -> None:
    delivery = await stand.delivery()
    refused(stand.reader(secrets=keys(stand, [OTHER_KEY])), delivery, "a delivery of another key")
    refused(stand.reader(secrets=keys(stand, [OTHER_KEY, OTHER_KEY[::-1]])), delivery, "a delivery of neither of two keys")


@check("verification.two_live_keys", "While a secret is rotated the old and the new one both count, or the rotation loses deliveries.")
async def two_live_keys(stand: Stand) -> None:
    delivery = await stand.delivery()
    accepted(stand.reader(secrets=keys(stand, [None, OTHER_KEY])), delivery, "a delivery of the newer of two live keys")
    accepted(stand.reader(secrets=keys(stand, [OTHER_KEY, None])), delivery, "a delivery of the older of two live keys")


@check(
    "verification.rotated_meanwhile",
    "A secret that changes while the plugin runs counts at once: nobody restarts a worker to rotate a key.",
)
async def rotated_meanwhile(stand: Stand) -> None:
    delivery, live = await stand.delivery(), [OTHER_KEY]
    hidden = stand.webhook_secrets()
    if not hidden:
        raise NotApplicable("plugin.toml marks no webhook setting as secret")
    plugin = stand.reader(secrets=lambda reference: list(live) if reference in hidden else as_written(reference))
    refused(plugin, delivery, "a delivery of a key that is not live yet")
    live[:] = [secret.encode() for secret in hidden]
    accepted(plugin, delivery, "a delivery of a key that became live after the plugin was built")


@check(
    "verification.key_is_named",
    "The event names the key that proved it, so one can see when the old one is no longer used; it never tells it.",
)
async def key_is_named(stand: Stand) -> None:
    delivery = await stand.delivery()
    verified = accepted(stand.reader(secrets=keys(stand, [OTHER_KEY, None])), delivery, "a genuine delivery")
    require(verified.key_id and verified.key_id != "none", "Verified.key_id does not say which key it was")
    alone = accepted(stand.reader(), delivery, "a genuine delivery")
    require(verified.key_id == alone.key_id, "Verified.key_id names another key while a second one is live")
    for secret in stand.webhook_secrets():
        require(secret not in str(verified) and verified.key_id not in secret, "Verified tells (a part of) the secret itself")


@check("verification.no_key", "A secret that is unset or empty opens nothing: a forgotten setting must not open the door.")
async def no_key(stand: Stand) -> None:
    delivery = await stand.delivery()
    blank = {name: value if name in NOT_PROOF else "" for name, value in delivery.headers.items()}
    for live in ([], [b""]):
        plugin = stand.reader(secrets=keys(stand, live))
        for tried in (delivery, changed(delivery, headers=blank, query="")):
            try:
                verified = plugin.validate_webhook(tried)
            except (WebhookRejected, PluginConfigError):
                continue
            raise CheckFailed(f"with the secret {'unset' if not live else 'empty'} a delivery is accepted ({verified})")


@check("verification.cut_short", "A signature is compared whole: its beginning, or nothing, proves nothing.")
async def cut_short(stand: Stand) -> None:
    delivery, plugin = await stand.delivery(), stand.reader()
    for part in proofs(plugin, delivery):
        size = len(part.value)
        for kept in (size - 1, size // 2, 1, 0):
            refused(plugin, part.instead(part.value[:kept]), f"a delivery with {kept} of {size} letters of {part.name}")


@check(
    "verification.hostile_header",
    "A header may hold anything: letters outside ASCII, control characters, a megabyte. It is refused, nothing breaks.",
)
async def hostile_header(stand: Stand) -> None:
    delivery, plugin = await stand.delivery(), stand.reader()
    for part in proofs(plugin, delivery):
        for odd in ("ü漢", part.value + "é", "\udc80", "\x00", "=" * 99, ",", "sha256=", "Basic é", "Bearer ", "a.b.c", "x" * (1 << 20)):
            refused(plugin, part.instead(odd), f"a delivery with odd text in {part.name}")


@check("verification.too_old", "A delivery recorded yesterday cannot be played again: its signed time is compared with received_at.")
async def too_old(stand: Stand) -> None:
    timestamped(stand)
    delivery = await stand.delivery()
    late = changed(delivery, received_at=delivery.received_at + 60 * DAY)
    found = refused(stand.reader(), late, "a delivery signed 60 days before it came")
    require(isinstance(found, DeliveryTooOld), f"an old delivery is refused as {type(found).__name__}, not as DeliveryTooOld")


@check(
    "verification.from_the_future", "A signed time far ahead of ours is refused too: it would stay valid for as long as its maker likes."
)
async def from_the_future(stand: Stand) -> None:
    timestamped(stand)
    delivery = await stand.delivery()
    early = changed(delivery, received_at=delivery.received_at - 2 * DAY)
    found = refused(stand.reader(), early, "a delivery signed two days after it came")
    require(isinstance(found, DeliveryTooOld), f"a delivery of the future is refused as {type(found).__name__}, not as DeliveryTooOld")


@check("verification.again_in_time", "A tool repeats what it thinks was lost: the same delivery some seconds later is as good as before.")
async def again_in_time(stand: Stand) -> None:
    delivery, plugin = await stand.delivery(), stand.reader()
    first = accepted(plugin, delivery, "a genuine delivery")
    again = accepted(plugin, changed(delivery, received_at=delivery.received_at + 20_000_000), "the same delivery 20 s later")
    require(first == again, f"the same delivery is verified as {first}, then as {again}")


@check("verification.unicode_body", "A signature covers bytes: names and words of any script arrive intact.")
async def unicode_body(stand: Stand) -> None:
    body = '{"subject": "Türschließer „Nord“ – 門が開かない 🚪\\u2028"}'
    delivery = await stand.delivery(body)
    require(delivery.body == body.encode(), "the sandbox did not send the body it was given")
    accepted(stand.reader(), delivery, "a genuine delivery outside ASCII")


@check("verification.empty_body", "A delivery without a body is judged by its proof like any other, and breaks nothing.")
async def empty_body(stand: Stand) -> None:
    delivery, plugin = await stand.delivery(""), stand.reader()
    accepted(plugin, delivery, "a genuine delivery with an empty body")
    refused(plugin, changed(delivery, headers={}, query=""), "an empty delivery without any proof")


@check(
    "verification.before_parsing", "Nothing is read before it is proven: a body that is no JSON is verified, or refused, like any other."
)
async def before_parsing(stand: Stand) -> None:
    plugin = stand.reader()
    delivery = await stand.delivery('{"ticket": {"id":')
    accepted(plugin, delivery, "a genuine delivery whose body is no JSON")
    forged = {name: value for name, value in delivery.headers.items() if name in NOT_PROOF}
    for body in (b"\xff\xfe\x00", b"{" * 50_000):
        refused(plugin, changed(delivery, headers=forged, query="", body=body), "an unproven body that is no JSON")
