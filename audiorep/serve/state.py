"""What a process of the server holds: its models, its queue and its counters."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from audiorep import audio
from audiorep.errors import AudiorepError
from audiorep.escape import visible
from audiorep.predict.classifier import Classifier
from audiorep.runtimes import cores
from audiorep.serve.admission import Admission
from audiorep.serve.batches import Batches
from audiorep.serve.config import ServeConfig
from audiorep.serve.metrics import Metrics
from audiorep.serve.refusals import NOT_FOUND, ClientLeft, Refusal, of_error
from audiorep.serve.service import Service
from audiorep.serve.uploads import Inbox

ARRIVING = 4  # times as many as may wait: slow clients take no place from those whose sound is here
DECODERS = 2  # threads; decoding is a third of the work for short sounds

_Result = TypeVar("_Result")


@dataclass
class State:
    """The models of a process, open and ready."""

    config: ServeConfig
    metrics: Metrics
    services: dict[str, Service]
    inbox: Inbox
    admission: Admission
    """Of requests whose sound is here."""
    arrivals: Admission
    """Of requests whose sound still arrives, or waits to be admitted."""
    pool: ThreadPoolExecutor
    batches: list[Batches]
    sockets: int = 0
    """Live streams now."""
    is_ready: bool = True
    names: list[str] = field(init=False)
    """Of the models, the default first."""

    def __post_init__(self) -> None:
        self.names = list(self.services)

    @classmethod
    def of(cls, classifiers: Mapping[str, Classifier], config: ServeConfig, metrics: Metrics) -> State:
        """The state that serves open models, {name: model}."""
        pool = ThreadPoolExecutor(DECODERS, "decode")
        services, running = {}, []
        for name, classifier in classifiers.items():
            together = threads_of(config) if classifier.session.shares else 1
            batches = Batches(classifier.session, together, config.batch_windows, config.wait_seconds, metrics.batch_of(name))
            running.append(batches)
            services[name] = Service(name, classifier, batches, pool)
        inbox = Inbox(config.body_bytes, audio.Limits(config.seconds, config.channels, config.rate))
        return cls(config, metrics, services, inbox, Admission(config.queue), Admission(ARRIVING * config.queue), pool, running)

    def close(self) -> None:
        """Ends the threads and removes what is left of requests."""
        self.is_ready = False
        self.pool.shutdown(wait=False, cancel_futures=True)
        for batches in self.batches:
            batches.close()
        self.inbox.close()

    def service(self, name: str | None) -> Service:
        """The model of that name; the default for none.

        Raises:
            Refusal: there is none.
        """
        found = self.services.get(name or self.names[0])
        if found is None:
            raise Refusal(NOT_FOUND, f"There is no model {visible(str(name)[:80])}; there are {', '.join(self.names)}.")
        return found


def threads_of(config: ServeConfig) -> int:
    """Processor threads of each process."""
    return config.threads or max(1, (cores() or 1) // config.workers)


async def unless_left(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """What `work` gives; it is cancelled if the client closes its connection first.

    Raises:
        ClientLeft: the client did.
        Refusal: the library refuses.
    """
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft
        return task.result()
    except AudiorepError as error:
        raise of_error(error) from None
    finally:
        left.cancel()
        if task.cancel():
            await asyncio.wait({task})


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
