"""`audiorep web` writes a folder that needs no server, from models that a browser runs and a runtime that is checked."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from support import ROOT
from support.commands import audiorep
from support.javascript import evaluated, needs_node
from support.site import served

import audiorep as package
from audiorep.errors import BundleError, ConfigError
from audiorep.serve import browser_runtime, site
from audiorep.shipped import SHIPPED

BINARY = b"\0asm" + bytes(1000)


@pytest.fixture
def runtime(tmp_path) -> Path:
    """A folder with made-up files of the runtime."""
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / browser_runtime.SCRIPT).write_text("export const env = {};")
    (folder / browser_runtime.BINARY).write_bytes(BINARY)
    return folder


def listed(folder: Path) -> dict[str, str]:
    """{file: SHA-256} that the service worker of a site knows."""
    return json.loads(site._SITE.search((folder / site.WORKER).read_text())[1])["files"]


def version(folder: Path) -> str:
    return json.loads(site._SITE.search((folder / site.WORKER).read_text())[1])["version"]


# ---------------------------------------------------------------- the folder


def test_command_writes_all_that_the_page_asks_for(tmp_path, runtime):
    done = audiorep("web", "esc50", "nano", "-o", tmp_path / "site", "--runtime", runtime)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert "with esc50, nano" in done.stdout
    assert "python -m http.server" in done.stderr
    folder = tmp_path / "site"
    index = (folder / "index.html").read_text()
    assert '<meta name="audiorep-engine" content="browser">' in index
    for name in re.findall(r'(?:src|href)="([^"]+)"', index):
        assert (folder / name).is_file(), name
    for script in (folder / "page").glob("*.js"):
        for name in re.findall(r'(?:from|import|URL\()\s*\(?"(\./|\.\./)?([\w./]+\.js)"', script.read_text()):
            others = {*site.SERVER_ONLY, site.RUNTIME[browser_runtime.GPU_SCRIPT]}  # each is asked for where it is wanted
            assert (script.parent / "".join(name)).exists() or name[1] in others, (script.name, name)
    assert not (folder / "page" / "server_engine.js").exists()
    assert "MIT" in (folder / "runtime" / "LICENSE.txt").read_text()


def test_models_and_runtime_are_packed_and_otherwise_as_they_were(tmp_path, runtime):
    made = package.web(["esc50"], tmp_path / "site", runtime=runtime)
    assert (made.models, made.path) == (["esc50"], tmp_path / "site")
    assert gzip.decompress((made.path / "models" / "esc50.onnx.gz").read_bytes()) == SHIPPED["esc50"].file.read_bytes()
    assert gzip.decompress((made.path / "runtime" / "ort.wasm.gz").read_bytes()) == BINARY
    files = [path for path in made.path.rglob("*") if path.is_file()]
    assert (made.files, made.bytes) == (len(files), sum(path.stat().st_size for path in files))


def test_page_is_told_all_that_it_needs_of_a_model(tmp_path, runtime):
    package.web("nano", tmp_path / "site", runtime=runtime)
    [about] = json.loads((tmp_path / "site" / "models.json").read_text())["models"]
    info = package.load("nano").info
    assert about["labels"] == info.labels
    assert about["thresholds"] == {"label": info.threshold("label")}
    assert about["calibration"] == info.calibration
    assert (about["window_samples"], about["hop_samples"]) == (info.window_samples, info.hop_samples)
    assert (about["name"], about["file"]) == ("nano", "models/nano.onnx.gz")


def test_site_has_the_build_with_webgpu_where_it_is_asked_for(tmp_path, runtime):
    without = package.web("esc50", tmp_path / "site", runtime=runtime).path
    assert json.loads((without / "models.json").read_text())["webgpu"] is None
    assert "lacks ort.webgpu.bundle.min.mjs" in refused("esc50", "-o", without, "--webgpu", "--runtime", runtime)
    (runtime / browser_runtime.GPU_SCRIPT).write_text("export {};")
    (runtime / browser_runtime.GPU_BINARY).write_bytes(BINARY)
    done = audiorep("web", "esc50", "-o", without, "--webgpu", "--runtime", runtime)
    assert done.returncode == 0, done.stderr
    binary = json.loads((without / "models.json").read_text())["webgpu"]["binary"]
    assert gzip.decompress((without / binary).read_bytes()) == BINARY
    assert (without / "runtime" / "ort.webgpu.js").read_text() == "export {};"


def test_service_worker_knows_every_file_by_its_content(tmp_path, runtime):
    folder = package.web("esc50", tmp_path / "site", runtime=runtime).path
    sums = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != site.WORKER:
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            sums[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    assert listed(folder) == sums


def test_the_same_input_gives_the_same_site_and_another_model_another_version(tmp_path, runtime):
    first = package.web("esc50", tmp_path / "first", runtime=runtime).path
    second = package.web("esc50", tmp_path / "second", runtime=runtime).path
    for path in first.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path
    third = package.web(["esc50", "nano"], tmp_path / "third", runtime=runtime).path
    assert version(first) != version(third)


def test_a_site_is_brought_up_to_date_and_files_of_others_stay(tmp_path, runtime):
    folder = package.web(["esc50", "nano"], tmp_path / "site", runtime=runtime).path
    (folder / "CNAME").write_text("sounds.example\n")
    (folder / "page" / "page.css").write_text("changed")
    package.web("mine=" + str(SHIPPED["nano"].file), folder, runtime=runtime)
    assert sorted(path.name for path in (folder / "models").iterdir()) == ["mine.onnx.gz"]
    assert (folder / "CNAME").read_text() == "sounds.example\n"
    assert (folder / "page" / "page.css").read_bytes() == (site.PAGE / "page.css").read_bytes()


def test_policy_allows_no_other_address(tmp_path, runtime):
    index = (package.web("esc50", tmp_path / "site", runtime=runtime).path / "index.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', index)[1]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in policy
    assert not re.search(r"https?://", index)


@needs_node
def test_scripts_are_modules_that_node_can_parse(tmp_path, runtime):
    folder = package.web("esc50", tmp_path / "site", runtime=runtime).path
    code = """
    const vm = await import("node:vm");
    return values.map((path) => { new vm.default.SourceTextModule(fs.readFileSync(path, "utf8")); return path; });
    """
    scripts = [str(path) for path in [*(folder / "page").glob("*.js"), folder / "sw.js"]]
    assert evaluated(tmp_path, code, scripts, flags=["--experimental-vm-modules"]) == scripts


# ---------------------------------------------------------------- what is refused


def refused(*words: object) -> str:
    done = audiorep("web", *words)
    *before, error = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert all(line.startswith("Fetching") for line in before)
    assert error.startswith("Error: ")
    return error


def test_models_that_no_browser_runs_are_refused(tmp_path, runtime):
    words = ("-o", tmp_path / "site", "--runtime", runtime)
    checkpoint = refused(SHIPPED["esc50"].folder, *words)
    assert "is a folder; a browser runs .onnx files. Write one with: audiorep export CHECKPOINT -o esc50.onnx" in checkpoint
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    assert "model.tflite is no .onnx file" in refused(tmp_path / "model.tflite", *words)
    assert "does not exist" in refused(tmp_path / "missing.onnx", *words)
    (tmp_path / "text.onnx").write_text("hello")
    assert "is not a model that ONNX Runtime reads" in refused(tmp_path / "text.onnx", *words)
    damaged = bytearray(SHIPPED["esc50"].file.read_bytes())
    damaged[2_000_000] ^= 1
    (tmp_path / "damaged.onnx").write_bytes(damaged)
    assert "is damaged" in refused(tmp_path / "damaged.onnx", *words)
    assert not (tmp_path / "site").exists()


def test_names_that_cannot_be_told_apart_are_refused(tmp_path, runtime):
    words = ("-o", tmp_path / "site", "--runtime", runtime)
    assert "Two models are named esc50. Give one another name: second=esc50" in refused("esc50", "esc50", *words)
    assert "cannot be a model's name in an address" in refused(f"my model={SHIPPED['esc50'].file}", *words)
    assert "cannot be a model's name in an address" in refused(f"../up={SHIPPED['esc50'].file}", *words)
    with pytest.raises(ConfigError, match="A site needs a model"):
        package.web([], tmp_path / "site", runtime=runtime)


@pytest.mark.parametrize("worker", [None, "const SITE = {};", 'const SITE = {"files": {"../../x": ""}};', "\0"])
def test_a_folder_that_holds_something_else_is_refused(tmp_path, runtime, worker):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("all my work")
    if worker is not None:
        (folder / "sw.js").write_text(worker)
    said = refused("esc50", "-o", folder, "--runtime", runtime)
    assert "exists, and audiorep web did not make it; name a new folder." in said
    assert (folder / "thesis.tex").read_text() == "all my work"
    (tmp_path / "file").write_text("a file")
    assert "exists" in refused("esc50", "-o", tmp_path / "file", "--runtime", runtime)


def test_a_site_s_list_of_files_deletes_nothing_elsewhere(tmp_path, runtime):
    folder = package.web("esc50", tmp_path / "site", runtime=runtime).path
    (tmp_path / "precious").write_text("still here")
    worker = (folder / "sw.js").read_text()
    (folder / "sw.js").write_text(worker.replace('"files": {', '"files": {"../precious": "", "/etc/x": "", ', 1))
    package.web("esc50", folder, runtime=runtime)
    assert (tmp_path / "precious").read_text() == "still here"


# ---------------------------------------------------------------- the runtime


def tarball(**members: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def registry(folder: Path, content: bytes) -> Path:
    """A folder that looks like npm's registry."""
    place = folder / "registry" / "onnxruntime-web" / "-"
    place.mkdir(parents=True)
    (place / "onnxruntime-web-1.30.0.tgz").write_bytes(content)
    return folder / "registry"


