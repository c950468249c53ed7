"""Imports point one way, and running a model needs no torch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support import ROOT, processes

import audiorep

PACKAGE = Path(audiorep.__file__).parent
TESTS = Path(__file__).parent.parent
ORDER = (
    "__init__ errors escape untrusted interrupts files config info audio reparam models datasets runtimes predict export "
    "evaluation benchmark training hub compress search cli"
)
RANK = {name: index for index, name in enumerate(ORDER.split())}
WITHOUT_TORCH = [
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
    *("datasets.location", "training.api", "evaluation.api", "benchmark.api", "export.api", "compress.api", "hub.api"),
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


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_before_it(path):
    own = room(path)
    if own == "__init__":
        return  # the public face looks right on purpose, and only when asked
    assert own in RANK, f"{own} has no place in the order"
    assert all(RANK[other] <= RANK[own] for other in imports(path)), f"{path.name} imports {imports(path)}"
    if own == "reparam":
        assert imports(path) <= {"reparam", "errors"}


def test_no_file_of_tests_imports_another():
    rooms = [path for path in TESTS.iterdir() if path.is_dir()]
    names = {path.stem for room in rooms for path in room.glob("test_*.py")} | {"conftest"}
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            found += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not names & {part for name in found for part in name.split(".")}, path


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_what_prediction_needs_loads_without_torch(module):
    code = f"import sys, audiorep.{module}; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert processes.run(processes.python(code)).returncode == 0


def test_help_and_prediction_import_no_torch(tmp_path):
    block = "import sys; sys.modules['torch'] = None; sys.modules['lightning'] = None; sys.argv[0] = 'audiorep'; "
    run = block + "from audiorep.cli.main import main; main()"
    for arguments in (["--help"], ["predict", "--help"], ["predict", str(PACKAGE.parent / "samples")], ["models", "info"]):
        done = processes.run(processes.python(run, *arguments))
        assert done.returncode == 0, done.stderr


def test_importing_the_package_costs_nothing():
    code = "import sys; before = set(sys.modules); import audiorep; print(len(set(sys.modules) - before - {'typing', 're'}))"
    done = processes.run(processes.python(code))
    assert int(done.stdout) < 25
    assert "numpy" not in done.stderr


def test_a_missing_extra_is_one_sentence_with_the_command():
    block = "import sys; sys.modules['torch'] = None; sys.argv = ['audiorep', 'models', 'list']; "
    code = block + "from audiorep.cli.main import main; main()"
    done = processes.run(processes.python(code))
    assert done.returncode == 2
    assert done.stderr.strip() == "Error: This needs the package torch. Install it with: pip install 'audiorep[train]'"


def test_a_checkpoint_without_torch_is_one_sentence_with_the_command(tmp_path):
    block = f"import sys; sys.modules['torch'] = None; sys.argv = ['audiorep', 'models', 'info', {str(tmp_path)!r}]; "
    code = block + "from audiorep.cli.main import main; main()"
    done = processes.run(processes.python(code))
    assert done.returncode == 2
    assert done.stderr.strip() == "Error: This needs the package torch. Install it with: pip install 'audiorep[train]'"


def test_the_page_of_the_architecture_has_this_order():
    tree = (ROOT / "docs" / "architecture.md").read_text().split("```")[1].splitlines()
    rooms = [room(PACKAGE / line.split()[0]) for line in tree if line.startswith("  ")]
    assert [name for name in rooms if name != "assets"] == ORDER.split()
