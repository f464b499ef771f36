"""What lies in this repository."""

import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Package:
    """One of the distributions in `packages/`."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def import_name(self) -> str:
        return self.name.replace("-", "_")

    @property
    def project(self) -> dict[str, object]:
        with (self.folder / "pyproject.toml").open("rb") as file:
            table: dict[str, object] = tomllib.load(file)["project"]
        return table

    @property
    def modules(self) -> list[Path]:
        return sorted((self.folder / "src").rglob("*.py"))

    @property
    def public_modules(self) -> list[str]:
        """The package itself, and its modules without an underscore in their path."""
        paths = [path.relative_to(self.folder / "src").with_suffix("") for path in self.modules]
        return [self.import_name] + [
            ".".join(path.parts)
            for path in paths
            if not any(part.startswith("_") for part in path.parts)
        ]


PACKAGES = [Package(ROOT / "packages" / f"chrono-{part}") for part in ("core", "recipes", "zmq")]


def files() -> list[Path]:
    """Every file that is in version control or about to be, relative to the root."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted(Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file())


def texts() -> dict[Path, str]:
    """The text of every file that is one."""
    found = {}
    for path in files():
        try:
            found[path] = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found
