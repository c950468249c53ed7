"""A search that goes on where it stopped, in one process or several on one storage."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from audiorep import interrupts
from audiorep.errors import AudiorepError, ConfigError, first_line, require
from audiorep.files import write_errors, write_json
from audiorep.models.checkpoint import read_json
from audiorep.runtimes import cores
from audiorep.search import cost as costs
from audiorep.search.trial import Job, run
from audiorep.training.fit import quieten

if TYPE_CHECKING:  # an extra's, imported where it is used
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

SEARCH, JOURNAL, LOCK, NAME = "search.json", "journal.log", "search.lock", "search"
POPULATION = 20  # of NSGA-II
Say = Callable[[str], None]


@dataclass(frozen=True)
class Budget:
    """How much is searched; another run in the folder may have another."""

    trials: int = 50
    """In all, those of earlier runs and those that were stopped early among them."""
    seconds: float | None = None
    """After which no trial begins."""
    workers: int = 1
    """Processes, which share the processor's cores."""


def search(job: Job, budget: Budget, say: Say, advance: Callable[[float], None] = lambda amount: None) -> Study:
    """Runs trials in `job.folder` until the budget is spent, those of earlier runs counted; returns the Optuna study.

    Trials that were under way when an earlier run ended begin again where their training stood. `say` is told a line a
    trial, `advance` of each that ends.

    Raises:
        ConfigError: the folder holds another search, or one is running there.
        DataError, CheckpointError: no trial could be trained.
        KeyboardInterrupt: the user stopped it; the next run goes on.
        MissingExtraError: Optuna is not installed.
    """
    require("optuna", extra="search")
    _check(job)
    with _alone(job.folder):
        _mend(job.folder / JOURNAL)
        _record(job)
        if job.rules.objective == "latency":
            costs.make_reference(job.space.config({}), job.clips.classes, job.folder)
        study = open_study(job)
        _begin(job, study)
        advance(sum(trial.state.is_finished() for trial in shown(study)))
        deadline = time.time() + (np.inf if budget.seconds is None else budget.seconds)
        if budget.workers == 1:
            quieten()
            work(job, budget.trials, deadline, 0, say, advance)
        else:
            try:
                _parallel(job, budget, deadline, say, advance)
            finally:
                _mend(job.folder / JOURNAL)
    return open_study(job)


def open_study(job: Job) -> Study:
    """The Optuna study in the folder of a search, made where there is none."""
    optuna = require("optuna", extra="search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = optuna.storages.journal
    path = str(job.folder / JOURNAL)
    backend = journal.JournalFileBackend(path, journal.JournalFileOpenLock(path))
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name=NAME,
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )


def shown(study: Study) -> list[FrozenTrial]:
    """The trials that count: not those that failed, of which each is tried again."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name != "FAIL"]


def work(job: Job, trials: int, deadline: float, worker: int, say: Say, advance: Callable[[float], None]) -> None:
    """Runs trials in this process until there are `trials` in the study, or the deadline has passed.

    Raises:
        WriteError: the journal cannot be written.
    """
    with write_errors(job.folder):
        _work(job, trials, deadline, worker, say, advance)


def _work(job: Job, trials: int, deadline: float, worker: int, say: Say, advance: Callable[[float], None]) -> None:
    states = require("optuna", extra="search").trial.TrialState
    study, heard = open_study(job), _Once(say)
    while time.time() < deadline:
        waiting = study.get_trials(deepcopy=False, states=(states.WAITING,))
        if not waiting and len(shown(study)) >= trials:
            return
        study.sampler = _sampler(job, study, worker)
        trial = study.ask(job.space.distributions())
        if sum(other.number < trial.number for other in shown(study)) >= trials:
            study.tell(trial, state=states.FAIL)  # another process was faster with the last one
            return
        _attempt(job, study, trial, heard, say)
        advance(1.0)


def _attempt(job: Job, study: Study, trial: Trial, heard: Say, say: Say) -> None:
    optuna = require("optuna", extra="search")
    states = optuna.trial.TrialState
    try:
        values = run(job, study, trial, heard)
    except optuna.TrialPruned as stop:
        trial.set_user_attr("reason", str(stop))
        study.tell(trial, state=states.PRUNED)
        say(f"Trial {trial.number} stopped: {str(stop).rstrip('.')}.")
    except Exception as error:
        trial.set_user_attr("reason", first_line(error))
        study.tell(trial, state=states.FAIL)
        raise
    else:
        study.tell(trial, values)
        done = trial.user_attrs
        how = f"as trial {done['same_as']}" if "same_as" in done else f"{done.get('seconds', 0):.0f} s"
        say(f"Trial {trial.number}: {values[0]:.1%} at {costs.in_words(values[1], job.rules.objective)}, {how}.")


def _sampler(job: Job, study: Study, worker: int) -> BaseSampler:
    """Seeded anew for each trial, so that a search that was stopped draws what an unbroken one would have."""
    samplers = require("optuna", extra="search").samplers
    begun = sum("after" not in trial.user_attrs for trial in study.get_trials(deepcopy=False))
    seed = int(np.random.SeedSequence([job.rules.seed, worker, begun]).generate_state(1)[0])
    if job.rules.sampler == "nsga2":
        return samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    return samplers.TPESampler(seed=seed, multivariate=True)


def _check(job: Job) -> None:
    """Refuses a folder that holds another search."""
    path = job.folder / SEARCH
    if not path.exists():
        return
    before, now = read_json(path).get("settings", {}), settings(job)
    if changed := [key for key in now if before.get(key) != now[key]]:
        raise ConfigError(
            f"{job.folder} holds a search with other settings ({', '.join(changed)} changed). Choose another folder, or delete "
            "this one."
        )


def settings(job: Job) -> dict[str, Any]:
    """What two runs in one folder must have in common."""
    space = {entry.field: {k: v for k, v in asdict(entry).items() if k != "field"} for entry in job.space.entries}
    clips = {"train": len(job.clips.train), "valid": len(job.clips.valid), "digest": job.clips.digest}
    return json.loads(json.dumps({**asdict(job.rules), "recipe": job.space.recipe, "space": space, "clips": clips}))


def _record(job: Job) -> None:
    if not (job.folder / SEARCH).exists():
        write_json(job.folder / SEARCH, {"settings": settings(job)})


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One search at a time in a folder: what it finds under way there was left by one that ended."""
    filelock = require("filelock", extra="search")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise ConfigError(f"Another search is running in {folder}. Wait for it, or choose another folder.") from None
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}.") from None
    try:
        yield
    finally:
        lock.release()


