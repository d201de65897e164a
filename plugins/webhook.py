"""Validators: who signed a delivery, decided from its raw bytes. Pure; the only clock is `delivery.received_at`.

Each `validate(delivery, secrets)` takes every live secret, newest first, so that a rotation refuses nobody; it answers Verified or
raises WebhookRejected. A secret that is empty never counts: an unset setting must not open the door.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import parse_qsl

from plugins.api import AddressRefused, Delivery, DeliveryTooOld, PluginConfigError, SignatureMismatch, SignatureMissing, Verified
from plugins.mapping import to_micros

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Encoding = Literal["hex", "base64"]

SECRET_WORDS = ("secret", "token", "key", "sig", "pass", "auth", "hmac", "jwt")
"""A query parameter whose name holds one of these is a secret: its value is cut out of what is kept of a delivery."""
MAX_QUERY = 8192


class WebhookValidator(Protocol):
    """Says that a delivery is authentic, and by which of the live secrets."""

    def validate(self, delivery: Delivery, secrets: Sequence[bytes]) -> Verified:
        """Answers Verified, or raises WebhookRejected; raises PluginConfigError when there is no secret to check with."""
        ...


def key_id_of(secret: bytes) -> str:
    """A short name for a secret, safe to log: 32 bits of its hash tell two live keys apart and nothing more."""
    return blake2b(secret, digest_size=4, person=b"key-id").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacHeader:
    """Accepts a delivery whose header carries the HMAC of its exact bytes.

    `prefix` is what stands before the digest ("sha256="); with `prefix_optional` a bare digest passes too.
    """

    header: str
    algorithm: str = "sha256"
    encoding: Encoding = "hex"
    prefix: str = ""
    prefix_optional: bool = False
    scheme: str = "hmac"

    def validate(self, delivery: Delivery, secrets: Sequence[bytes]) -> Verified:
        presented = _digest_in(_header(delivery, self.header), self.prefix, self.prefix_optional)
        return _signed_by(self.scheme, self.header, presented, delivery.body, secrets, self.algorithm, self.encoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampedHmac:
    """Accepts a delivery whose header carries the HMAC of a timestamp header, a separator and the exact body.

    The timestamp is RFC 3339 text or epoch seconds (or milliseconds); the message holds its text as sent. `tolerance` bounds, in
    seconds, how long before received_at it may lie, `ahead` how far after; `tolerance=None` accepts any age, where a tool repeats
    old deliveries with their first timestamp and deduplication does the work.
    """

    header: str
    timestamp_header: str
    separator: bytes = b""
    algorithm: str = "sha256"
    encoding: Encoding = "hex"
    prefix: str = ""
    prefix_optional: bool = False
    tolerance: float | None = 300.0
    ahead: float = 300.0
    scheme: str = "hmac-timestamp"

    def validate(self, delivery: Delivery, secrets: Sequence[bytes]) -> Verified:
        presented = _digest_in(_header(delivery, self.header), self.prefix, self.prefix_optional)
        timestamp = _header(delivery, self.timestamp_header)
        message = _bytes(timestamp) + self.separator + delivery.body
        verified = _signed_by(self.scheme, self.header, presented, message, secrets, self.algorithm, self.encoding)
        self._check_age(timestamp, delivery.received_at)  # after the signature: an outsider learns nothing about our window
        return verified

    def _check_age(self, timestamp: str, received_at: int) -> None:
        signed_at = to_micros(timestamp)
        if signed_at is None:
            raise DeliveryTooOld(f"header {self.timestamp_header} is not a time")
        age = (received_at - signed_at) / 1e6
        if -age > self.ahead:
            raise DeliveryTooOld(f"signed {-age:.0f} s ahead of our clock, {self.ahead:.0f} s are allowed; check both clocks")
        if self.tolerance is not None and age > self.tolerance:
            raise DeliveryTooOld(f"signed {age:.0f} s before it came, {self.tolerance:.0f} s are allowed (setting webhook.tolerance)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSecretHeader:
    """Accepts a delivery whose header is the secret itself. It covers no byte of the body: use it over TLS, and only where the
    tool cannot sign. `prefix` is what stands before the secret ("Bearer ")."""

    header: str
    prefix: str = ""
    scheme: str = "shared-secret"

    def validate(self, delivery: Delivery, secrets: Sequence[bytes]) -> Verified:
        presented = _digest_in(_header(delivery, self.header), self.prefix, False)
        return _same_as_one(self.scheme, f"header {self.header}", _bytes(presented), secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSecretQuery:
    """Accepts a delivery whose address ends in the secret, `?key=…`: for tools that can neither sign nor send a header. Proxies log
    addresses, so a header is better wherever there is one. The secret may hold a plain `+`; the parameter must be named like a secret
    (SECRET_WORDS)."""

    parameter: str = "key"
    scheme: str = "query-secret"

    def __post_init__(self) -> None:
        if not any(word in self.parameter.lower() for word in SECRET_WORDS):
            words = ", ".join(SECRET_WORDS)
            raise PluginConfigError(f"the parameter that carries a webhook's secret must be named like one ({words}): events leave it out")

    def validate(self, delivery: Delivery, secrets: Sequence[bytes]) -> Verified:
        query = delivery.query[:MAX_QUERY].replace("+", "%2B")
        presented = next((value for name, value in parse_qsl(query) if name == self.parameter), "")
        if not presented:
            raise SignatureMissing(f"the address has no {self.parameter}=…; put the secret behind it in the tool's webhook")
        return _same_as_one(self.scheme, f"parameter {self.parameter}", _bytes(presented), secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """Accepts a delivery with HTTP Basic credentials: this user, and a live secret as the password."""

    user: str
    scheme: str = "basic"

    def validate(self, delivery: Delivery, secrets: Sequence[bytes]) -> Verified:
        presented = _header(delivery, "authorization")
        kind, _, encoded = presented.partition(" ")
        if kind.lower() != "basic":
            raise SignatureMismatch("header authorization is not HTTP Basic")
        try:
            user, _, password = b64decode(encoded.strip(), validate=True).partition(b":")
        except (BadBase64, ValueError):
            raise SignatureMismatch("header authorization is not base64") from None
        user_is_ours = hmac.compare_digest(user, self.user.encode())
        verified = _same_as_one(self.scheme, "header authorization", password, secrets)
        if not user_is_ours:
            raise SignatureMismatch("header authorization names another user")
        return verified


@dataclass(frozen=True, slots=True)
class AllowedAddresses:
    """Accepts a delivery from these networks only: `AllowedAddresses(["198.51.100.0/24", "2001:db8::1"])`.

    The door holds every tool's deliveries against `webhook.addresses` with it, beside the tool's own scheme; as the only scheme
    it proves where a delivery comes from and not who sent it. From an address in `proxies`, the nearest one named in
    X-Forwarded-For that is no proxy counts. Without a known address a delivery is refused.
    """

    networks: Sequence[str]
    proxies: Sequence[str] = ()
    scheme: str = "addresses"
    _networks: tuple[IPv4Network | IPv6Network, ...] = field(init=False, repr=False)
    _proxies: tuple[IPv4Network | IPv6Network, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_networks", _networks(self.networks, "webhook.addresses"))
        object.__setattr__(self, "_proxies", _networks(self.proxies, "webhook.proxies"))

    def validate(self, delivery: Delivery, secrets: Sequence[bytes] = ()) -> Verified:
        address = _address(delivery.peer)
        if self._proxies:
            named = delivery.headers.get("x-forwarded-for", "").split(",")
            while named and any(address in network for network in self._proxies if address is not None):
                address = _address(named.pop().strip())
        if address is None or not any(address in network for network in self._networks):
            raise AddressRefused("deliveries of this tool are not taken from this address (setting webhook.addresses)")
        return Verified(self.scheme)


def allowed_addresses(webhook: Any) -> AllowedAddresses | None:
    """What a tool's `webhook` settings say of addresses, None when nothing; raises PluginConfigError for what is none."""
    if not isinstance(webhook, dict) or ("addresses" not in webhook and "proxies" not in webhook):
        return None
    addresses, proxies = webhook.get("addresses"), webhook.get("proxies", [])
    if not isinstance(addresses, list) or not addresses or not isinstance(proxies, list):
        raise PluginConfigError("webhook.addresses and webhook.proxies must be lists of networks, as 198.51.100.0/24")
    return AllowedAddresses(tuple(addresses), tuple(proxies))


