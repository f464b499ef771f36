"""Build the distributions of every package into `dist/`, each wheel from its sdist.

Run by `hatch run wheels:build [PACKAGE ...]`; with `--install` the wheels are also installed into
the environment that runs this, so that what is imported there are the wheels and not the sources.
"""

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
PACKAGES = ["chrono-core", "chrono-recipes", "chrono-zmq"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the distributions into dist/.")
    parser.add_argument("packages", nargs="*", help="which packages; all, unless told")
    parser.add_argument("--install", action="store_true", help="install the wheels here")
    options = parser.parse_args()
    packages = options.packages or PACKAGES
    if unknown := set(packages) - set(PACKAGES):
        parser.error(f"no such package: {', '.join(sorted(unknown))}")
    shutil.rmtree(DIST, ignore_errors=True)
    for package in packages:
        run(
            sys.executable,
            "-m",
            "build",
            "--installer",
            "uv",
            "--outdir",
            DIST,
            package_folder(package),
        )
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(DIST.iterdir()))
    if options.install:
        wheels = sorted(DIST.glob("*.whl"))
        run(
            "uv",
            "pip",
            "install",
            "--python",
            sys.executable,
            "--reinstall-package",
            "chrono-core",
            "--reinstall-package",
            "chrono-recipes",
            "--reinstall-package",
            "chrono-zmq",
            *wheels,
        )
        for package in packages:
            import_name = package.replace("-", "_")
            place = importlib.metadata.distribution(package).locate_file(import_name)
            print(f"{package} is imported from {place}")
            if (
                ROOT / "packages" in Path(str(place)).parents
                or not Path(str(place), "py.typed").is_file()
            ):
                sys.exit(f"{package} was not installed from its wheel")


def package_folder(package: str) -> Path:
    return ROOT / "packages" / package


def run(*command: str | Path) -> None:
    subprocess.run([os.fspath(part) for part in command], check=True)


if __name__ == "__main__":
    main()
