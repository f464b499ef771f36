import datetime
import os
from pathlib import Path

import pytest

from .git import commit, git, new_repository
from .release import main

DEPENDENCY = 'dependencies = ["chrono-core>=0.1,<1", "msgspec"]'


def write_package(root: Path, name: str, more: str = "") -> None:
    folder = root / "packages" / name
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "code.py").write_text("")
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "0.1.0"\n{more}\n\n[tool]\nversion = "7"\n'
    )
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- All of it.\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of three packages of which none was released."""
    write_package(tmp_path, "chrono-core")
    write_package(tmp_path, "chrono-recipes", DEPENDENCY)
    write_package(tmp_path, "chrono-zmq", DEPENDENCY)
    new_repository(tmp_path)
    return tmp_path


def content(root: Path, package: str, name: str) -> str:
    return (root / "packages" / package / name).read_text()


def edit(root: Path, package: str, name: str, old: str, new: str) -> None:
    path = root / "packages" / package / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    commit(root, f"Edit {name}")


def note(root: Path, package: str, change: str = "- More.") -> None:
    """Say in the changelog what is new."""
    edit(
        root,
        package,
        "CHANGELOG.md",
        "# Changelog\n",
        f"# Changelog\n\n## Unreleased\n\n{change}\n",
    )


def state(root: Path) -> list[str]:
    """All that a release may change."""
    return [
        git(root, "rev-parse", "HEAD"),
        git(root, "status", "--porcelain"),
        git(root, "tag"),
        git(root, "diff", "HEAD"),
    ]


def refused(root: Path, package: str, version: str) -> str:
    """Why a version is not released; nothing has changed, then."""
    before = state(root)
    with pytest.raises(SystemExit) as caught:
        main([package, version], root)
    assert state(root) == before
    return str(caught.value)


def test_release_writes_commits_and_tags(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command does all but the push, for which it shows the command."""
    main(["chrono-core", "0.2.0"], root)
    today = datetime.datetime.now(datetime.UTC).date()
    assert content(root, "chrono-core", "pyproject.toml") == (
        '[project]\nname = "chrono-core"\nversion = "0.2.0"\n\n\n[tool]\nversion = "7"\n'
    )
    assert content(root, "chrono-core", "CHANGELOG.md") == (
        f"# Changelog\n\n## 0.2.0 ({today})\n\n- All of it.\n"
    )
    assert git(root, "status", "--porcelain") == ""
    assert git(root, "log", "-1", "--format=%s") == "Release chrono-core 0.2.0"
    assert git(root, "cat-file", "-t", "chrono-core-v0.2.0") == "tag"
    assert git(root, "rev-parse", "chrono-core-v0.2.0^{}") == git(root, "rev-parse", "HEAD")
    assert git(root, "log", "-1", "--name-only", "--format=").splitlines() == [
        "packages/chrono-core/CHANGELOG.md",
        "packages/chrono-core/pyproject.toml",
    ]
    assert "    git push --atomic origin main chrono-core-v0.2.0\n" in capsys.readouterr().out


def test_the_version_that_was_prepared_is_the_first(root: Path) -> None:
    """A version that was never released is new, although it is written down already."""
    main(["chrono-core", "0.1.0"], root)
    assert git(root, "tag") == "chrono-core-v0.1.0"


