"""A signal shuts a command down once: further ones within the grace period are ignored, and later
ones end a shutdown that hangs.
"""

import os
import signal
import subprocess
import sys
import threading

import pytest

from swbench.cli import app
from swbench.cli.signals import GRACE_S, Signalled, orderly_shutdown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_raises_once_within_the_grace_period(number):
    clock = iter([100.0, 100.0 + GRACE_S / 2, 101.0 + GRACE_S, 101.0 + GRACE_S])
    before = signal.getsignal(number)
    with orderly_shutdown(lambda: next(clock)):
        with pytest.raises(Signalled) as raised:
            signal.raise_signal(number)
        assert raised.value.number == number
        signal.raise_signal(number)  # the impatient second one
        with pytest.raises(Signalled):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_shutdown():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_handles_no_signals():
    received = []
    thread = threading.Thread(target=lambda: received.append(app.start(["list", "norms"])))
    thread.start()
    thread.join()
    assert received == [0]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_before_anything_runs_is_one_line(capfd, monkeypatch, number, code):
    from swbench import suite

    monkeypatch.setattr(suite, "load", lambda name: signal.raise_signal(number))
    assert app.start(["check", "imagenet"]) == code
    assert capfd.readouterr().err.strip() == "bench.py: interrupted"


def test_counting_process_ends_with_its_run():
    code = (
        "import sys; from swbench.worker.main import die_with_parent; print('tied', flush=True); "
        "die_with_parent(int(sys.argv[1])); print('on', flush=True); sys.stdin.read()"
    )
    script = (
        f"import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}, "
        "str(os.getpid())]); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout.readline() == "tied\n"
        assert parent.stdout.readline() == "on\n"
        os.kill(parent.pid, signal.SIGKILL)
        assert parent.stdout.read() == "", "the pipe ends because its last writer did"
