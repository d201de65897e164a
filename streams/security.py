"""From the settings' words about SASL and TLS to what aiokafka's clients take."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

_TLS_WORDS = {"ssl_cafile": "cafile", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile", "ssl_password": "password"}


def client_options(security: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for any aiokafka client; files of certificates become an SSL context. Empty for a plain listener."""
    options = {name: value for name, value in security.items() if name not in _TLS_WORDS}
    if str(options.get("security_protocol", "")).endswith("SSL") and "ssl_context" not in options:
        context = ssl.create_default_context(cafile=security.get("ssl_cafile"))
        if certificate := security.get("ssl_certfile"):
            context.load_cert_chain(certificate, security.get("ssl_keyfile"), security.get("ssl_password"))
        options["ssl_context"] = context
    return options
