"""The README's agent and its test are run as they stand, so that a reader who copies them is not let down."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_agent_of_the_readme_passes_its_test(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert sorted(name for name, _ in blocks) == ["shop.py", "test_shop.py"]
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", "test_shop.py"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("STREAMAPP_")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout
