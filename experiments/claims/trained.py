"""Claims that are judged by stored rows: for each, which arms are compared, and by what.

A rule takes the claim and the experiment of its config, and gives a verdict (judge.py). The first
comparison of a claim has its effect; the others are said beside it.
"""

import statistics
from collections.abc import Callable
from pathlib import Path

from configs import base
from experiments.claims import judge
from experiments.claims.claim import Claim, Verdict
from experiments.plan.runs import steps_to_error
from experiments.workdir import Experiment, read_experiment

STORED = Path(__file__).parent.parent / 'stored'
THRESHOLDS = (0.5, 0.4, 0.3, 0.25, 0.1)  # training errors of A1; the paper's is 0.25

Rule = Callable[[Claim, Experiment], Verdict]


def folder_of(config: str) -> Path:
    """Where the rows of a config are stored: 'ablate_pooling.py:small' -> ablate_pooling-small."""
    return STORED / config.replace('.py', '').replace(':', '-')


def exists(config: str) -> bool:
    """Whether the config file of a claim has been written."""
    return (Path(base.__file__).parent / config.partition(':')[0]).is_file()


def stored(config: str) -> Experiment | None:
    """The stored experiment of a config, or None where there is none."""
    folder = folder_of(config)
    return read_experiment(folder) if (folder / 'plan.json').is_file() else None


def _beside(verdict: Verdict, *others: Verdict) -> Verdict:
    """A verdict with what else was compared in its text."""
    return verdict._replace(text=' '.join(one.text for one in (verdict, *others)))


# --- LeNet-5 --------------------------------------------------------------------------------------


def l1(claim: Claim, experiment: Experiment) -> Verdict:
    """Lower error than both nets, and a lower error of images shifted by 2 pixels."""

    def shifted(row: judge.Row) -> float:
        return 100 * judge.measured(row, 'shift_errors', '2')

    nets = ('mlp_300', 'mlp_300_100')
    parts = [judge.difference(claim, experiment, 'lenet5', net) for net in nets]
    moved = judge.difference(claim, experiment, 'lenet5', 'mlp_300', shifted)
    moved = moved._replace(text=f'Validation images shifted by 2 pixels: {moved.text}')
    found = judge.all_of([*parts, moved])
    other = stored('lenet_shift.py:small_permuted')
    if other:
        mixed = judge.difference(claim, other, 'lenet5', 'mlp_300')
        found = _beside(found, mixed._replace(text=f'With permuted pixels: {mixed.text}'))
    return found


def l9(claim: Claim, experiment: Experiment) -> Verdict:
    """The error falls with the number of images, and with distortions."""
    parts = [
        judge.difference(claim, experiment, '54,000 images', '15,000 images'),
        judge.difference(claim, experiment, '30,000 images', '15,000 images'),
    ]
    distorted = ('54,000 images, distorted', '54,000 images')
    also = judge.difference(claim, experiment, *distorted)
    return _beside(judge.all_of(parts), also, _error(experiment, '54,000 images'))


def _error(experiment: Experiment, arm: str) -> Verdict:
    """The mean test error of an arm, in words."""
    values = judge.sample(experiment, arm, judge.test_error).values.values()
    text = f'{arm}: {statistics.fmean(values):.2f} % test error.' if values else ''
    return Verdict('', text)


# --- AlexNet --------------------------------------------------------------------------------------


def a1(claim: Claim, experiment: Experiment) -> Verdict:
    """Steps of tanh over those of ReLU, to 25 % and to the other thresholds."""

    def at(threshold: float) -> Verdict:
        times = lambda row: steps_to_error(row, threshold)
        found = judge.ratio(claim, experiment, 'relu', 'tanh', times)
        return found._replace(text=f'To {100 * threshold:g} % training error {found.text}')

    others = [at(threshold) for threshold in THRESHOLDS if threshold != 0.25]
    errors = judge.difference(
        claim._replace(margin=0.5, direction=0, unit='percentage points'),
        experiment,
        'relu',
        'tanh',
    )
    errors = errors._replace(text=f'Test error, which the paper does not claim: {errors.text}')
    return _beside(at(0.25), *others, errors)