def _mend(journal: Path) -> None:
    """Takes away what processes that were killed while they wrote left behind: their lock, and half a line."""
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    content = journal.read_bytes()
    if not content.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _begin(job: Job, study: Study) -> None:
    """Queues the recipe as the first trial, where it lies in the space, and again what was under way."""
    states = require("optuna", extra="search").trial.TrialState
    trials = study.get_trials(deepcopy=False)
    if not trials and (parameters := job.space.recipe_parameters()) is not None:
        study.enqueue_trial(parameters)
    for trial in [trial for trial in trials if trial.state == states.RUNNING]:
        study.tell(trial.number, state=states.FAIL)
        if trial.params.keys() == job.space.distributions().keys():
            kept = {name: value for name, value in trial.user_attrs.items() if name in ("folder", "epochs", "seconds")}
            study.enqueue_trial(trial.params, user_attrs={"folder": trial.number, **kept, "after": trial.number})


def _parallel(job: Job, budget: Budget, deadline: float, say: Say, advance: Callable[[float], None]) -> None:
    """Workers in processes of their own, until all are done; the first error ends them all."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, (cores() or 1) // budget.workers)
    workers: dict[Connection, multiprocessing.context.SpawnProcess] = {}
    try:
        for number in range(budget.workers):
            here, there = context.Pipe(duplex=False)
            given = (there, job, budget.trials, deadline, number, threads)
            process = context.Process(target=_process, args=given)
            with interrupts.block_in_children():
                process.start()
            there.close()
            workers[here] = process
        open_ends: list[Any] = list(workers)
        while open_ends:
            for end in wait(open_ends):
                assert isinstance(end, Connection)
                try:
                    message = end.recv()
                except EOFError:
                    open_ends.remove(end)
                    _refuse_broken(workers[end])
                    continue
                if isinstance(message, BaseException):
                    raise message
                if isinstance(message, str):
                    say(message)
                else:
                    advance(message)
    finally:
        for process in workers.values():
            process.kill()  # Lightning answers SIGTERM with a traceback; storage and checkpoints bear being cut off
        for process in workers.values():
            process.join()


def _refuse_broken(process: multiprocessing.context.SpawnProcess) -> None:
    process.join()
    if process.exitcode:
        why = "its error is above" if process.exitcode > 0 else "it was killed, as one is that runs out of memory"
        raise ConfigError(
            f"A worker ended with status {process.exitcode}: {why}. The same command, or fewer --workers, goes on."
        )


def _process(orders: Connection, job: Job, trials: int, deadline: float, worker: int, threads: int) -> None:
    """One worker: sends lines for people, counts of trials that ended, and at last its error."""
    if hasattr(signal, "pthread_sigmask"):  # Lightning answers SIGTERM by a handler of its own
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    interrupts.become_worker()
    quieten()
    torch.set_num_threads(threads)
    try:
        work(job, trials, deadline, worker, orders.send, orders.send)
    except AudiorepError as error:
        orders.send(error)


class _Once:
    """Passes on what was left out of the data, once: every trial meets the same."""

    def __init__(self, say: Say) -> None:
        self._say, self._said = say, set[str]()

    def __call__(self, text: str) -> None:
        """A line of a training."""
        if text.startswith("Left out") and text not in self._said:
            self._said.add(text)
            self._say(text)