def test_dry_run_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what would be done."""
    before = state(root)
    main(["chrono-core", "0.2.0", "--dry-run"], root)
    assert state(root) == before
    assert capsys.readouterr().out == (
        "would write packages/chrono-core/pyproject.toml\n"
        "would write packages/chrono-core/CHANGELOG.md\n"
        "would commit, and set the tag chrono-core-v0.2.0; then: "
        "git push --atomic origin main chrono-core-v0.2.0\n"
    )


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("0.0.9", "chrono-core is at 0.1.0 already, and 0.0.9 is not newer."),
        ("0.1.0rc1", "chrono-core is at 0.1.0 already, and 0.1.0rc1 is not newer."),
        ("next", "'next' is no version such as 0.2.0."),
        ("0.2.0-rc.1", "write the version '0.2.0-rc.1' as 0.2.0rc1."),
        ("0.2.0+mine", "write the version '0.2.0+mine' as 0.2.0."),
        (
            "1.0.0",
            "chrono-recipes depends on chrono-core<1,>=0.1, which 1.0.0 does not satisfy: change "
            "that first.",
        ),
    ],
)
def test_version_that_cannot_come_next_is_refused(root: Path, version: str, reason: str) -> None:
    """Versions grow, are written in one way, and fit what the other packages say."""
    assert refused(root, "chrono-core", version) == reason


def test_released_version_is_not_released_again(root: Path) -> None:
    """The changelog remembers what was released, and git its tag."""
    main(["chrono-core", "0.2.0"], root)
    note(root, "chrono-core")
    taken = "chrono-core is at 0.2.0 already, and 0.2.0 is not newer."
    assert refused(root, "chrono-core", "0.2.0") == taken
    git(root, "tag", "chrono-core-v0.3.0")
    assert refused(root, "chrono-core", "0.3.0") == "the tag chrono-core-v0.3.0 exists already."


def test_what_is_not_committed_is_not_released(root: Path) -> None:
    """A file that git does not know counts, too."""
    (root / "new.py").write_text("")
    reason = "there are changes that are not committed: see git status."
    assert refused(root, "chrono-core", "0.2.0") == reason


@pytest.mark.parametrize(
    ("checkout", "where"), [(["-b", "mine"], "mine"), (["--detach"], "no branch")]
)
def test_releases_are_made_on_main(root: Path, checkout: list[str], where: str) -> None:
    """A tag on another branch would release what main does not have."""
    git(root, "checkout", "--quiet", *checkout)
    reason = f"releases are made on main, and this is {where}."
    assert refused(root, "chrono-core", "0.2.0") == reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("## Unreleased\n", "## 0.0.9 (2026-01-01)\n", "has no section '## Unreleased'"),
        ("- All of it.\n", "", "says nothing under '## Unreleased'"),
        (
            "- All of it.\n",
            "## 0.0.9 (2026-01-01)\n\n- Old.\n",
            "says nothing under '## Unreleased'",
        ),
    ],
)
def test_changelog_says_what_is_new(root: Path, old: str, new: str, reason: str) -> None:
    """Nothing is released of which the changelog says nothing."""
    edit(root, "chrono-core", "CHANGELOG.md", old, new)
    expected = f"the changelog of chrono-core {reason}."
    assert refused(root, "chrono-core", "0.2.0") == expected


def test_commit_that_git_refuses_leaves_everything_as_it_was(root: Path) -> None:
    """What was written already is taken back."""
    hook = root / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    assert refused(root, "chrono-core", "0.2.0") == "git commit fails: not today."


@pytest.mark.skipif(os.name == "nt", reason="files are not made read-only like this there")
def test_tag_that_git_refuses_leaves_everything_as_it_was(root: Path) -> None:
    """The commit is taken back, too."""
    git(root, "config", "tag.gpgSign", "true")
    git(root, "config", "gpg.program", "false")
    assert refused(root, "chrono-core", "0.2.0").startswith("git tag fails: ")


def test_core_is_released_before_what_depends_on_it(root: Path) -> None:
    """The others are tested with the core of the tree, which must be a released one."""
    assert refused(root, "chrono-recipes", "0.1.0") == (
        "chrono-recipes was tested with a chrono-core for which there is no tag "
        "chrono-core-v0.1.0: release that first."
    )
    main(["chrono-core", "0.1.0"], root)
    main(["chrono-recipes", "0.1.0"], root)
    edit(root, "chrono-core", "src/code.py", "", "new = 1\n")
    assert refused(root, "chrono-zmq", "0.1.0") == (
        "chrono-zmq was tested with a chrono-core that has changed since chrono-core-v0.1.0: "
        "release that first."
    )


def test_the_core_that_was_tested_is_the_least_that_is_asked_for(root: Path) -> None:
    """No test has seen an older one."""
    main(["chrono-core", "0.2.0"], root)
    assert refused(root, "chrono-zmq", "0.1.0") == (
        "chrono-zmq was tested with chrono-core 0.2.0 and depends on chrono-core<1,>=0.1: change "
        "that first."
    )
    edit(root, "chrono-zmq", "pyproject.toml", ">=0.1,", ">=0.2,")
    main(["chrono-zmq", "0.1.0"], root)
    assert git(root, "tag").splitlines() == ["chrono-core-v0.2.0", "chrono-zmq-v0.1.0"]
