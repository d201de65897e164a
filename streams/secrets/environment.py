"""Secrets from the environment: AI_AGENTS_SECRET_<TENANT>__<NAME>, upper case, `-` as `_`; the same with __OLD for the value before.

Names that differ in `-` and `_` alone share a variable; who sets the environment sees both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.secrets.store import SecretInfo, SecretStoreError

PREFIX = "AI_AGENTS_SECRET_"
OLD = "__OLD"


def variable(name: str) -> str:
    """The environment variable of a secret `tenant/name`."""
    return PREFIX + name.replace("/", "__").replace("-", "_").upper()


class EnvironmentSecrets:
    """Reads what the process was started with; a change needs a restart."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._values = {key: value.encode() for key, value in environment.items() if key.startswith(PREFIX) and "__" in key and value}
        self._live: dict[str, tuple[bytes, ...]] = {}

    def live(self, name: str) -> Sequence[bytes]:
        if (values := self._live.get(name)) is None:
            key = variable(name)
            values = self._live[name] = tuple(self._values[k] for k in (key, key + OLD) if k in self._values)
        return values

    def has(self, name: str) -> bool:
        return bool(self.live(name))

    def put(self, name: str, value: bytes, keep_old: bool) -> None:
        raise SecretStoreError(f"secrets of the environment are set where the process is started: {variable(name)}")

    def names(self) -> Sequence[SecretInfo]:
        """By the variables' own spelling, in lower case: `-` cannot be told from `_` there."""
        keys = sorted(key for key in self._values if not key.endswith(OLD))
        return [
            SecretInfo("/".join(key.removeprefix(PREFIX).lower().split("__", 1)), 1 + (key + OLD in self._values), "environment")
            for key in keys
        ]

    def remove(self, name: str) -> bool:
        raise SecretStoreError(f"secrets of the environment are removed where the process is started: {variable(name)}")
