"""Small repositories for tests."""

import subprocess
from pathlib import Path

# Nothing of this machine's configuration, and no need of any.
SETTINGS = ("user.name=Test", "user.email=test@example.com", "commit.gpgSign=false")


def new_repository(folder: Path) -> None:
    """Make a repository of what lies in the folder, on main, with one commit."""
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for setting in SETTINGS:
        git(folder, "config", *setting.split("="))
    commit(folder, "Begin")


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, encoding="utf-8"
    ).stdout.strip()