GOOD = {f"package/dist/{name}": b"export {};" if name.endswith(".mjs") else BINARY for name in browser_runtime.SUMS}


def expect(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Pins a made-up package in place of npm's."""
    monkeypatch.setattr(browser_runtime, "INTEGRITY", base64.b64encode(hashlib.sha512(content).digest()).decode())
    sums = {name.rpartition("/")[2]: hashlib.sha256(body).hexdigest() for name, body in GOOD.items()}
    monkeypatch.setattr(browser_runtime, "SUMS", sums)


def test_runtime_is_fetched_from_the_registry_that_npm_would_ask_and_then_kept(tmp_path, monkeypatch):
    content = tarball(**{"package/evil.js": b"x", **GOOD})
    expect(monkeypatch, content)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with served(registry(tmp_path, content)) as address:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        done = audiorep("web", "esc50", "-o", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert f"Fetching ONNX Runtime for browsers, once: {address}onnxruntime-web/-/onnxruntime-web-1.30.0.tgz" in done.stderr
    kept = tmp_path / "cache" / "audiorep" / "onnxruntime-web-1.30.0"
    assert sorted(path.name for path in kept.iterdir()) == sorted(browser_runtime.SUMS)
    again = audiorep("web", "nano", "-o", tmp_path / "again")  # the registry has ended
    assert (again.returncode, "Fetching" in again.stderr) == (0, False)
    (kept / browser_runtime.BINARY).write_bytes(BINARY[:-1])
    assert "cannot be fetched" in refused("nano", "-o", tmp_path / "third")  # a damaged file is fetched again


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with served(registry(tmp_path, tarball(**GOOD))) as address:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        said = refused("esc50", "-o", tmp_path / "site")
        assert "is not onnxruntime-web 1.30.0: its SHA-512 is another one" in said
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{address}nowhere")
        assert "cannot be fetched: the server answers 404" in refused("esc50", "-o", tmp_path / "site")
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "file:///etc")
    assert "must begin with https:// or http://" in refused("esc50", "-o", tmp_path / "site")
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "site").exists()


