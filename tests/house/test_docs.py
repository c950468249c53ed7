"""What README and docs tell a reader to type exists, and what they show of Python runs."""

from __future__ import annotations

import re
import shlex

import pytest
from support import ROOT
from support.commands import audiorep

from audiorep.shipped import SHIPPED

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "results/README.md")] + sorted((ROOT / "docs").glob("*.md"))
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
COMMANDS = (
    "predict",
    "listen",
    "serve",
    "embed",
    "similar",
    "duplicates",
    "suggest",
    "map",
    "head export",
    "teach",
    "train",
    "distil",
    "evaluate",
    "calibrate",
    "tune-events",
    "export",
    "fuse",
    "import",
    "quantize",
    "prune",
    "low-rank",
    "compress",
    "verify",
    "bench",
    "search",
    "doctor",
    "web",
    "data check",
    "data prepare",
    "models list",
    "models info",
)


def commands() -> list[list[str]]:
    """The words of every `audiorep …` line in a plain code block."""
    blocks = [text for page in PAGES for kind, text in FENCE.findall(page.read_text()) if kind in ("", "sh")]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.startswith("audiorep ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture(scope="module")
def help_texts() -> dict[str, str]:
    texts = {}
    for command in COMMANDS:
        done = audiorep(*command.split(), "--help")
        assert done.returncode == 0, done.stderr
        texts[command] = done.stdout
    return texts


@pytest.mark.slow
def test_every_command_shown_exists_with_its_flags(help_texts):
    shown = commands()
    assert len(shown) >= 10
    for words in shown:
        command = next((c for c in COMMANDS if " ".join(words).startswith(c)), None)
        assert command, words
        for flag in [word for word in words if word.startswith("-")]:
            assert re.search(rf"(^|[\s,]){flag}\b", help_texts[command]), (words, flag)


def test_every_link_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text()], ids=lambda p: p.name)
@pytest.mark.slow
def test_python_shown_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (tmp_path / "model.onnx").symlink_to(SHIPPED["nano"].file)
    for kind, text in FENCE.findall(page.read_text()):
        if kind == "python":
            exec(compile(text, page.name, "exec"), {"__name__": "__main__"})


def test_the_tree_names_every_room():
    tree = FENCE.findall(ARCHITECTURE)[0][1].splitlines()
    named = {line.split()[0].rstrip("/") for line in tree if line.startswith("  ")}
    package = [path for path in (ROOT / "audiorep").iterdir() if path.name not in ("__pycache__", "py.typed")]
    assert named == {path.name for path in package}
    outside = [line.split()[0] for line in tree if not line.startswith(" ")]
    assert all((ROOT / name).is_dir() for name in outside), outside


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/]+\.py)`", ARCHITECTURE))))
def test_every_file_named_by_the_architecture_exists(name):
    assert (ROOT / "audiorep" / name).exists() or (ROOT / name).exists()


@pytest.mark.parametrize(("path", "name"), sorted(set(re.findall(r"`([\w/]+\.py)` `(\w+)`", ARCHITECTURE))))
def test_every_function_named_by_the_architecture_is_in_its_file(path, name):
    assert re.search(rf"(def|class) {name}\b|^{name}\b", (ROOT / "audiorep" / path).read_text(), re.MULTILINE)
