"""Our top-level packages have short names that other distributions use too; pip would overwrite one with the other in silence.

`check_packages` is called before anything runs for long: by `up`, the workers and `doctor`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "ai-agents-tickets"
PACKAGES = ("streams", "plugins", "schemas", "analytics", "cli")


class PackageCollision(Exception):
    """Another distribution ships a package of ours, or one of ours is not where the others are; the message is one sentence."""


def check_packages(path: Sequence[str] | None = None) -> None:
    """Raises PackageCollision unless we alone own our top-level packages.

    Looks at every distribution on `path` (default: sys.path), so an overwritten package and one that merely could shadow ours
    are both found. A checkout without any distribution and an editable install pass.
    """
    for owner, package in others(path):
        raise PackageCollision(
            f"the distribution {owner} also installs the package {package}, and pip lets one overwrite the other; install "
            f"{DISTRIBUTION} into an environment of its own: pipx install {DISTRIBUTION}, or uv tool install {DISTRIBUTION}"
        )
    if path is None:
        _check_places({package: _place(package) for package in PACKAGES})


def others(path: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """Each (distribution, package) where a distribution that is not ours ships a package of ours."""
    for found in metadata.distributions() if path is None else metadata.distributions(path=list(path)):
        name = found.metadata["Name"] if found.metadata is not None else None
        if name is None or _normal(name) == DISTRIBUTION:
            continue  # a torn dist-info has no name and owns nothing
        for package in sorted(_top_level(found) & set(PACKAGES)):
            yield name, package


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _top_level(distribution: metadata.Distribution) -> set[str]:
    """The first part of each installed file's path; RECORD is read as text, since parsing it for each distribution takes a second."""
    record = distribution.read_text("RECORD") or distribution.read_text("installed-files.txt") or ""
    named = (distribution.read_text("top_level.txt") or "").split()
    return set(named) | set(re.findall(r"^\"?([A-Za-z_][A-Za-z0-9_]*)(?:/|\.py,)", record, re.MULTILINE))


def _place(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).resolve().parent.parent if spec is not None and spec.origin is not None else None


def _check_places(places: dict[str, Path | None]) -> None:
    """All five lie side by side; one that does not is somebody else's."""
    here = Path(__file__).resolve().parent.parent
    for package, place in places.items():
        if place != here:
            raise PackageCollision(
                f"the package {package} is imported from {place or 'nowhere'} and not from {here}, so it is not {DISTRIBUTION}'s; "
                f"install {DISTRIBUTION} into an environment of its own: pipx install {DISTRIBUTION}"
            )
