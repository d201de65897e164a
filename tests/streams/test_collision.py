"""The five short package names are ours alone, or nothing runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streams import collision
from streams.collision import DISTRIBUTION, PACKAGES, PackageCollision, check_packages, others


@pytest.fixture(scope="module")
def other_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution that ships a package `schemas`, built and installed by pip into a folder of its own."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "schemas").mkdir()
    (source / "schemas" / "__init__.py").write_text("VERSION = 1\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "Data.Schemas"\nversion = "1.0"\n[tool.hatch.build.targets.wheel]\npackages = ["schemas"]\n'
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


def fabricate(site: Path, name: str, record: str) -> None:
    """A dist-info as an installer leaves it."""
    folder = site / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "RECORD").write_text(record)


def test_another_distribution_with_a_package_of_ours_is_refused(other_distribution: Path) -> None:
    """The index has a `schemas`; whichever was installed last would be imported by both."""
    assert list(others([str(other_distribution)])) == [("Data.Schemas", "schemas")]
    with pytest.raises(PackageCollision, match=r"Data\.Schemas also installs the package schemas.*pipx install ai-agents-tickets"):
        check_packages([str(other_distribution)])


def test_our_own_wheel_is_not_a_collision(tmp_path: Path) -> None:
    """Installed as a wheel we own all five; the name may be written with underscores."""
    fabricate(tmp_path, "ai_agents_tickets", "".join(f"{p}/__init__.py,sha256=x,1\n" for p in PACKAGES))
    check_packages([str(tmp_path)])


def test_an_editable_install_and_a_checkout_pass(tmp_path: Path) -> None:
    """An editable install records a .pth file and no packages; a checkout has no distribution at all."""
    check_packages([str(tmp_path)])
    fabricate(tmp_path, DISTRIBUTION, "_ai_agents_tickets.pth,sha256=x,1\nai_agents_tickets-1.0.dist-info/METADATA,,\n")
    check_packages([str(tmp_path)])


def test_a_single_module_and_an_old_style_list_are_seen(tmp_path: Path) -> None:
    """`cli.py` beside our package, and distributions that name their packages in top_level.txt only."""
    fabricate(tmp_path, "one-module", "cli.py,sha256=x,1\n")
    fabricate(tmp_path, "old-style", "")
    (tmp_path / "old_style-1.0.dist-info" / "top_level.txt").write_text("analytics\n")
    assert sorted(others([str(tmp_path)])) == [("old-style", "analytics"), ("one-module", "cli")]


def test_names_that_only_look_alike_pass(tmp_path: Path) -> None:
    """Plugin wheels and big libraries have folders called plugins or schemas inside; those are theirs."""
    fabricate(tmp_path, "big-library", "big/schemas/__init__.py,,\nschemas_extra/__init__.py,,\n../../bin/cli,,\n")
    check_packages([str(tmp_path)])


def test_this_environment_passes() -> None:
    """The guard itself must not stop those who did nothing wrong."""
    check_packages()


def test_a_package_from_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder `analytics` earlier on the path has no distribution, and would be imported all the same."""
    monkeypatch.setattr(collision, "_place", lambda package: tmp_path if package == "analytics" else Path(collision.__file__).parent.parent)
    with pytest.raises(PackageCollision, match="the package analytics is imported from"):
        check_packages()