def a3b(claim: Claim, experiment: Experiment) -> Verdict:
    pairs = (
        ('overlapping max pooling', 'overlapping average pooling'),
        ('non-overlapping max pooling', 'non-overlapping average pooling'),
    )
    return judge.all_of([judge.difference(claim, experiment, *pair) for pair in pairs])


def a3d(claim: Claim, experiment: Experiment) -> Verdict:
    pair = ('overlapping max pooling', 'non-overlapping max pooling')
    found = judge.difference(claim, experiment, *pair)
    gaps = judge.difference(claim, experiment, *pair, judge.gap)
    gaps = gaps._replace(text=f'Gap of test and training error: {gaps.text}')
    others = ('overlapping average pooling', 'non-overlapping average pooling')
    average = judge.difference(claim, experiment, *others)
    return _beside(found, gaps, average)


def a5a(claim: Claim, experiment: Experiment) -> Verdict:
    """The gap without augmentation minus that with crops and mirror images."""
    found = judge.difference(claim, experiment, 'flip and crop', 'none', judge.gap)
    pairs = [('flip and crop', 'none'), ('flip', 'none'), ('crop', 'none')]
    pairs.append(('flip, crop and colour', 'flip and crop'))
    errors = [judge.difference(claim, experiment, *pair) for pair in pairs]
    return _beside(found, errors[0]._replace(text=f'Test errors: {errors[0].text}'), *errors[1:])


# --- ResNet ---------------------------------------------------------------------------------------


def r1(claim: Claim, experiment: Experiment) -> Verdict:
    pair = ('plain-20', 'plain-56')
    found = judge.difference(claim, experiment, *pair, judge.train_error)
    test = judge.difference(claim, experiment, *pair)
    return _beside(found, test._replace(text=f'Test error: {test.text}'))


def r2(claim: Claim, experiment: Experiment) -> Verdict:
    pair = ('resnet-56', 'resnet-20')
    found = judge.difference(claim, experiment, *pair)
    train = judge.difference(claim, experiment, *pair, judge.train_error)
    return _beside(found, train._replace(text=f'Training error: {train.text}'))


def r4(claim: Claim, experiment: Experiment) -> Verdict:
    """Mean standard deviation of the responses of the 3x3 layers, plain over residual."""

    def mean(row: judge.Row) -> float:
        layers = judge.values_of(row, 'response_deviations')
        return statistics.fmean(value for name, value in layers.items() if '/conv' in name)

    found = judge.ratio(claim, experiment, 'resnet-20', 'plain-20', mean)
    deeper = judge.ratio(claim, experiment, 'resnet-56', 'resnet-20', mean)
    return _beside(found, deeper)


def r5(claim: Claim, experiment: Experiment) -> Verdict:
    none, *kinds = (f'shortcut {kind}' for kind in ('none', 'A', 'B', 'C'))
    means = {
        kind: statistics.fmean(values)
        for kind in kinds
        if (values := judge.sample(experiment, kind, judge.test_error).values.values())
    }
    worst = max(means, key=lambda kind: means[kind]) if means else kinds[0]
    found = judge.difference(claim, experiment, worst, none)
    same = claim._replace(direction=0)
    pairs = (('shortcut A', 'shortcut B'), ('shortcut B', 'shortcut C'))
    return _beside(found, *(judge.difference(same, experiment, *pair) for pair in pairs))


RULES: dict[str, Rule] = {
    'L1': l1,
    'L9': l9,
    'A1': a1,
    'A3b': a3b,
    'A3d': a3d,
    'A5a': a5a,
    'R1': r1,
    'R2': r2,
    'R4': r4,
    'R5': r5,
}


def verdict(claim: Claim) -> Verdict | None:
    """The verdict of stored rows, or None where there is no rule, or are no rows."""
    rule, experiment = RULES.get(claim.id), stored(claim.config)
    return rule(claim, experiment) if rule and experiment else None
