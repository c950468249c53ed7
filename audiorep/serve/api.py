"""A server that runs: its socket, its processes, and its end."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiorep.errors import ConfigError, require
from audiorep.escape import visible
from audiorep.predict.classifier import Classifier, load
from audiorep.runtimes import cores
from audiorep.serve.config import ServeConfig
from audiorep.serve.metrics import FOLDER
from audiorep.serve.service import named

SETTINGS = "AUDIOREP_SERVE"
"""The environment variable that hands the models and the settings to further processes."""
PACKAGES = ("fastapi", "uvicorn", "httptools", "websockets", "prometheus_client", "python_multipart")


def serve(
    models: Sequence[str] = (), config: ServeConfig | None = None, on_start: Callable[[str], None] = lambda address: None
) -> None:
    """Serves models until the process is told to end (SIGTERM, Ctrl-C); requests that are being heard are answered first.

    Args:
        models: each `NAME=FILE`, a file, or a model in the package; default: `nano` and `esc50`. The first is the default.
        config: where to listen, who may ask, and the limits.
        on_start: called with the address, once it is bound.

    Raises:
        AudiorepError: a model cannot be opened.
        ConfigError: two models have the same name, or the address cannot be bound.
        MissingExtraError: a package of the extra `serve` is not installed.

    >>> audiorep.serve(["esc50", "esc50=mine.onnx"])
    Traceback (most recent call last):
    audiorep.errors.ConfigError: Two models are named esc50. Give one another name: second=mine.onnx
    """
    config, places = config or ServeConfig(), named(models)
    _refuse_missing_packages()
    _check_certificate(config)
    with _counting_together(config.workers), _bound(config) as listening:
        address = _address(config, listening)
        if config.workers > 1:
            _serve_in_processes(places, config, listening, lambda: on_start(address))
            return
        app = _application(places, config)
        import uvicorn

        from audiorep.serve.connection import Settings

        on_start(address)
        uvicorn.Server(Settings(app, config)).run(sockets=[listening])


def _serve_in_processes(
    places: Mapping[str, str], config: ServeConfig, listening: socket.socket, on_start: Callable[[], None]
) -> None:
    """Serves in several processes; one that ends is started again."""
    from uvicorn.supervisors import Multiprocess

    from audiorep.serve.connection import Settings

    _opened(places, config)  # or every process would fail, again and again
    os.environ[SETTINGS] = json.dumps({"places": places, "config": config.as_dict()})
    settings = Settings(f"{__name__}:from_environment", config, factory=True, workers=config.workers)
    on_start()
    Multiprocess(settings, sockets=[listening]).run()


def from_environment() -> Callable[..., Any]:
    """The application of a further process."""
    values = json.loads(os.environ[SETTINGS])
    settings = {**values["config"], "origins": tuple(values["config"]["origins"])}
    return _application(values["places"], ServeConfig(**settings))


def _application(places: Mapping[str, str], config: ServeConfig) -> Callable[..., Any]:
    """The application; its models are opened while its packages are imported."""
    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(_opened, places, config)
        from audiorep.serve.app import application

        return application(opening.result(), config)


def _refuse_missing_packages() -> None:
    """Raises a MissingExtraError unless all packages are installed; to import them takes most of the start."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            require(package, extra="serve")


def _opened(places: Mapping[str, str], config: ServeConfig) -> dict[str, Classifier]:
    """The models, {name: model}.

    Raises:
        AudiorepError: one cannot be opened.
    """
    threads = config.threads or max(1, (cores() or 1) // config.workers)
    return {name: load(place, threads) for name, place in places.items()}


def openapi(models: Sequence[str] = ()) -> dict[str, Any]:
    """The description of the API in OpenAPI.

    Raises:
        AudiorepError: a model cannot be opened.
        MissingExtraError: a package of the extra `serve` is not installed.
    """
    _refuse_missing_packages()
    from audiorep.serve.app import ROUTES, described
    from audiorep.serve.metrics import Metrics
    from audiorep.serve.state import State

    config, places = ServeConfig(), named(models)
    state = State.of(_opened(places, config), config, Metrics(ROUTES, list(places)))
    try:
        return described(state).openapi()
    finally:
        state.close()


@contextmanager
def _bound(config: ServeConfig) -> Iterator[socket.socket]:
    """A socket that listens.

    Raises:
        ConfigError: the address cannot be bound.
    """
    host = config.host.strip("[]")
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, config.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, number)
        try:
            if os.name == "posix":  # elsewhere it would let two servers share a port
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.set_inheritable(True)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{visible(config.host)}, port {config.port}, cannot be listened on: {reason}.") from None
    with listening:
        yield listening


def _check_certificate(config: ServeConfig) -> None:
    """Raises a ConfigError if TLS cannot be spoken with the files."""
    if not config.is_tls:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.tls_certificate, config.tls_key, password="")
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if isinstance(error, FileNotFoundError) else "they are no certificate and its key in PEM"
        raise ConfigError(f"{config.tls_certificate} and {config.tls_key} cannot be used for TLS: {reason}.") from None


def _address(config: ServeConfig, listening: socket.socket) -> str:
    host = f"[{config.host.strip('[]')}]" if ":" in config.host else config.host
    return f"{'https' if config.is_tls else 'http'}://{host}:{listening.getsockname()[1]}"


@contextmanager
def _counting_together(workers: int) -> Iterator[None]:
    """A folder in which several processes count; they would else each tell their own numbers."""
    if workers == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="audiorep-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER] = str(Path(folder))
        try:
            yield
        finally:
            del os.environ[FOLDER]
