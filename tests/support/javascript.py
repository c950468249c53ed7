"""The page's modules under node, with values in and out as JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from audiorep.serve.site import PAGE
from support import processes

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def evaluated(folder: Path, code: str, values: Any = None, flags: Sequence[str] = ()) -> Any:
    """What JavaScript returns: the body of an async function of `values`, which may import the page's modules by name.

    Args:
        folder: the test's own.
        code: for example `const { pad } = await page("windows.js"); return [...pad(new Float32Array(values), 3)];`
        values: JSON, or what JSON makes of it.
        flags: of node.
    """
    modules = folder / "page"
    if not modules.exists():
        shutil.copytree(PAGE, modules)
        (modules / "package.json").write_text('{"type": "module"}')
    (folder / "values.json").write_text(json.dumps(values))
    (folder / "program.mjs").write_text(
        'import fs from "node:fs";\n'
        "const folder = process.argv[2];\n"
        "const page = (name) => import(`${folder}/page/${name}`);\n"
        "const values = JSON.parse(fs.readFileSync(`${folder}/values.json`));\n"
        f"const found = await (async () => {{ {code} }})();\n"
        "fs.writeFileSync(`${folder}/found.json`, JSON.stringify(found ?? null));\n"
    )
    done = processes.run(["node", *flags, str(folder / "program.mjs"), str(folder)], seconds=120)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text())