def _networks(texts: Sequence[str], setting: str) -> tuple[IPv4Network | IPv6Network, ...]:
    from ipaddress import ip_network

    try:
        return tuple(ip_network(str(text)) for text in texts)
    except ValueError as exc:
        raise PluginConfigError(f"{setting}: {exc}; write a network as 198.51.100.0/24, or one address") from None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    from ipaddress import IPv6Address, ip_address

    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _header(delivery: Delivery, name: str) -> str:
    value = delivery.headers.get(name.lower())
    if not value:
        raise SignatureMissing(f"header {name} is missing; set the tool's webhook up with its secret")
    return value


def _digest_in(value: str, prefix: str, optional: bool) -> str:
    if not prefix:
        return value
    if value[: len(prefix)].lower() == prefix.lower():
        return value[len(prefix) :]
    if optional:
        return value
    raise SignatureMismatch(f"the header does not begin with {prefix.strip()}")


def _signed_by(
    scheme: str, header: str, presented: str, message: bytes, secrets: Sequence[bytes], algorithm: str, encoding: Encoding
) -> Verified:
    given = _bytes(presented.strip().lower() if encoding == "hex" else presented.strip())
    for secret in _live(secrets):
        digest = hmac.digest(secret, message, algorithm)
        expected = digest.hex().encode() if encoding == "hex" else b64encode(digest)
        if hmac.compare_digest(given, expected):
            return Verified(scheme, key_id_of(secret))
    raise SignatureMismatch(f"header {header} does not sign this delivery; check the webhook's secret on both sides")


def _same_as_one(scheme: str, where: str, presented: bytes, secrets: Sequence[bytes]) -> Verified:
    for secret in _live(secrets):
        if hmac.compare_digest(presented, secret):
            return Verified(scheme, key_id_of(secret))
    raise SignatureMismatch(f"{where} is not the configured secret")


def _live(secrets: Sequence[bytes]) -> Sequence[bytes]:
    live = [secret for secret in secrets if secret]
    if not live:
        raise PluginConfigError("no webhook secret is set, so no delivery can be verified; set webhook.secret of this tool")
    return live


def _bytes(text: str) -> bytes:
    """Any header as bytes, lone surrogates included: compare_digest refuses text outside ASCII."""
    return text.encode("utf-8", "surrogatepass")
