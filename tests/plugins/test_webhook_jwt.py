"""Tokens in a delivery's header: what counts is what we are configured with, never what a token says of itself."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from plugins.api import Delivery, DeliveryTooOld, PluginConfigError, SignatureMismatch, SignatureMissing, WebhookRejected
from plugins.webhook_jwt import JwtHeader, issue

NOW = 1_772_433_900
SHARED = b"a shared key of more than thirty-two bytes"
OTHER = b"another shared key, of as many bytes and more"
EXPECTED: dict[str, Any] = {"issuer": "ai-agents", "audience": "acme/desk"}
MAKERS = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
TO_JWK: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


@cache
def a_pair(algorithm: str) -> tuple[bytes, bytes, dict[str, Any]]:
    """A private key and its public one in PEM, and the public one as a JWK."""
    key: Any = MAKERS[algorithm]()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private, public, dict(TO_JWK[algorithm].to_jwk(key.public_key(), as_dict=True))


def a_token(key: bytes = SHARED, algorithm: str = "HS256", **given: Any) -> str:
    usual: dict[str, Any] = {**EXPECTED, "issued_at": NOW - 3600, "seconds": 86_400}
    return issue(key, algorithm=algorithm, **{**usual, **given})


def a_delivery(token: str, received_at: float = NOW) -> Delivery:
    headers = {"authorization": f"Bearer {token}"}
    return Delivery(tenant="acme", tool="desk", body=b"{}", headers=headers, received_at=int(received_at * 1e6))


def signed(claims: dict[str, Any], key: Any = SHARED, algorithm: str = "HS256", **headers: Any) -> str:
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers or None)


GOOD = {"iss": "ai-agents", "aud": "acme/desk", "iat": NOW - 60, "exp": NOW + 60}


def test_a_token_we_issued_passes_and_says_by_which_key() -> None:
    """During a rotation two keys are live, and which one still comes must be seen."""
    header = JwtHeader(**EXPECTED)
    first = header.validate(a_delivery(a_token(SHARED)), [OTHER, SHARED])
    second = header.validate(a_delivery(a_token(OTHER)), [OTHER, SHARED])
    assert first.scheme == second.scheme == "jwt"
    assert first.key_id != second.key_id


@pytest.mark.parametrize("algorithm", sorted(MAKERS))
def test_each_kind_of_public_key_verifies_in_each_form(algorithm: str) -> None:
    """PEM, one JWK, or a set: admins have what they have."""
    private, public, jwk = a_pair(algorithm)
    header = JwtHeader(algorithms=(algorithm,), **EXPECTED)
    token = a_token(private, algorithm, kid="k1")
    key_set = json.dumps({"keys": [{**jwk, "kid": "k0", "alg": algorithm}, {**jwk, "kid": "k1"}]}).encode()
    for secret in (public, json.dumps(jwk).encode(), key_set):
        assert header.validate(a_delivery(token), [secret]).scheme == "jwt"


def test_a_public_key_is_never_a_shared_one() -> None:
    """The oldest trick: sign HS256 with the public key, which everybody has, and let the token say so."""
    _, public, jwk = a_pair("RS256")
    for key in (public, public.strip(), json.dumps(jwk).encode()):
        encoded = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256", "typ": "JWT"}, GOOD)]
        message = b".".join(encoded)
        token = (message + b"." + urlsafe_b64encode(hmac.digest(key, message, "sha256")).rstrip(b"=")).decode()
        for algorithms in (("RS256",), ("HS256",), ("RS256", "HS256")):
            with pytest.raises(SignatureMismatch):
                JwtHeader(algorithms=algorithms, **EXPECTED).validate(a_delivery(token), [key])


def test_a_token_without_a_signature_is_none() -> None:
    """`alg: none` in any spelling, and a signature cut off."""
    for alg in ("none", "None", "NONE", ""):
        parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": alg}, GOOD)]
        with pytest.raises(SignatureMismatch):
            JwtHeader(**EXPECTED).validate(a_delivery(".".join([*parts, ""])), [SHARED])
    with pytest.raises(SignatureMismatch):
        JwtHeader(**EXPECTED).validate(a_delivery(a_token().rpartition(".")[0] + "."), [SHARED])
    with pytest.raises(PluginConfigError, match="algorithms"):
        JwtHeader(algorithms=("none",))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"iss": "somebody"}, SignatureMismatch),
        ({"iss": None}, SignatureMismatch),
        ({"aud": "acme/other"}, SignatureMismatch),
        ({"aud": ["acme/other", "x"]}, SignatureMismatch),
        ({"aud": None}, SignatureMismatch),
        ({"exp": NOW - 61}, DeliveryTooOld),
        ({"exp": None}, SignatureMismatch),
        ({"exp": "soon"}, SignatureMismatch),
        ({"exp": True}, SignatureMismatch),
        ({"nbf": NOW + 61}, DeliveryTooOld),
        ({"iat": NOW + 61}, DeliveryTooOld),
    ],
)
def test_each_claim_is_held_to(changed: dict[str, Any], error: type[WebhookRejected]) -> None:
    """A good signature says who issued it; the claims say for whom and for how long."""
    claims = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    with pytest.raises(error):
        JwtHeader(**EXPECTED).validate(a_delivery(signed(claims)), [SHARED])


def test_clocks_may_differ_by_the_leeway_and_no_more() -> None:
    """The clock is the delivery's own time: a re-read years later decides the same."""
    token = signed({**GOOD, "exp": NOW})
    header = JwtHeader(leeway=60, **EXPECTED)
    assert header.validate(a_delivery(token, NOW + 59), [SHARED])
    with pytest.raises(DeliveryTooOld):
        header.validate(a_delivery(token, NOW + 60), [SHARED])
    assert header.validate(a_delivery(signed({**GOOD, "aud": ["x", "acme/desk"]})), [SHARED])


