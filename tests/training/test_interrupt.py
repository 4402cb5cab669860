"""Reasons to stop early: signals, the time limit, a closed stdout."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

import pytest
from omegaconf import OmegaConf

from mario_dreamer.commands import _command
from mario_dreamer.tracking import clock
from mario_dreamer.training.interrupt import Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_is_obeyed(number: int) -> None:
    with Interrupt() as interrupt:
        assert interrupt.reason == ""
        os.kill(os.getpid(), number)
        assert interrupt.reason == signal.Signals(number).name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_a_lost_terminal_may_signal_twice_and_is_a_request() -> None:
    with Interrupt() as interrupt:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.reason == "SIGHUP"


def test_signals_mean_afterwards_what_they_meant_before() -> None:
    before = [signal.getsignal(number) for number in Interrupt.SIGNALS]
    with pytest.raises(ZeroDivisionError), Interrupt():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in Interrupt.SIGNALS] == before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupt.reason == ""
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_comes_after_the_last_save_changes_no_message() -> None:
    before = signal.signal(signal.SIGTERM, _command._terminated)
    try:
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
        _command.too_late_to_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # another's handler stays as it is
        _command.too_late_to_stop()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_while_python_ends_prints_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    at_exit: list[tuple] = []
    monkeypatch.setattr(_command.atexit, "register", lambda *call: at_exit.append(call))
    try:
        _command.entry_point(lambda cfg: None)(OmegaConf.create())
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
        for function, *arguments in at_exit:
            function(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def test_in_another_thread_it_leaves_signals_alone() -> None:
    handler = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with Interrupt() as interrupt:
            seen.append((signal.getsignal(signal.SIGINT) is handler, interrupt.reason))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(True, "")]


def test_the_time_limit_and_a_closed_stdout_are_reasons() -> None:
    assert Interrupt(minutes=60).reason == ""
    assert Interrupt(minutes=1e-9).reason == "minutes"
    assert Interrupt(closed=lambda: True).reason == "stdout closed"


def test_a_launcher_that_is_gone_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    by_a_shell = Interrupt()
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "that of a sweep")
    by_joblib = Interrupt()
    monkeypatch.undo()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    by_torchrun = Interrupt()
    assert by_joblib.reason == by_torchrun.reason == ""
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert by_joblib.reason == by_torchrun.reason == "launcher ended"
    assert by_a_shell.reason == "", "a shell that ends ends no run"


def test_suspended_time_is_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [1000.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: moment[0])
    monkeypatch.setattr(clock.threading.Thread, "start", lambda thread: None)
    monkeypatch.setattr(clock, "_clock", None)
    began = clock.work_seconds()
    moment[0] += 5
    assert clock.work_seconds() - began == 5
    moment[0] += 3600  # suspended: not a beat for an hour
    assert clock.work_seconds() - began == 5
    moment[0] += 2
    assert clock.work_seconds() - began == 7
