from pathlib import Path

import pytest

from . import check_tag
from .git import commit, git, new_repository


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which chrono-core 1.2.3 is ready to be released."""
    folder = tmp_path / "packages" / "chrono-core"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (2026-12-01)\n")
    new_repository(tmp_path)
    git(tmp_path, "update-ref", check_tag.MAIN, "HEAD")
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


@pytest.mark.parametrize("heading", ["Unreleased", "1.2.3", "1.2.4 (2026-12-01)"])
def test_changelog_without_the_version_releases_nothing(release: Path, heading: str) -> None:
    """The changelog has the version, with a date, before the tag is set."""
    (release / "CHANGELOG.md").write_text(f"# Changelog\n\n## {heading}\n")
    with pytest.raises(SystemExit, match=r"has no section for 1\.2\.3 with a date"):
        check_tag.main("chrono-core-v1.2.3")


def test_a_commit_of_main_that_is_not_the_last_is_released(release: Path) -> None:
    """Main may have gone on since the tag was set."""
    commit(release, "Go on")
    git(release, "update-ref", check_tag.MAIN, "HEAD")
    git(release, "checkout", "--quiet", "HEAD~")
    assert check_tag.main("chrono-core-v1.2.3") == "chrono-core"


def test_a_commit_that_is_not_on_main_is_not_released(release: Path) -> None:
    """Nobody releases what was not reviewed, or forgets to push main."""
    commit(release, "Go elsewhere")
    with pytest.raises(SystemExit, match="is not on main"):
        check_tag.main("chrono-core-v1.2.3")
