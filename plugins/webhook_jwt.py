"""JSON Web Tokens in a delivery's header: who issued one, and whether it counts at `received_at`. Pure, as plugins/webhook.py is.

A token is judged by what we are configured with, never by what it says of itself: the algorithms are pinned, a shared key verifies
HS* alone and a public key never does, and a token's `kid` only chooses among the keys we hold. A key is one of

    a shared secret (bytes)       HS256, HS384, HS512
    a public key in PEM           RS*, PS*, ES*, EdDSA, as the key's own kind allows
    a JWK, or a JWKS as JSON      each key by its own kind; kept inline or in a secret, so no delivery waits for a fetch

PyJWT checks the signature; the claims are compared here, against the delivery's own time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from plugins.api import Delivery, DeliveryTooOld, PluginConfigError, SignatureMismatch, SignatureMissing, Verified
from plugins.webhook import key_id_of

SHARED = frozenset({"HS256", "HS384", "HS512"})
RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
ALGORITHMS = SHARED | RSA | {"ES256", "ES384", "ES512", "EdDSA"}
MAX_TOKEN = 8192
MIN_SHARED_KEY = 32
"""Bytes of a shared key: whoever sees one token can try shorter ones at leisure (RFC 7518, 3.2)."""


@dataclass(frozen=True, slots=True)
class _Key:
    """One key we hold and what it may verify; `kid` is its own name in a JWKS, `key_id` what a log may show."""

    key: Any
    algorithms: frozenset[str]
    kid: str | None
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtHeader:
    """Accepts a delivery whose header carries a token that one of our keys signed and whose claims are the expected ones.

    `issuer` and `audience` are compared when set; `exp` must be there while `needs_expiry` holds; `leeway` bounds the seconds two
    clocks may differ. The token covers no byte of the body: who has it can send anything until it ends.
    """

    header: str = "authorization"
    prefix: str = "Bearer "
    algorithms: tuple[str, ...] = ("HS256",)
    issuer: str | None = None
    audience: str | None = None
    leeway: float = 60.0
    needs_expiry: bool = True
    min_shared_key: int = MIN_SHARED_KEY
    scheme: str = "jwt"
    _allowed: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        strange = sorted(set(self.algorithms) - ALGORITHMS)
        if strange or not self.algorithms:
            raise PluginConfigError(f"webhook.algorithms takes any of {', '.join(sorted(ALGORITHMS))}; not: {', '.join(strange) or 'none'}")
        object.__setattr__(self, "_allowed", frozenset(self.algorithms))

    def validate(self, delivery: Delivery, secrets: Sequence[bytes]) -> Verified:
        return self.read(delivery, secrets)[0]

    def read(self, delivery: Delivery, secrets: Sequence[bytes]) -> tuple[Verified, Mapping[str, Any]]:
        """As `validate`, and the token's claims, for a tool that binds more than issuer and audience."""
        token = self._token(delivery)
        keys = [key for secret in secrets if secret for key in _keys_of(secret, self.min_shared_key)]
        if not keys:
            raise PluginConfigError("no key is set, so no token can be verified; set webhook.secret of this tool")
        key, claims = self._signed_by(token, keys)
        self._check(claims, delivery.received_at / 1e6)
        return Verified(self.scheme, key.key_id), claims

    def _token(self, delivery: Delivery) -> str:
        value = delivery.headers.get(self.header)
        if not value:
            raise SignatureMissing(f"header {self.header} is missing; put the token into the webhook's authentication")
        if value[: len(self.prefix)].lower() != self.prefix.lower():
            raise SignatureMismatch(f"header {self.header} does not begin with {self.prefix.strip()}")
        token = value[len(self.prefix) :].strip()
        if len(token) > MAX_TOKEN or not token.isascii():
            raise SignatureMismatch(f"header {self.header} holds no token")
        return token

    def _signed_by(self, token: str, keys: Sequence[_Key]) -> tuple[_Key, dict[str, Any]]:
        from jwt import InvalidTokenError, PyJWS  # with the first token, not with the plugin: cryptography takes its time to load

        jws = PyJWS()
        try:
            head = jws.get_unverified_header(token)
        except InvalidTokenError:
            raise SignatureMismatch(f"header {self.header} holds no token") from None
        algorithm, kid = head.get("alg"), head.get("kid")
        if algorithm not in self._allowed:
            raise SignatureMismatch(f"the token's algorithm is not one of {', '.join(self.algorithms)} (setting webhook.algorithms)")
        if "crit" in head:
            raise SignatureMismatch("the token demands an extension that is not known here")
        named = [key for key in keys if kid is not None and key.kid == kid]
        for key in named or [key for key in keys if kid is None or key.kid is None]:
            if algorithm not in key.algorithms:
                continue
            try:
                payload = jws.decode(token, key.key, algorithms=[algorithm])
            except InvalidTokenError:
                continue
            claims = _object(payload)
            if claims is None:
                raise SignatureMismatch("the token's claims are no JSON object")
            return key, claims
        raise SignatureMismatch("no live key signed this token; check webhook.secret, and that the token was issued with it")

    def _check(self, claims: Mapping[str, Any], at: float) -> None:
        """The claims of a token whose signature is good; `at` in epoch seconds."""
        ends, begins, issued = (_seconds(claims, name) for name in ("exp", "nbf", "iat"))
        if ends is None and self.needs_expiry:
            raise SignatureMismatch("the token has no expiry (exp); issue one that ends")
        if ends is not None and at >= ends + self.leeway:
            raise DeliveryTooOld(f"the token ended {at - ends:.0f} s before this delivery came; issue another and store it in the tool")
        for name, time in (("nbf", begins), ("iat", issued)):
            if time is not None and at < time - self.leeway:
                raise DeliveryTooOld(f"the token is of a later time ({name}); check both clocks")
        if self.issuer is not None and claims.get("iss") != self.issuer:
            raise SignatureMismatch("the token was issued by somebody else (iss); see webhook.issuer")
        if self.audience is not None:
            meant = claims.get("aud")
            if self.audience not in (meant if isinstance(meant, list) else (meant,)):
                raise SignatureMismatch("the token is meant for another connection (aud); see webhook.audience")


