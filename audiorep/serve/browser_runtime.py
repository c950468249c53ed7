"""ONNX Runtime for browsers: its files, from npm's package of one version, from the cache, or from a folder."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiorep.errors import ConfigError
from audiorep.files import replacing

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package in base64, as a lock file of npm has it."""
SCRIPT, BINARY = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
GPU_SCRIPT, GPU_BINARY = "ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"
SUMS = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    BINARY: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    GPU_SCRIPT: "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    GPU_BINARY: "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
"""SHA-256 of the files that are needed: of the build for processors, and of that with WebGPU, which is twice as large."""
REGISTRY = "https://registry.npmjs.org"
REGISTRY_VARIABLE = "NPM_CONFIG_REGISTRY"
MOST_PACKAGE_BYTES = 64 << 20  # it has 33 MB
MOST_FILE_BYTES = 64 << 20  # the larger file has 14 MB
SECONDS = 60.0  # without a byte
WASM = b"\0asm"
"""How a binary begins."""


@dataclass(frozen=True, eq=False)
class BrowserRuntime:
    """The files of ONNX Runtime that a browser loads."""

    files: dict[str, bytes]
    """{name in npm's package: content}: an ES module and WebAssembly, of one build or of both."""
    origin: str
    """Where they are from, in words."""


def find(
    folder: str | os.PathLike[str] | None = None, webgpu: bool = False, say: Callable[[str], None] = lambda text: None
) -> BrowserRuntime:
    """The runtime in a folder, or in the cache, to which npm's package is fetched the first time.

    Args:
        folder: has the files under the names that npm's package gives them; default: the cache.
        webgpu: whether the build with WebGPU is wanted too.
        say: is told of what is fetched.

    Raises:
        ConfigError: the folder lacks a file, or the package cannot be fetched or is not the expected one.
    """
    names = [SCRIPT, BINARY, *([GPU_SCRIPT, GPU_BINARY] if webgpu else [])]
    if folder is not None:
        return BrowserRuntime({name: _in_folder(Path(folder), name) for name in names}, str(folder))
    place = cache_folder()
    if (kept := _kept(place, names)) is not None:
        return BrowserRuntime(kept, str(place))
    address = f"{(os.environ.get(REGISTRY_VARIABLE) or REGISTRY).rstrip('/')}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
    say(f"Fetching ONNX Runtime for browsers, once: {address}")
    found = unpacked(_fetched(address), address)
    for name, content in found.items():
        with replacing(place / name) as partial:
            partial.write_bytes(content)
    say(f"Kept for the next time in {place}")
    return BrowserRuntime({name: found[name] for name in names}, address)


def cache_folder() -> Path:
    """Where the files are kept: below `XDG_CACHE_HOME`, or else `~/.cache`."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "audiorep" / f"{PACKAGE}-{VERSION}"


def unpacked(package: bytes, address: str) -> dict[str, bytes]:
    """{name: content} of the files that are needed, from npm's package; no other member is read.

    Raises:
        ConfigError: the package is not the expected one.
    """
    if base64.b64encode(hashlib.sha512(package).digest()).decode() != INTEGRITY:
        raise ConfigError(
            f"{address} is not {PACKAGE} {VERSION}: its SHA-512 is another one. Nothing was kept. Try again, "
            "or name a folder with its files: --runtime FOLDER."
        )
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
            for member in archive:
                name = member.name.removeprefix("package/dist/")
                if name in SUMS and member.isreg() and member.size <= MOST_FILE_BYTES:
                    file = archive.extractfile(member)
                    found[name] = file.read(MOST_FILE_BYTES) if file is not None else b""
                if len(found) == len(SUMS):
                    return found
    except (tarfile.TarError, OSError, EOFError):
        raise ConfigError(f"{address} is no package of npm: it cannot be unpacked.") from None
    raise ConfigError(f"{address} lacks {' and '.join(name for name in SUMS if name not in found)}.")


def _fetched(address: str) -> bytes:
    """The bytes at an address, at most `MOST_PACKAGE_BYTES`."""
    help_text = f"Name a folder with the files of {PACKAGE} {VERSION}: --runtime FOLDER."
    if not address.startswith(("https://", "http://")):
        raise ConfigError(f"{address}: {REGISTRY_VARIABLE} must begin with https:// or http://.")
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:
            content = answer.read(MOST_PACKAGE_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise ConfigError(f"{address} cannot be fetched: the server answers {error.code}. {help_text}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(f"{address} cannot be fetched ({reason}). {help_text}") from None
    if len(content) > MOST_PACKAGE_BYTES:
        raise ConfigError(f"{address} has more than {MOST_PACKAGE_BYTES >> 20} MB, which is not {PACKAGE} {VERSION}.")
    return content


def _kept(place: Path, names: Sequence[str]) -> dict[str, bytes] | None:
    """The files in the cache, if all are there and whole."""
    try:
        found = {name: (place / name).read_bytes() for name in names}
    except OSError:
        return None
    return found if all(hashlib.sha256(content).hexdigest() == SUMS[name] for name, content in found.items()) else None


def _in_folder(folder: Path, name: str) -> bytes:
    """A file of the runtime that a user has."""
    path = folder / name
    if not path.is_file():
        raise ConfigError(f"{folder} lacks {name}; the folder dist of npm's package {PACKAGE} is needed, of version {VERSION}.")
    if path.stat().st_size > MOST_FILE_BYTES:
        raise ConfigError(f"{path} has more than {MOST_FILE_BYTES >> 20} MB; that of {PACKAGE} {VERSION} is needed.")
    content = path.read_bytes()
    if path.suffix == ".wasm" and not content.startswith(WASM):
        raise ConfigError(f"{path} is no WebAssembly; that of {PACKAGE} {VERSION} is needed.")
    return content
