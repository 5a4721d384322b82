"""Interrupts: a signal ends a call at once, but not between the rows of a group."""

import os
import signal

import pytest

from experiments.runner import interrupts

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_is_an_interrupt_and_is_remembered(number):
    before = [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(KeyboardInterrupt), interrupts.handled():
        assert interrupts.interrupted == []
        os.kill(os.getpid(), number)
    assert interrupts.interrupted == [number]
    assert [signal.getsignal(one) for one in SIGNALS] == before


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_takes_effect_after_what_may_not_be_interrupted(number):
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.handled():
        with interrupts.uninterrupted():
            os.kill(os.getpid(), number)
            done.append('rows')
        done.append('more')
    assert done == ['rows']
