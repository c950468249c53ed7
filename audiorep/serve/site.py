"""`audiorep.web`: the page, models and ONNX Runtime as a folder of static files, which any web server can hand out."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import audiorep
from audiorep import shipped
from audiorep.errors import ConfigError
from audiorep.escape import visible
from audiorep.files import new_folder, replacing, write_errors
from audiorep.info.model_info import ModelInfo
from audiorep.runtimes.onnx import OnnxSession
from audiorep.serve import browser_runtime
from audiorep.serve.policy import POLICY
from audiorep.serve.service import describe, named

PAGE = Path(__file__).parent / "page"
INDEX, WORKER, MODELS = "index.html", "sw.js", "models.json"
SUFFIX = ".onnx"
SERVER_ONLY = frozenset({"server_engine.js", "reference.css", INDEX, WORKER})
"""Files of the page that a site does not have in its folder `page`."""
RUNTIME = {
    browser_runtime.SCRIPT: "runtime/ort.js",
    browser_runtime.BINARY: "runtime/ort.wasm.gz",
    browser_runtime.GPU_SCRIPT: "runtime/ort.webgpu.js",
    browser_runtime.GPU_BINARY: "runtime/ort.webgpu.wasm.gz",
}
"""Names of ONNX Runtime's files in a site; some servers do not know that .mjs is JavaScript."""
ENGINE = '<meta name="audiorep-engine" content="{}">'
_SITE = re.compile(r"^const SITE = (\{.*\});$", re.MULTILINE)
_NOTICE = """ort*.js and ort*.wasm.gz are ONNX Runtime Web, unchanged but for their names and the compression.

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


@dataclass(frozen=True)
class Site:
    """A folder of static files that recognizes sounds in a browser."""

    path: Path
    models: list[str]
    """Their names, the default first."""
    files: int
    bytes: int
    """Of all files, as they are handed out: models and runtime are compressed."""
    runtime: str
    """Where ONNX Runtime's files are from."""


