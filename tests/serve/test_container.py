"""The Dockerfile's steps, run without Docker: what it copies is enough for the wheel, and its health check asks the server."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import sys
import zipfile

import pytest
from support import ROOT, processes
from support.serving import served

pytest.importorskip("fastapi")
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


def steps(word: str) -> list[str]:
    """What stands behind each instruction of that name."""
    return [line.split(maxsplit=1)[1] for line in DOCKERFILE.splitlines() if line.startswith(f"{word} ")]


def ignored(path: str) -> bool:
    """Whether the build does not see a file, by the lines of .dockerignore."""
    found = False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!")
        if pattern == "*" or path.split("/")[0] == pattern or fnmatch.fnmatch(path, pattern.replace("**/", "*")):
            found = not line.startswith("!")
    return found


def test_it_runs_as_a_user_without_rights_and_needs_a_token():
    assert steps("USER") == ["audiorep"]
    assert json.loads(steps("ENTRYPOINT")[0]) == ["audiorep", "serve", "--host", "0.0.0.0"]
    assert json.loads(steps("CMD")[0])[0] == "--token-file"
    assert all(image.startswith("python:3.12-slim") for image in steps("FROM"))


def test_the_build_sees_what_it_copies_and_nothing_else():
    copied = [word for step in steps("COPY") if not step.startswith("--from") for word in shlex.split(step)[:-1]]
    assert copied == ["pyproject.toml", "README.md", "LICENSE", "audiorep"]
    assert not any(ignored(name) for name in copied)
    assert all(ignored(name) for name in ("runs", ".venv", "tests", ".git", "results"))


@pytest.mark.slow
def test_the_wheel_that_is_built_serves_and_the_health_check_asks_it(tmp_path):
    source, wheels, place = (tmp_path / name for name in ("source", "wheels", "place"))
    source.mkdir()
    for name in shlex.split(steps("COPY")[0])[:-1]:
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "audiorep", source / "audiorep", ignore=shutil.ignore_patterns("__pycache__"))
    build = shlex.split(steps("RUN")[0].replace("/wheels", str(wheels)))
    done = processes.run([sys.executable, "-m", *build], cwd=source)
    assert done.returncode == 0, done.stderr
    wheel = next(wheels.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert {"audiorep/serve/page/index.html", "audiorep/assets/nano/model.onnx", "audiorep/py.typed"} <= {*names}
    assert "Provides-Extra: serve" in zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith("METADATA"))).decode()
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--target", str(place), str(wheel)]
    assert processes.run(install).returncode == 0
    with served("esc50", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(place)}) as server:
        page = server.get("/").body.decode()
        assert "<title>" in page
        check = json.loads(re.search(r"CMD (\[.*\])", steps("HEALTHCHECK")[0])[1])
        check = [sys.executable, *(word.replace(":8000", f":{server.port}") for word in check[1:])]
        assert processes.run(check).returncode == 0
    assert processes.run(check).returncode != 0