def issue(
    key: bytes, *, issuer: str, audience: str, issued_at: int, seconds: int, algorithm: str = "HS256", kid: str | None = None, **claims: Any
) -> str:
    """A signed token for an admin to store in a tool that sends it with each delivery; times in epoch seconds.

    `key` is the shared key, or the private key in PEM for the other algorithms. Whoever holds the token passes until it ends.
    """
    import jwt

    if algorithm not in ALGORITHMS:
        raise PluginConfigError(f"{algorithm[:20]!r} is none of {', '.join(sorted(ALGORITHMS))}")
    if algorithm in SHARED and len(key) < MIN_SHARED_KEY:
        raise PluginConfigError(f"a shared key for tokens has at least {MIN_SHARED_KEY} bytes; make one with: openssl rand -base64 48")
    payload = {**claims, "iss": issuer, "aud": audience, "iat": issued_at, "exp": issued_at + seconds}
    try:
        return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid} if kid else None)
    except (jwt.InvalidKeyError, ValueError, TypeError):
        raise PluginConfigError(f"the key cannot sign {algorithm} tokens") from None


@lru_cache(maxsize=64)
def _keys_of(secret: bytes, min_shared_key: int) -> tuple[_Key, ...]:
    """A configured key read by its form; raises PluginConfigError for one that can verify nothing."""
    from jwt import PyJWTError

    text = secret.strip()
    try:
        if text.startswith(b"{"):
            document = msgspec.json.decode(text)
            keys = [_of_jwk(jwk, f"{key_id_of(secret)}/{number}") for number, jwk in enumerate(document.get("keys", [document]))]
            return tuple(keys)
        if text.startswith(b"-----BEGIN"):
            return (_of_pem(text, key_id_of(secret)),)
    except (PyJWTError, msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError):
        raise PluginConfigError("webhook.secret looks like a key set or a PEM key, and cannot be read as public keys") from None
    if len(secret) < min_shared_key:
        raise PluginConfigError(f"webhook.secret is too short to verify tokens by: at least {min_shared_key} bytes")
    return (_Key(secret, SHARED, None, key_id_of(secret)),)


def _of_jwk(jwk: Mapping[str, Any], key_id: str) -> _Key:
    """One key of a set; its own `alg`, where it has one, is the only algorithm it serves."""
    from jwt import PyJWK

    kind, named, kid = jwk["kty"], jwk.get("alg"), jwk.get("kid")
    if kind != "oct" and "d" in jwk:
        raise ValueError("a private key")
    curves = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
    served = {"oct": SHARED, "RSA": RSA, "EC": frozenset({curves[jwk["crv"]]} if kind == "EC" else ()), "OKP": frozenset({"EdDSA"})}[kind]
    return _Key(PyJWK(dict(jwk)).key, served & {named} if named else served, kid if isinstance(kid, str) else None, key_id)


def _of_pem(pem: bytes, key_id: str) -> _Key:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pem)
    if isinstance(key, rsa.RSAPublicKey):
        return _Key(key, RSA, None, key_id)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _Key(key, frozenset({{256: "ES256", 384: "ES384", 521: "ES512"}[key.key_size]}), None, key_id)
    return _Key(key, frozenset({"EdDSA"}), None, key_id)


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SignatureMismatch(f"the token's {name} is no time")
    return float(value)


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
