"""Settings of one process, read once from the command line and the environment; frozen."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


def default_data_dir() -> Path:
    """The user's XDG data folder for this program; AI_AGENTS_DATA_DIR overrides it."""
    if chosen := os.environ.get("AI_AGENTS_DATA_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "ai-agents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where everything is and how large it may grow. Times in seconds, sizes in bytes."""

    data_dir: Path = field(default_factory=default_data_dir)
    brokers: str = "127.0.0.1:9092"
    security: dict[str, str] = field(default_factory=dict)
    """aiokafka's SASL and TLS settings by their own names; empty for a plain listener."""
    store: str = ""
    """sqlite:///path or postgresql://…; empty means analytics.db in the data directory."""
    instance: str = "0"
    """Names this process among its kind; the Kafka group instance id is derived from it."""
    host: str = "127.0.0.1"
    port: int = 8080
    admin_port: int = 8081
    spool_max_bytes: int = 1 << 30
    ack_timeout: float = 0.2
    dedup_window: float = 86_400.0
    partitions: int = 12

    @property
    def store_url(self) -> str:
        """The analytics store's URL, the default resolved."""
        return self.store or f"sqlite:///{self.data_dir / 'analytics.db'}"

    @property
    def runtime_file(self) -> Path:
        """Where `up` says what runs; `status` reads it."""
        return self.data_dir / "runtime.json"
