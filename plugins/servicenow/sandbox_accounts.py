"""The accounts of a small ServiceNow and its token endpoint: Basic, API key, and the OAuth grants."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable, Mapping
from secrets import token_urlsafe
from typing import Any

from plugins.sandbox.http import Request, Response, json_response
from plugins.sandbox.server import Actor
from plugins.sandbox.state import Table

OURS, PERSON, GUEST = "integration", "ada.agent", "guest"
NAMES: Mapping[str, str] = {OURS: "Integration User", PERSON: "Ada Agent", GUEST: "Gus Guest", "cora.caller": "Cora Caller"}
TOKEN_PATH = "/oauth_token.do"  # noqa: S105 - a path
TOKEN_LIFE, REFRESH_LIFE = 1800, 8_640_000
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Accounts:
    """Who may call, and how; tokens outlive a restart as everything else does."""

    def __init__(self, keys: Table, secret: Callable[[str], str]) -> None:
        self._keys, self._secret = keys, secret

    def password(self, user: str) -> str:
        return self._secret(f"password of {user}")

    @property
    def client(self) -> dict[str, str]:
        """Our OAuth application."""
        return {"client_id": self._secret("client_id"), "client_secret": self._secret("client_secret")}

    @property
    def private_key(self) -> str:
        """The key whose public half an administrator has uploaded for the JWT grant; made on first use."""
        if "jwt_private_key" not in self._keys:
            from cryptography.hazmat.primitives.asymmetric import rsa
            from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

            made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            self._keys.put("jwt_private_key", made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
        return str(self._keys.get("jwt_private_key"))

    def actor_of(self, request: Request) -> Actor | None:
        """Who asks; None when the credentials are wrong. The token endpoint asks nobody."""
        if request.path == TOKEN_PATH:
            return Actor("oauth", True)  # faults are for the API: a person is spared them
        user = self._user(request)
        return None if user is None else Actor(user, user == PERSON, NAMES.get(user, user))

    def _user(self, request: Request) -> str | None:
        if key := request.headers.get("x-sn-apikey"):
            return OURS if hmac.compare_digest(key.encode(), self._secret("api_key").encode()) else None
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            held = self._keys.get(f"token {value.strip()}")
            return str(held[0]) if held and held[1] > time.time() else None
        if kind.lower() != "basic":
            return None
        try:
            user, _, password = base64.b64decode(value).decode().partition(":")
        except ValueError:
            return None
        known = user in NAMES and hmac.compare_digest(password.encode(), self.password(user).encode())
        return user if known else None

    def grant(self, request: Request) -> Response:
        """`POST /oauth_token.do`; the client may stand in the form or in a Basic header."""
        form = request.form
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            user, _, password = base64.b64decode(value).decode("utf-8", "replace").partition(":")
            form = {"client_id": user, "client_secret": password, **form}
        if {name: form.get(name) for name in ("client_id", "client_secret")} != self.client:
            return _refused("invalid_client")
        match form.get("grant_type"):
            case "client_credentials":
                return self._granted(OURS, refresh=False)
            case "password":
                user, password = form.get("username", ""), form.get("password", "")
                if user in NAMES and hmac.compare_digest(password.encode(), self.password(user).encode()):
                    return self._granted(user)
            case "refresh_token":
                held = self._keys.get(f"refresh {form.get('refresh_token')}")
                if held and held[1] > time.time():
                    return self._granted(str(held[0]))
            case grant if grant == JWT_GRANT:
                if (user_of := self._asserted(form.get("assertion", ""))) is not None:
                    return self._granted(user_of)
        return _refused("server_error")

    def _asserted(self, assertion: str) -> str | None:
        """The user an assertion speaks for: signed with our key, for our client, about a user's e-mail address or name."""
        import jwt
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        private = load_pem_private_key(self.private_key.encode(), None)
        assert isinstance(private, RSAPrivateKey), "we made it"
        client_id = self.client["client_id"]
        try:
            claims: dict[str, Any] = jwt.decode(
                assertion, private.public_key(), ["RS256"], audience=client_id, issuer=client_id, options={"require": ["exp", "sub"]}
            )
        except jwt.PyJWTError:
            return None
        user = str(claims["sub"]).partition("@")[0]
        return user if user in NAMES else None

    def refresh_token(self, user: str = OURS) -> str:
        """A refresh token somebody has once consented to."""
        token = token_urlsafe(48)
        self._keys.put(f"refresh {token}", [user, time.time() + REFRESH_LIFE])
        return token

    def forget_tokens(self) -> None:
        """Every access token ends now, as after a revocation."""
        for name in self._keys:
            if name.startswith("token "):
                self._keys.put(name, [None, 0])

    def _granted(self, user: str, *, refresh: bool = True) -> Response:
        token = token_urlsafe(48)
        self._keys.put(f"token {token}", [user, time.time() + TOKEN_LIFE])
        answer = {"access_token": token, "scope": "useraccount", "token_type": "Bearer", "expires_in": TOKEN_LIFE - 1}
        return json_response({**answer, "refresh_token": self.refresh_token(user)} if refresh else answer)


def _refused(error: str) -> Response:
    return json_response({"error_description": "access_denied", "error": error}, 401)
