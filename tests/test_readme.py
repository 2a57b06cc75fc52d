"""Every command of the README on data of one's own, word for word and in order, and that each ends as the README says.

The README's install, demo and replay are run by ``.ci/run``; here the data are a few phantoms of one slice.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.phantoms import phantom_datalist

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN = README.partition("## Your own data")[2].partition("\n## ")[0]


def blocks(language: str, text: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def commands() -> list[tuple[str, str]]:
    """Each command of the section and what the comment after it says of its end."""
    (block,) = [block for block in blocks("bash", OWN) if "run train" in block]
    found = re.findall(r"^(python .*?(?<!\\)\n)# ([^\n]*)$", block, re.M | re.S)
    assert "".join(f"{command}# {end}\n" for command, end in found) == block
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The checkout as its user has it: the files that the README shows, with the scans that they name."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "bundle").symlink_to(ROOT / "bundle")
    made = Path(
        phantom_datalist(
            folder / "scans",
            num_training={"brain": 4, "knee": 2},
            num_validation={"brain": 1},
            num_test={"brain": 2, "knee": 2},
            slices_per_volume=1,
            num_coils=4,
        )
    )
    shown, lists = json.loads(blocks("json", OWN)[0]), json.loads(made.read_text())
    assert shown.keys() == lists.keys()
    for entry in (entry for section in lists.values() for entry in section):
        entry["kspace"] = str((made.parent / entry["kspace"]).relative_to(folder))
    (folder / "datalist.json").write_text(json.dumps(lists))
    (folder / "request.yaml").write_text(blocks("yaml", OWN)[0])
    (folder / "license.txt").write_text("by agreement")
    return folder


def shell(command: str, folder: Path) -> str:
    """What a command prints, run as a user of the environment runs it."""
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    python = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'bundle'}", "MRI_UNLEARNING_CACHE": str(folder / "cache")}
    environment = {**os.environ, **path, **python}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_section_is_four_commands_and_the_files_that_they_need():
    assert [re.findall(r"monai.bundle run (\w+)", command)[0] for command, _ in commands()] == [
        "train", "unlearn", "audit", "ship",
    ]  # fmt: skip
    assert len(README.splitlines()) <= 100


def test_the_commands_on_own_data_work_in_this_order(folder):
    for command, end in commands():
        printed = shell(command, folder)
        words = [part.strip() for part in end.split("…")]
        assert all(word in printed for word in words), f"{command}\nexpected {end!r}, found\n{printed[-2000:]}"
    record = json.loads((folder / "outputs" / "2026-017" / "unlearned.json").read_text())
    assert record["forgetting"] == "exact"
    assert list((folder / "outputs" / "ship").glob("*.zip"))
