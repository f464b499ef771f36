from pathlib import Path

import pytest

from . import check_tag


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which chrono-core 1.2.3 is ready to be released."""
    folder = tmp_path / "packages" / "chrono-core"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (2026-12-01)\n")
    monkeypatch.setattr(check_tag, "ROOT", tmp_path)
    return folder


def test_tag_that_matches_the_version_names_its_package(release: Path) -> None:
    """The tag of a release says which package it is."""
    assert check_tag.main("chrono-core-v1.2.3") == "chrono-core"


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("chrono-core-v1.2.4", "but pyproject.toml says 1.2.3"),
        ("v1.2.3", "is not of the form"),
        ("chrono-cores-v1.2.3", "is not of the form"),
    ],
)
def test_tag_that_does_not_match_releases_nothing(release: Path, tag: str, reason: str) -> None:
    """A wrong tag ends with the reason."""
    with pytest.raises(SystemExit, match=reason):
        check_tag.main(tag)


def test_unreleased_changelog_releases_nothing(release: Path) -> None:
    """The changelog has a date before the tag is set."""
    (release / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (unreleased)\n")
    with pytest.raises(SystemExit, match="unreleased"):
        check_tag.main("chrono-core-v1.2.3")
