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


def test_sigterm_waits_where_the_code_asks_for_it_and_ctrl_c_does_not():
    with interrupts.handled():
        with interrupts.patient():
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupts.stops()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # a second one ends at once
        with pytest.raises(KeyboardInterrupt), interrupts.patient():
            os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts.handled():
        assert not interrupts.stops()
        os.kill(os.getpid(), signal.SIGTERM)
