"""No test waits for ever: children end by signals and by time, and so does a test itself."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import ROOT, processes

TESTS = ROOT / "tests"
STARTING = {"run", "Popen", "call", "check_call", "check_output", "fork", "forkpty", "system", "popen", "spawnv"}


@pytest.mark.parametrize("number", processes.ENDING)
def test_a_child_ends_by_a_signal_that_its_parent_ignores(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with processes.started(processes.python("print(1, flush=True); input()"), stdin=-1, stdout=-1, stderr=-1) as process:
            assert process.stdout.readline() == "1\n"
            process.send_signal(number)
            processes.ended(process, 30)
    finally:
        signal.signal(number, before)
    assert process.returncode == -number


def test_a_child_may_be_told_to_ignore_a_signal():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGHUP); print('still here')"
    assert processes.run(processes.python(code), ignored=[signal.SIGHUP]).stdout == "still here\n"
    assert processes.run(processes.python(code)).returncode == -signal.SIGHUP


@pytest.mark.slow
def test_a_child_that_does_not_end_fails_its_test_with_the_place_where_it_stands():
    code = "import time\ndef stuck():\n    time.sleep(600)\nstuck()"
    with pytest.raises(AssertionError, match=r"has not ended in 1 s.*in stuck"):
        processes.run(processes.python(code), seconds=1)


def test_a_child_s_children_end_with_it():
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1).pid, flush=True)"
    with processes.started(processes.python(f"{code}; input()"), stdin=-1, stdout=-1) as process:
        grandchild = int(process.stdout.readline())
    end = time.monotonic() + 30
    while _runs(grandchild):
        assert time.monotonic() < end
        time.sleep(0.01)


def _runs(number: int) -> bool:
    """Whether there is such a process, one that has ended and whose end nobody asked for apart."""
    try:
        os.kill(number, 0)
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
def test_a_test_that_does_not_end_fails_with_a_stack_and_the_next_one_runs(tmp_path):
    (tmp_path / "test_stuck.py").write_text(
        "import time\ndef test_stuck():\n    time.sleep(600)\n\ndef test_next():\n    pass\n"
    )
    command = processes.python("import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))")
    done = processes.run([*command, "-c", str(TESTS.parent / "pyproject.toml"), "--timeout", "1", str(tmp_path)], seconds=120)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "time.sleep(600)" in done.stdout


def test_every_test_has_a_time_limit(pytestconfig):
    assert 0 < float(pytestconfig.getini("timeout")) <= 600
    assert float(pytestconfig.getini("faulthandler_timeout")) > 0
    assert pytestconfig.getini("faulthandler_exit_on_timeout")


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.name)
def test_children_are_started_by_processes_alone(path):
    if path.name in ("processes.py", "campaign.py"):  # the second ends its workers by its own clock, as test_fuzz shows
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            module, name = node.func.value.id, node.func.attr
            started = module in ("subprocess", "os", "pty") and name in STARTING
            assert not started, (
                f"{path.name}:{node.lineno}: {module}.{name} waits without an end; use processes.run or .started"
            )
            endless = name in ("wait", "communicate") and module == "process" and not (node.args or node.keywords)
            assert not endless, f"{path.name}:{node.lineno}: {name}() waits without an end; give it a timeout"


def test_a_finished_child_s_words_are_kept():
    done = processes.run(processes.python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert isinstance(done, subprocess.CompletedProcess)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