def test_of_a_package_only_plain_files_of_the_right_names_are_read(monkeypatch):
    binary = f"package/dist/{browser_runtime.BINARY}"
    for content in (
        tarball(**{**GOOD, binary: bytes(65 << 20)}),
        b"no archive",
        tarball(**{f"{binary}/": b""}),
        linked(binary),
    ):
        expect(monkeypatch, content)
        with pytest.raises(ConfigError, match=r"lacks|cannot be unpacked"):
            browser_runtime.unpacked(content, "the package")


def linked(name: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    return file.getvalue()


def test_a_package_that_does_not_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(browser_runtime, "MOST_PACKAGE_BYTES", 1 << 20)
    with served(registry(tmp_path, bytes(2 << 20))) as address:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        assert "has more than 1 MB" in refused("esc50", "-o", tmp_path / "site")


def test_a_folder_without_the_runtime_s_files_is_refused(tmp_path, runtime):
    said = refused("esc50", "-o", tmp_path / "site", "--runtime", tmp_path / "nowhere")
    assert "lacks ort.wasm.bundle.min.mjs; the folder dist of npm's package onnxruntime-web is needed" in said
    (runtime / browser_runtime.BINARY).write_text("<html>")
    assert "is no WebAssembly" in refused("esc50", "-o", tmp_path / "site", "--runtime", runtime)


def test_page_s_files_are_in_the_package():
    text = (ROOT / "pyproject.toml").read_text()
    assert '"serve/page/*"' in text
    assert {path.suffix for path in site.PAGE.iterdir()} <= {".js", ".css", ".html", ".svg"}


def test_library_refuses_as_the_command_does(tmp_path, runtime):
    with pytest.raises(BundleError):
        package.web(tmp_path / "missing.onnx", tmp_path / "site", runtime=runtime)
