"""Imports point one way, and running a model needs no torch."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from support import ROOT, processes

import audiorep

PACKAGE = Path(audiorep.__file__).parent
TESTS = Path(__file__).parent.parent
ORDER = (
    "__init__ errors escape untrusted interrupts files config shipped info audio reparam models datasets runtimes predict "
    "listen export evaluation embeddings serve benchmark training hub compress search cli"
)
RANK = {name: index for index, name in enumerate(ORDER.split())}
WITHOUT_TORCH = [
    *("datasets.prepare", "datasets.shards"),
    *(
        "errors",
        "files",
        "config",
        "audio",
        "audio.decode",
        "info.model_info",
        "datasets",
        "predict.classifier",
        "predict.output",
        "listen.choose",
        "listen.listener",
        "embeddings.api",
        "embeddings.teach",
        "embeddings.suggest",
        "embeddings.plane",
        "embeddings.drawing",
        "embeddings.scores",
        "serve.api",
        "serve.app",
        "serve.site",
    ),
    *(
        "runtimes.onnx",
        "runtimes.litert",
        "runtimes.fixed_shape",
        "runtimes.installed",
        "runtimes.silence",
        "runtimes.timing",
        "runtimes.openvino",
    ),
    *("runtimes.executorch", "runtimes.coreml", "export", "benchmark.worker", "cli.bench", "cli.main"),
    *(
        "datasets.location",
        "training.api",
        "evaluation.api",
        "evaluation.calibrate",
        "evaluation.tune_events",
        "export.described",
        "benchmark.api",
        "export.api",
        "compress.api",
        "hub.api",
    ),
]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Rooms of the package that a file imports anywhere, also for type checking."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "audiorep":
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("audiorep.")}
    return found & RANK.keys()


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_before_it(path):
    own = room(path)
    if own == "__init__":
        return  # the public face looks right on purpose, and only when asked
    assert own in RANK, f"{own} has no place in the order"
    assert all(RANK[other] <= RANK[own] for other in imports(path)), f"{path.name} imports {imports(path)}"
    if own == "reparam":
        assert imports(path) <= {"reparam", "errors"}


@pytest.mark.slow
def test_no_file_of_tests_imports_another():
    rooms = [path for path in TESTS.iterdir() if path.is_dir()]
    names = {path.stem for room in rooms for path in room.glob("test_*.py")} | {"conftest"}
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            found += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not names & {part for name in found for part in name.split(".")}, path


# One process for all modules: each is imported as if it were the first of the package.
IMPORTS = """
import json, sys
before = set(sys.modules)
import audiorep
names = sorted(set(sys.modules) - before - {"typing", "re"})
found = {"the package": ["numpy"] * ("numpy" in sys.modules) + names[24:]}
for module in sys.argv[1:]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "audiorep"]:
        del sys.modules[name]
    __import__(f"audiorep.{module}" if module != "every name" else "audiorep")
    if module == "every name":
        face = sys.modules["audiorep"]
        [getattr(face, name) for name in face.__all__ if name not in ("models", "reparam")]
    found[module] = [name for name in ("torch", "lightning") if name in sys.modules]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def heavy() -> dict[str, list[str]]:
    """{what is imported: the heavy packages that come with it}."""
    done = processes.run(processes.python(IMPORTS, *WITHOUT_TORCH, "every name"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("module", [*WITHOUT_TORCH, "every name"])
def test_what_prediction_needs_loads_without_torch(heavy, module):
    assert heavy[module] == []


def test_importing_the_package_costs_nothing(heavy):
    assert heavy["the package"] == []


COMMANDS = """
import contextlib, io, json, sys
sys.modules["torch"] = sys.modules["lightning"] = None
from audiorep.cli.main import main
ends = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["audiorep", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
    ends.append([status, said.getvalue()])
print(json.dumps(ends))
"""


@pytest.mark.slow
def test_where_there_is_no_torch_help_and_prediction_work_and_the_rest_names_the_package_to_install(tmp_path):
    working = [["--help"], ["predict", "--help"], ["predict", str(PACKAGE.parent / "samples")], ["models", "info"]]
    rest = [["models", "list"], ["models", "info", str(tmp_path)]]
    done = processes.run(processes.python(COMMANDS, json.dumps(working + rest)))
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    assert ends[: len(working)] == [[0, ""]] * len(working)
    for (status, said), expected in zip(ends[len(working) :], (0, 2), strict=True):  # the first lists what is there
        assert (status, said.count("\n")) == (expected, 1)
        assert "torch" in said
        assert "pip install 'audiorep[train]'" in said


def test_the_page_of_the_architecture_has_this_order():
    tree = (ROOT / "docs" / "architecture.md").read_text().split("```")[1].splitlines()
    rooms = [room(PACKAGE / line.split()[0]) for line in tree if line.startswith("  ")]
    assert [name for name in rooms if name != "assets"] == ORDER.split()
