"""Kafka's jars: named by Maven coordinates, pinned by SHA-256, fetched once into the user's cache.

`jars.sha256` lists every jar of the resolved environment as `<sha256>  <group>:<artifact>:<version>`; it is the lock, so a
start resolves nothing, and a jar whose bytes differ is refused wherever it came from. `python -m streams.broker.jars` writes
the file anew after the version below was changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from streams.broker.errors import BrokerError, UntrustedJar

KAFKA_VERSION = "4.3.1"
# log4j-slf4j-impl is in Kafka's own distribution but not in its POM; without it the broker logs nothing.
ENDPOINTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4")
PINS = Path(__file__).with_name("jars.sha256")


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def cache_dir() -> Path:
    """This program's folder in the user's cache; AI_AGENTS_CACHE_DIR overrides it."""
    if chosen := os.environ.get("AI_AGENTS_CACHE_DIR"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ai-agents"


def read_pins(path: Path = PINS) -> list[Jar]:
    """The pinned jars, in the order of the file."""
    pins = []
    for line in path.read_text().splitlines():
        digest, coordinates = line.split()
        group, artifact, version = coordinates.split(":")
        pins.append(Jar(group, artifact, version, digest))
    return pins


def ensure_jars(
    progress: Callable[[str], None] | None = None, *, pins: Sequence[Jar] | None = None, cache: Path | None = None
) -> list[Path]:
    """Every pinned jar, verified, in the order of the pins; fetches what the cache lacks and needs no network when it lacks nothing.

    Bytes are hashed on each call (46 MB, some 50 ms), so a damaged cache is told apart from a working one: a jar that differs is
    removed and fetched anew once. Safe for several processes at a time. Raises BrokerError.
    """
    wanted = read_pins() if pins is None else pins
    folder = (cache or cache_dir()) / f"kafka-{KAFKA_VERSION}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise BrokerError(f"cannot use the cache folder {folder} ({exc.strerror}); set AI_AGENTS_CACHE_DIR to a writable one") from exc
    missing = [jar for jar in wanted if not _intact(folder / jar.file_name, jar)]
    if missing:
        _fetch_all(missing, folder, progress or (lambda _text: None))
    return [folder / jar.file_name for jar in wanted]


def _intact(path: Path, jar: Jar) -> bool:
    try:
        return _sha256(path) == jar.sha256
    except FileNotFoundError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_all(missing: Sequence[Jar], folder: Path, progress: Callable[[str], None]) -> None:
    """Fetches into a folder of this call's own and moves each verified jar into place at once."""
    progress(f"fetching Apache Kafka {KAFKA_VERSION}: {len(missing)} jars, once, into {folder}")
    staging = Path(tempfile.mkdtemp(prefix="fetching-", dir=folder))
    try:
        with ThreadPoolExecutor(max_workers=4) as pool:
            begun = {pool.submit(_fetch, jar, staging): jar for jar in missing}
            size = 0
            for count, future in enumerate(as_completed(begun), 1):
                jar = begun[future]
                try:
                    fetched = future.result()
                    size += fetched.stat().st_size
                    fetched.replace(folder / jar.file_name)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                if count % 8 == 0 or count == len(missing):
                    progress(f"  {count} of {len(missing)} jars, {size / 1e6:.0f} MB")
    except OSError as exc:  # a full disk; network errors were named by _fetch
        raise BrokerError(f"cannot write Kafka's jars to {folder} ({exc.strerror}); free some space or set AI_AGENTS_CACHE_DIR") from exc
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fetch(jar: Jar, staging: Path) -> Path:
    # requests and jgo cost 0.4 s to import and are only needed here
    import requests
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    # The user's own jgo settings may name a mirror; without them jgo uses its default.
    context = MavenContext(repo_cache=staging, remote_repos=GlobalSettings.load().repositories or None, timeout=30)
    try:
        path = Path(context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve())
    except requests.RequestException as exc:
        raise BrokerError(
            "Kafka's jars are not in the cache yet and the Maven repository cannot be reached; connect once, or copy the cache folder "
            f"from a machine that has it ({type(exc).__name__})"
        ) from exc
    except RuntimeError as exc:  # how jgo says that no repository has the file
        raise BrokerError(
            f"no Maven repository has {jar.group}:{jar.artifact}:{jar.version}; check the jgo settings of this machine"
        ) from exc
    found = _sha256(path)
    if found != jar.sha256:
        raise UntrustedJar(
            f"{jar.file_name} does not have its pinned SHA-256 (expected {jar.sha256[:12]}…, got {found[:12]}…); it was not used: "
            "try again, and distrust the repository or proxy if it stays so"
        )
    return path


def write_pins(path: Path = PINS) -> int:
    """Resolves the endpoints anew and pins what the repository serves now; answers the number of jars. For maintainers."""
    import jgo
    from jgo.maven import MavenContext

    lines = set()
    with tempfile.TemporaryDirectory() as staging:
        context = MavenContext(repo_cache=Path(staging))
        for endpoint in ENDPOINTS:
            for found in jgo.resolve(endpoint):
                artifact = context.project(found.groupId, found.artifactId).at_version(found.version).artifact()
                lines.add((f"{found.groupId}:{found.artifactId}:{found.version}", _sha256(Path(artifact.resolve()))))
    path.write_text("".join(f"{digest}  {coordinates}\n" for coordinates, digest in sorted(lines)))
    return len(lines)


if __name__ == "__main__":
    sys.stderr.write(f"{write_pins()} jars pinned\n")