def test_the_key_id_chooses_among_our_keys_and_brings_none() -> None:
    """A `jwk` or `jku` in the token's head is an attacker's key; a kid that we do not have is nobody's."""
    private, _, jwk = a_pair("ES256")
    key_set = json.dumps({"keys": [{**jwk, "kid": "ours"}]}).encode()
    header = JwtHeader(algorithms=("ES256",), **EXPECTED)
    assert header.validate(a_delivery(signed(GOOD, private, "ES256", kid="ours")), [key_set])
    assert header.validate(a_delivery(signed(GOOD, private, "ES256")), [key_set])
    with pytest.raises(SignatureMismatch):
        header.validate(a_delivery(signed(GOOD, private, "ES256", kid="theirs")), [key_set])
    with pytest.raises(SignatureMismatch):
        JwtHeader(**EXPECTED).validate(a_delivery(signed(GOOD, OTHER, jwk={"kty": "oct", "k": "eA"})), [SHARED])
    with pytest.raises(SignatureMismatch):
        JwtHeader(**EXPECTED).validate(a_delivery(signed(GOOD, crit=["exp"])), [SHARED])


def test_a_key_serves_its_own_algorithm_alone() -> None:
    """A JWK that names RS256 does not verify PS256, though the key could."""
    private, _, jwk = a_pair("RS256")
    pinned = json.dumps({**jwk, "alg": "RS256"}).encode()
    header = JwtHeader(algorithms=("RS256", "PS256"), **EXPECTED)
    assert header.validate(a_delivery(signed(GOOD, private, "RS256")), [pinned])
    with pytest.raises(SignatureMismatch):
        header.validate(a_delivery(signed(GOOD, private, "PS256")), [pinned])


@pytest.mark.parametrize("secret", [b"", b"short", b'{"keys": 3}', b"{}", b'{"kty": "RSA"}', b"-----BEGIN PUBLIC KEY-----\nAAAA", b"{"])
def test_a_key_that_can_verify_nothing_is_a_fault_of_the_settings(secret: bytes) -> None:
    """Not the sender's fault, and never a door left open."""
    with pytest.raises(PluginConfigError):
        JwtHeader(**EXPECTED).validate(a_delivery(a_token()), [secret])


def test_a_private_key_among_the_verifying_ones_is_refused() -> None:
    """It would work, and it would lie where it does not belong."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = json.dumps(ECAlgorithm.to_jwk(key, as_dict=True)).encode()
    with pytest.raises(PluginConfigError):
        JwtHeader(algorithms=("ES256",), **EXPECTED).validate(a_delivery(signed(GOOD, key, "ES256")), [private])


@pytest.mark.parametrize("value", ["", "Basic eDp5", "Bearer", "Bearer ", "Bearer a.b", "Bearer ü.ü.ü", "Bearer " + "x" * 9000])
def test_what_is_no_token_is_refused(value: str) -> None:
    """Headers come from anywhere."""
    delivery = Delivery(tenant="acme", tool="desk", body=b"", headers={"authorization": value}, received_at=NOW * 1_000_000)
    with pytest.raises((SignatureMismatch, SignatureMissing)):
        JwtHeader(**EXPECTED).validate(delivery, [SHARED])


@given(st.text(alphabet="abcXYZ019-_.=", max_size=120))
def test_any_text_is_refused_and_nothing_else_happens(token: str) -> None:
    """No header makes the door fall over."""
    with pytest.raises(WebhookRejected):
        JwtHeader(**EXPECTED).validate(a_delivery(token), [SHARED])


def test_tokens_are_issued_by_good_keys_only() -> None:
    """A weak key can be found from one token."""
    with pytest.raises(PluginConfigError, match="32 bytes"):
        a_token(b"short")
    with pytest.raises(PluginConfigError, match="cannot sign"):
        a_token(SHARED, "RS256")
    with pytest.raises(PluginConfigError, match="none of"):
        a_token(SHARED, "none")
    assert jwt.get_unverified_header(a_token(kid="2026-03"))["kid"] == "2026-03"
