"""Prove that `pip install packages/chrono-core` brings anyio's needs and nothing else.

Run by `hatch run core:alone`.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDEVMODE"}
PROMISED = {"anyio", "chrono-core", "idna", "typing-extensions"}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        python = Path(folder, "Scripts" if sys.platform == "win32" else "bin", "python")
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
        package = str(ROOT / "packages" / "chrono-core")
        subprocess.run([*pip, "install", "--quiet", package], check=True, env=ENVIRONMENT)
        listed = subprocess.run(
            [*pip, "list", "--format", "json"], check=True, capture_output=True, env=ENVIRONMENT
        )
        subprocess.run([python, "-I", "-W", "error", "-c", "import chrono_core"], check=True)
    installed = {
        distribution["name"].replace("_", "-") for distribution in json.loads(listed.stdout)
    }
    print("installed:", ", ".join(sorted(installed)))
    if installed != PROMISED:
        sys.exit(f"chrono-core alone should install {', '.join(sorted(PROMISED))}")


if __name__ == "__main__":
    main()