def web(
    models: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    webgpu: bool = False,
    runtime: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Site:
    """Writes a folder with a page that recognizes sounds in the browser: any web server can hand it out.

    ONNX Runtime for browsers is fetched from npm the first time, checked, and kept in the cache.

    Args:
        models: `.onnx` files, or models of the package by name; the first is the default. `NAME=FILE` gives a file another
            name than its own.
        output: the folder; one that this made before is brought up to date, and files that it did not make are left alone.
        webgpu: whether the site also has ONNX Runtime's build with WebGPU, for devices on which it is faster.
        runtime: folder with the files of onnxruntime-web, in place of the fetched ones.
        say: is told of what is fetched.

    Raises:
        BundleError: a file is no model.
        ConfigError: a model that no browser runs, two of one name, a folder that holds something else, or a runtime that
            cannot be had.
        WriteError: the folder cannot be written.

    >>> made = audiorep.web(["esc50"], "site", runtime=browser_runtime)
    >>> made.models, (made.path / "index.html").exists()
    (['esc50'], True)
    """
    given = [models] if isinstance(models, str | os.PathLike) else list(models)
    if not given:
        raise ConfigError("A site needs a model; name an .onnx file, nano or esc50.")
    folder, before = Path(output), _files_before(Path(output))
    found = {name: _opened(place) for name, place in named([os.fspath(model) for model in given]).items()}
    had = browser_runtime.find(runtime, webgpu, say)
    files = _files(found, had)
    if before is None:
        with new_folder(folder) as partial:
            _write(partial, files)
    else:
        _write(folder, files)
        for name in before - set(files):
            (folder / name).unlink(missing_ok=True)
    return Site(folder, list(found), len(files), sum(map(len, files.values())), had.origin)


def described(name: str, info: ModelInfo) -> dict[str, Any]:
    """A model as the page sees it: what a server tells of it, and what the browser needs to run it."""
    return {
        **describe(name, info),
        "window_samples": info.window_samples,
        "hop_samples": info.hop_samples,
        "padding": info.padding,
        "calibration": info.calibration,
        "file": f"models/{name}{SUFFIX}.gz",
    }


def _opened(place: str) -> tuple[ModelInfo, bytes]:
    """What a model says of itself, and its file.

    Raises:
        BundleError: it is no model.
        ConfigError: it is a model that no browser runs.
    """
    path = shipped.file_of(place)
    how = f"Write one with: audiorep export CHECKPOINT -o {visible(path.stem or 'model')}{SUFFIX}"
    if path.is_dir():
        raise ConfigError(f"{visible(str(path))} is a folder; a browser runs {SUFFIX} files. {how}")
    if path.exists() and path.suffix != SUFFIX:
        raise ConfigError(f"{visible(str(path))} is no {SUFFIX} file, the only ones that a browser runs. {how}")
    info = OnnxSession(path, threads=1).info
    return info, path.read_bytes()


def _files(models: dict[str, tuple[ModelInfo, bytes]], runtime: browser_runtime.BrowserRuntime) -> dict[str, bytes]:
    """{path in the folder: content} of a site; the same ones each time for the same input."""
    about = {
        "made_by": f"audiorep {audiorep.__version__}",
        "models": [described(name, info) for name, (info, _) in models.items()],
        "runtime": {"binary": RUNTIME[browser_runtime.BINARY]},
        "webgpu": {"binary": RUNTIME[browser_runtime.GPU_BINARY]} if browser_runtime.GPU_BINARY in runtime.files else None,
    }
    pages = {f"page/{path.name}": path.read_bytes() for path in sorted(PAGE.iterdir()) if path.is_file()}
    contents = {
        INDEX: _index((PAGE / INDEX).read_text(encoding="utf-8")).encode(),
        MODELS: json.dumps(about, ensure_ascii=False).encode(),
        **{name: content for name, content in pages.items() if Path(name).name not in SERVER_ONLY},
        **{f"models/{name}{SUFFIX}.gz": content for name, (_, content) in models.items()},
        **{RUNTIME[name]: content for name, content in runtime.files.items()},
        "runtime/LICENSE.txt": _NOTICE.encode(),
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    version = hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:16]
    packed = {name: _packed(content) if name.endswith(".gz") else content for name, content in contents.items()}
    return {**packed, WORKER: _worker({"version": version, "files": sums}).encode()}


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, 9, mtime=0)


def _index(text: str) -> str:
    """The page with the engine of the browser, the policy that a server sends in a header, and a word for those without one."""
    server, browser = ENGINE.format("server"), ENGINE.format("browser")
    assert text.count(server) == 1, "the page names its engine"
    policy = POLICY.replace("; frame-ancestors 'none'", "")  # which only a header can say
    more = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<script src="page/start.js"></script>'
    return text.replace(server, f"{browser}\n{more}")


def _worker(site: dict[str, Any]) -> str:
    """The service worker, which knows the site's files."""
    text, found = _SITE.subn(lambda _: f"const SITE = {json.dumps(site)};", (PAGE / WORKER).read_text(encoding="utf-8"))
    assert found == 1, "the service worker has a place for the files"
    return text


def _files_before(folder: Path) -> set[str] | None:
    """The files of a site that is to be brought up to date; None for a new folder.

    Raises:
        ConfigError: there is something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    worker = folder / WORKER
    site = _SITE.search(worker.read_text(encoding="utf-8", errors="replace")) if worker.is_file() else None
    try:
        names = json.loads(site[1])["files"] if site is not None else {}
    except (ValueError, LookupError, TypeError):
        names = {}
    ours = {name for name in names if re.fullmatch(r"(\w+/)?[\w-][\w.-]*", name)}
    if INDEX not in ours:
        raise ConfigError(f"{visible(str(folder))} exists, and audiorep web did not make it; name a new folder.")
    return ours | {WORKER}


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Writes files, each of which appears whole; the service worker is the last, which tells browsers of the others."""
    for name, content in files.items():
        path = folder / name
        if path.is_file() and path.read_bytes() == content:
            continue
        with replacing(path) as partial, write_errors(path, partial):
            partial.write_bytes(content)
