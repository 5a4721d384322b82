"""A profile shares all of a step's time between kinds of operations."""

import json

import pytest
from speeds import clipped

from experiments.benchmark import profile

PROGRAM = """\
HloModule jit_step, entry_computation_layout={(f32[2]{0})->f32[2]{0}}

%add.1 (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%moves (p: f32[2,3]) -> f32[3,2] {
  %p = f32[2,3]{1,0} parameter(0)
  ROOT %t = f32[3,2]{1,0} transpose(%p), dimensions={1,0}
}

%inside (p: f32[2,3]) -> f32[3,2] {
  %p.1 = f32[2,3]{1,0} parameter(0)
  %c.1 = f32[3,2]{1,0} convolution(%p.1, %p.1), window={size=3}, dim_labels=b01f_01io->b01f
  ROOT %m.1 = f32[3,2]{1,0} maximum(%c.1, %c.1)
}

%pooled (p: f32[4]) -> f32[2] {
  %p.2 = f32[4]{0} parameter(0)
  %s.2 = f32[2]{0} slice(%p.2), slice={[0:2]}, metadata={op_name="jit(f)/jvp(Net)/pool1/slice"}
  ROOT %m.2 = f32[2]{0} maximum(%s.2, %s.2), metadata={op_name="jit(f)/jvp(Net)/pool1/max"}
}

%normed (p: f32[4]) -> f32[4] {
  %p.3 = f32[4]{0} parameter(0)
  %r.3 = f32[4]{0} rsqrt(%p.3), metadata={op_name="jit(f)/jvp(Net)/conv1/norm/rsqrt"}
  %q.3 = f32[4]{0} multiply(%r.3, %p.3), metadata={op_name="jit(f)/jvp(Net)/conv1/norm/mul"}
  ROOT %m.3 = f32[4]{0} maximum(%q.3, %q.3), metadata={op_name="jit(f)/jvp(Net)/conv1/max"}
}

%dropped (p: u32[4]) -> u32[4] {
  %p.4 = u32[4]{0} parameter(0)
  ROOT %x.4 = u32[4]{0} xor(%p.4, %p.4), metadata={op_name="jit(f)/Dropout_0/threefry2x32"}
}

ENTRY %main.9 (a: f32[2], b: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  %moved = f32[3,2]{1,0} fusion(%a), kind=kLoop, calls=%moves
  %convolved = f32[3,2]{1,0} fusion(%a), kind=kCustom, calls=%inside
  %small = f32[3,2]{1,0} dot(%a, %a), metadata={op_name="jit(f)/Net/c2/conv_general_dilated"}
  %matrix = f32[3,2]{1,0} dot(%a, %a), metadata={op_name="jit(f)/jvp(Net)/fc10/dot_general"}
  %banded = f32[3,2]{1,0} dot(%a, %a), metadata={op_name="jit(f)/jvp(Net)/norm1/dot_general"}
  %best = f32[2]{0} fusion(%a), kind=kLoop, calls=%pooled
  %means = f32[2]{0} reduce-window(%a, %a), to_apply=%add.1, metadata={op_name="jit(f)/aux/sum"}
  %mean2 = f32[2]{0} divide(%a, %a), metadata={op_name="jit(f)/transpose(jvp(Net))/S2/div"}
  %scaled = f32[4]{0} fusion(%a), kind=kLoop, calls=%normed
  %mask = u32[4]{0} fusion(%a), kind=kLoop, calls=%dropped
  %together = (f32[2]{0}, f32[3]{0}) all-reduce(%a, %a), to_apply=%add.1
  %loss = f32[2]{0} exponential(%a), metadata={op_name="jit(f)/jvp()/exp"}
  %drawn = f32[2]{0} add(%a, %a), metadata={op_name="jit(f)/jvp()/normalise"}
  %loop = f32[2]{0} while(%a), condition=%add.1, body=%moves
  ROOT %out = f32[2]{0} custom-call(%a), custom_call_target="__cudnn$convForward"
}
"""


def test_operations_are_classified_by_what_they_hold_and_where_they_come_from():
    found = profile.kinds(PROGRAM, pools=['S2'])
    assert {
        name: found[name]
        for name in (
            'moved',
            'convolved',
            'small',
            'matrix',
            'banded',
            'best',
            'means',
            'mean2',
            'scaled',
            'mask',
            'together',
            'loss',
            'drawn',
            'loop',
            'out',
        )
    } == {
        'moved': 'transpose, copy',
        'convolved': 'convolution',
        'small': 'convolution',
        'matrix': 'matrix product',
        'banded': 'norm',
        'best': 'pooling',
        'means': 'pooling',
        'mean2': 'pooling',
        'scaled': 'norm',
        'mask': 'random numbers',
        'together': 'collectives',
        'loss': 'elementwise',
        'drawn': 'elementwise',
        'loop': 'container',
        'out': 'convolution',
    }


def test_shares_of_a_made_up_trace_are_those_of_its_instants():
    event = profile.Event
    named = {'c': 'convolution', 'n': 'norm', 'w': 'container'}
    found = profile.shares(
        [
            event('c', 10, 30),  # alone to 20, half of 20 to 30
            event('n', 20, 40),  # alone 30 to 40
            event('w', 20, 50),  # a loop: 40 to 50 is nothing it names
            event('x', 50, 60),  # not in the program's text
            event('c', 60, 62, done=70),
        ],  # left to other threads until 70
        [event('wait', 0, 15), event('wait', 80, 90)],
        named,
        0,
        100,
        threads=2,
    )
    assert found == pytest.approx(
        dict.fromkeys(profile.KINDS, 0)
        | {'input': 0.20, 'convolution': 0.25, 'norm': 0.15, 'unknown': 0.20, 'idle': 0.20}
    )
    # what has been left to the pool gets the threads that nothing else runs on
    both = [event('c', 0, 1, done=100), event('n', 1, 100)]
    assert profile.shares(both, [], named, 1, 100, threads=2)['norm'] == 0.5
    assert profile.shares(both, [], named, 1, 100, threads=1)['norm'] == 1
    assert sum(profile.shares([], [], {}, 0, 1).values()) == 1


def test_the_profile_of_a_real_step_finds_its_operations(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(profile, '_SECONDS', 0.02)
    code, out, err = benchmark(
        'lenet5', '--profile', '--batch', 8, '--devices', 1, '--out', tmp_path / 'a.json'
    )
    assert code == 0, err
    stored = json.loads((tmp_path / 'a.json').read_text())
    measured = stored['cases']['lenet5']
    shares = measured['shares']
    assert set(shares) == set(profile.KINDS)
    assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) >= 0
    for kind in ('convolution', 'pooling', 'elementwise'):
        assert shares[kind] > 0, kind
    assert shares['norm'] == 0  # LeNet-5 has none
    assert shares['unknown'] < 0.05
    assert 'convolution' in out and 'ms a step' in out
    assert benchmark('--show', tmp_path / 'a.json')[0] == 0
    code, table, _ = benchmark('--markdown', tmp_path / 'a.json')
    assert code == 0
    heads, _, row = [
        [cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()[:3]
    ]
    assert 'norm, %' not in heads and row[0] == 'lenet5'
    assert float(row[heads.index('convolution, %')]) == round(100 * shares['convolution'], 1)
    assert not clipped(profile.render([stored]))
    assert benchmark('--figure', tmp_path / 'p.png', tmp_path / 'a.json')[0] == 0
    code, _, err = benchmark('lenet5', '--out', tmp_path / 'a.json')  # rates are another kind
    assert code == 2 and 'kind profile' in err
