"""Made-up results of the benchmark and a made-up PyTorch, for its tests."""

import json
import sys
import textwrap

from experiments.benchmark.cases import CASES, work_of


def times(*rates):
    return [
        {'images_per_second': rate, 'steps': 2, 'seconds': 1.0, 'input_share': 0.02, 'mib': 100.0}
        for rate in rates
    ]


def entry(ours, contiguous, last, plain=(), name='lenet5'):
    case = CASES[name]
    work = work_of(case)
    sides = {
        'ours': {
            'train': times(*ours),
            'infer': times(*[3 * rate for rate in ours]),
            'compile_seconds': 1.25,
            'memory_mib': {'step': 12.4},
            'host': {'seconds': 1e-4, 'step_seconds': 1e-2, 'share': 0.01},
        },
        'torch contiguous': {'train': times(*contiguous), 'infer': times(*contiguous)},
        'torch channels_last': {'train': times(*last), 'infer': times(*last)},
        'torch compile': {'error': 'no compiler'},
    }
    if plain:
        sides['plain'] = {'train': times(*plain), 'infer': times(*plain)}
    return {
        'net': case.net,
        'fields': case.fields,
        'batch': case.batch,
        'classes': 10,
        'input': list(case.input),
        'parameters': work.parameters,
        'multiply_adds': work.macs,
        'flop_train': work.train,
        'flop_infer': work.infer,
        'sides': sides,
        'seconds': 1.0,
    }


def result(cases, **settings):
    return {
        'kind': 'benchmark',
        'peak_gflops': 200.0,
        'cases': cases,
        'settings': {'devices': None, 'dtype': 'float32', 'batch': None} | settings,
        'environment': {
            'date': '2020-01-02',
            'python': '3.13.0',
            'cpu': 'a CPU',
            'cores': 2,
            'load': [0.5, 0, 0],
            'versions': {'jax': '0.12.0'},
            'device': 'cpu',
            'platform': 'cpu',
            'devices': 1,
            'torch': {'torch': '2.9', 'threads': 2},
        },
    }


TWO = result(
    {
        'lenet5': entry([100, 300, 200], [90], [100, 150, 50], [50, 100, 100]),
        'resnet20': entry([80, 80], [40, 40], [20, 20], name='resnet20'),
    }
)
ONE = result({'lenet5': entry([100], [50], [80])})


def clipped(figure):
    """By how many inches what is drawn leaves the figure."""
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return max(0, -drawn.x0, -drawn.y0, drawn.x1 - width, drawn.y1 - height)


def fake_python(tmp_path, answers):
    """An interpreter whose every process says hello and then gives these answers.

    None of them can compile.
    """
    lines = [json.dumps({'torch': '0', 'threads': 1, 'device': 'cpu'}), *answers]
    path = tmp_path / 'python'
    path.write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        import sys
        answers = {lines!r}
        print(answers[0], flush=True)
        for answer, line in zip(answers[1:], sys.stdin):
            print('{{"error": "no compiler"}}' if 'compile' in line else answer, flush=True)
        """)
    )
    path.chmod(0o755)
    return str(path)


def answer(rate):
    return json.dumps(
        {'images_per_second': rate, 'steps': 2, 'seconds': 1.0, 'warm_up': 0.0, 'mib': 1.0}
    )
