"""Claims that are judged by stored rows: for each, which arms are compared, and by what.

A rule takes the claim and the experiment of its config, and gives a verdict (judge.py). The first
comparison of a claim has its effect, or, of a claim of several parts, the one that decides; the
others are said beside it.
"""

import functools
import itertools
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from configs import base
from experiments.claims import judge
from experiments.claims.claim import (
    CONTRADICTED,
    EQUIVALENT,
    NOT_RESOLVED,
    SUPPORTED,
    Claim,
    Verdict,
    unit_of,
)
from experiments.claims.computed.gradients import ACTIVATIONS, DEPTHS
from experiments.errors import UserError, counted
from experiments.plan.config import read_config
from experiments.plan.runs import plan_of, steps_to_error
from experiments.progress import note
from experiments.report import factorial
from experiments.report import statistics as tests
from experiments.report.intervals import interval
from experiments.report.summary import finished
from experiments.workdir import Experiment, default_folder, read_experiment

STORED = Path(__file__).parent.parent / 'stored'
THRESHOLDS = (0.5, 0.4, 0.3, 0.25, 0.1)  # training errors of A1; the paper's is 0.25

Rule = Callable[[Claim, Experiment], Verdict]


def folder_of(config: str) -> Path:
    """Where the rows of a config are: in experiments/stored, else where experiments.run puts them.

    Raises UserError: the config takes no such argument.
    """
    name = read_config(f'configs/{config}').name
    return STORED / name if (STORED / name).is_dir() else default_folder(name)


def place_of(config: str) -> str:
    """The folder of the rows of a config, as a reader knows it."""
    folder = folder_of(config)
    return f'experiments/stored/{folder.name}' if folder.parent == STORED else str(folder)


def exists(config: str) -> bool:
    """Whether the config file of a claim has been written."""
    return (Path(base.__file__).parent / config.partition(':')[0]).is_file()


def size_of(config: str) -> str:
    """'2 arms with 5 seeds each, 16 runs of 10 epochs': what a config trains."""
    plan = plan_of(read_config(f'configs/{config}'))
    seeds = counted(len(plan.arms[0].seeds), 'seed')
    length = plan.config.train
    until = counted(length.steps, 'step') if length.steps else counted(length.epochs, 'epoch')
    arms = f'{counted(len(plan.arms), "arm")} with {seeds}{" each" * (len(plan.arms) > 1)}'
    return f'{arms}, {counted(plan.size, "run")} of {until}'


def stored(config: str) -> Experiment | None:
    """The experiment of a config, or None where there is none."""
    if not exists(config) or not ((folder := folder_of(config)) / 'plan.json').is_file():
        return None
    files = [path for name in ('plan.json', 'results.jsonl') if (path := folder / name).is_file()]
    return _read(folder, *(path.stat().st_mtime_ns for path in files))


@functools.cache
def _read(folder: Path, *times: int) -> Experiment | None:
    """The experiment whose files have these times: several claims share one, and one note."""
    try:
        return read_experiment(folder)
    except UserError as error:  # the plan of a run that has just begun
        note(str(error))
        return None


def _beside(verdict: Verdict, *others: Verdict) -> Verdict:
    """A verdict with what else was compared in its text."""
    return verdict._replace(text=' '.join(one.text for one in (verdict, *others) if one.text))


def _said(words: str, verdict: Verdict) -> Verdict:
    """A verdict whose text begins with these words."""
    return verdict._replace(text=f'{words}: {verdict.text}')


# --- LeNet-5 --------------------------------------------------------------------------------------


def l1(claim: Claim, experiment: Experiment) -> Verdict:
    """Lower error than both nets, and a lower error of images shifted by 2 pixels."""

    def shifted(row: judge.Row) -> float:
        return 100 * judge.measured(row, 'shift_errors', '2')

    nets = ('mlp_300', 'mlp_300_100')
    parts = [judge.difference(claim, experiment, 'lenet5', net) for net in nets]
    sizes = _parameters(experiment, ('lenet5', *nets))
    moved = judge.difference(claim, experiment, 'lenet5', 'mlp_300', shifted)
    moved = _said('Validation images shifted by 2 pixels', moved)
    return _beside(judge.all_of([*parts, moved]), sizes)


def _l1_permuted(claim: Claim, experiment: Experiment) -> Verdict:
    return _said('With permuted pixels', judge.difference(claim, experiment, 'lenet5', 'mlp_300'))


def _points(claim: Claim) -> Claim:
    """The claim as one on errors of two arms: what is computed of it has another unit."""
    return claim._replace(unit='percentage points')


def l3(claim: Claim, experiment: Experiment) -> Verdict:
    """Plain tanh against scaled tanh; beside it ReLU, and a linear output."""
    claim = _points(claim)
    pairs = [('scaled_tanh', 'tanh'), ('scaled_tanh', 'relu')]
    pairs += [(f'{a}, linear output', f'{b}, linear output') for a, b in pairs]
    pairs.append(('scaled_tanh', 'scaled_tanh, linear output'))
    return _beside(*(judge.difference(claim, experiment, *pair) for pair in pairs))


def l5(claim: Claim, experiment: Experiment) -> Verdict:
    """Plain average pooling against trainable subsampling; beside it max pooling."""
    pairs = (('trainable', 'average'), ('trainable', 'max'))
    return _beside(*(judge.difference(_points(claim), experiment, *pair) for pair in pairs))


def l6(claim: Claim, experiment: Experiment) -> Verdict:
    """The links of Table I against all links; beside it how alike the maps of C3 are."""
    pair = ('all links', 'links of Table I')

    def alike(row: judge.Row) -> float:
        return judge.measured(row, 'channel_correlations', 'C3')

    found = judge.difference(_points(claim), experiment, *pair)
    own = claim._replace(unit='of correlation', margin=0.05)
    maps = judge.difference(own, experiment, *pair, alike)
    return _beside(found, _said('Correlation of two maps of C3', maps))


def l9(claim: Claim, experiment: Experiment) -> Verdict:
    """The error falls with the number of images, and with distortions."""
    pairs = (
        ('54,000 images', '15,000 images'),
        ('30,000 images', '15,000 images'),
        ('54,000 images, distorted', '54,000 images'),
    )
    parts = [judge.difference(claim, experiment, *pair) for pair in pairs]
    return _beside(judge.all_of(parts), _error(experiment, '54,000 images'))


def _error(experiment: Experiment, arm: str) -> Verdict:
    """The mean test error of an arm with its interval, in words."""
    values = [*judge.sample(experiment, arm, judge.test_error).values.values()]
    if len(values) < judge.LEAST:
        return Verdict('', '')
    found = interval(values, experiment.plan['level'])
    return Verdict(
        '', f'{arm}: {found.mean:.2f} % test error, [{found.low:.2f}, {found.high:.2f}].'
    )


def _parameters(experiment: Experiment, arms: Sequence[str]) -> Verdict:
    """How many parameters the nets of some arms have, in words."""
    rows = {arm: next(iter(finished(experiment, arm).values()), {}) for arm in arms}
    counts = [f'{arm} {row["parameters"]:,}' for arm, row in rows.items() if 'parameters' in row]
    return Verdict('', f'Parameters: {"; ".join(counts)}.' if counts else '')


# --- AlexNet --------------------------------------------------------------------------------------


def _at(threshold: float) -> Callable[[judge.Row], float | None]:
    """The steps of a row to this training error."""
    return lambda row: steps_to_error(row, threshold)


def a1(claim: Claim, experiment: Experiment) -> Verdict:
    """Steps of tanh over those of ReLU, to 25 % and to the other thresholds."""

    def at(threshold: float, arm: str = 'tanh') -> Verdict:
        found = judge.ratio(claim, experiment, 'relu', arm, _at(threshold))
        return _said(f'To {100 * threshold:g} % training error', found)

    others = [at(threshold) for threshold in THRESHOLDS if threshold != 0.25]
    others += [at(0.25, 'scaled_tanh'), at(0.5, 'sigmoid')]
    errors = judge.difference(
        claim._replace(margin=0.5, direction=0, unit='percentage points'),
        experiment,
        'relu',
        'tanh',
    )
    errors = _said('Test error, which the paper does not claim', errors)
    return _beside(at(0.25), *others, errors)


def a2a(claim: Claim, experiment: Experiment) -> Verdict:
    """The gap without dropout minus that with it; V5 too."""
    pair = ('dropout 0.5', 'no dropout')
    found = judge.difference(claim, experiment, *pair, judge.gap)
    errors = judge.difference(claim, experiment, *pair)
    times = claim._replace(unit='times', margin=1.25)
    steps = judge.ratio(times, experiment, 'no dropout', 'dropout 0.5', _at(0.5))
    words = 'To 50 % training error, measured while units are dropped'
    gap = _said('Gap of test and training error', found)
    return _beside(gap, _lower('Test error', errors), _said(words, steps))


def _lower(words: str, errors: Verdict) -> Verdict:
    """Test errors beside a gap, and in words whether they fall as well: a gap closes, too, where a
    net learns less."""
    ends = {SUPPORTED: ' The test error falls too.', CONTRADICTED: ' The test error rises.'}
    return _said(words, errors._replace(text=errors.text + ends.get(errors.verdict, '')))


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
    gaps = _said('Gap of test and training error', gaps)
    others = ('overlapping average pooling', 'non-overlapping average pooling')
    average = judge.difference(claim, experiment, *others)
    top5 = judge.difference(claim, experiment, *pair, lambda row: 100 * row['test/error5'])
    top5 = _said('Top-5 error', top5)
    return _beside(found, top5, gaps, average, _effects(experiment, 'overlap'))


def effects_of(experiment: Experiment) -> list[tests.Effect]:
    """The effects of an experiment that is a full factorial; else [].

    Without the sigmoid, where other activations are there: with LRN some of its runs learn nothing
    or little, and their spread hides every other effect.
    """
    done = {arm: finished(experiment, arm) for arm in without_sigmoid(experiment)}
    return factorial.effects(done, experiment.plan['level'])


def without_sigmoid(experiment: Experiment) -> list[str]:
    """The arms whose activation is not set to sigmoid."""
    rows = {
        arm: next(iter(finished(experiment, arm).values()), {}) for arm in experiment.plan['arms']
    }
    given = {arm: row.get('overrides', {}).get('model.activation') for arm, row in rows.items()}
    return [arm for arm, activation in given.items() if activation != 'sigmoid']


def _effects(experiment: Experiment, field: str) -> Verdict:
    """The effects of a field in a full factorial, in words: see report/factorial.py."""
    arms = f'{len(without_sigmoid(experiment))} arms'
    lines = factorial.lines(effects_of(experiment), experiment.plan['level'], field, arms)
    return Verdict('', f'{lines[0]} {"; ".join(lines[1:])}.' if lines else '')


def _again(words: str, rule: Rule) -> Rule:
    """The rule of a part: the same comparisons, where these words hold."""
    return lambda claim, experiment: _said(words, rule(claim, experiment))


def _of_field(field: str, words: str) -> Rule:
    """The rule of a part: the effects of a field, in words."""

    def rule(claim: Claim, experiment: Experiment) -> Verdict:
        found = _effects(experiment, field)
        return _said(words, found) if found.text else found

    return rule


def a4b(claim: Claim, experiment: Experiment) -> Verdict:
    """Steps without LRN over those with it; beside it the errors, and LRN on top of batch norm."""
    pair = ('norm lrn', 'norm none')
    found = judge.ratio(claim, experiment, *pair, _at(0.4))
    others = [
        _said(f'To {100 * at:g} %', judge.ratio(claim, experiment, *pair, _at(at)))
        for at in (0.5, 0.3)
    ]
    both = judge.ratio(claim, experiment, 'norm batch+lrn', 'norm batch', _at(0.4))
    points = claim._replace(unit='percentage points', margin=0.5, direction=0)
    errors = judge.difference(points, experiment, *pair)
    return _beside(
        _said('To 40 % training error', found),
        *others,
        _said('With batch norm, to 40 %', both),
        _said('Test error, which the paper claims', errors),
    )


def a4c(claim: Claim, experiment: Experiment) -> Verdict:
    """LRN minus batch norm; beside it none and both, the speed, and the rates that each bears."""
    found = judge.difference(claim, experiment, 'norm batch', 'norm lrn')
    none = judge.difference(claim, experiment, 'norm batch', 'norm none')
    same = claim._replace(direction=0)
    both = judge.difference(same, experiment, 'norm batch', 'norm batch+lrn')
    times = claim._replace(unit='times', margin=1.25)
    speed = judge.ratio(times, experiment, 'norm batch', 'norm lrn', _at(0.4))
    rates = [_borne(experiment, f'norm {norm}') for norm in ('none', 'lrn', 'batch', 'batch+lrn')]
    return _beside(found, none, both, _said('To 40 % training error', speed), *rates)


def _a4c_mnist(claim: Claim, experiment: Experiment) -> Verdict:
    """Batch norm against none in the net of batch norm's own paper; it has no LRN."""
    pair = ('norm batch', 'norm none')
    found = judge.difference(claim, experiment, *pair)
    times = claim._replace(unit='times', margin=1.25)
    speed = judge.ratio(times, experiment, *pair, _at(0.05))
    epochs = judge.ratio(times, experiment, *pair, _epochs(experiment, 0.025))
    rates = [_borne(experiment, arm) for arm in reversed(pair)]
    found = _beside(
        found,
        _said('Epochs to 2.5 % validation error', epochs),
        _said('Steps to 5 % training error', speed),
        *rates,
    )
    return _said("In the paper's MNIST net, which never had LRN", found)


def _epochs(experiment: Experiment, error: float) -> Callable[[judge.Row], float | None]:
    """The first epoch of a row with at most this validation error, a fraction."""

    def first(row: judge.Row) -> float | None:
        lines = experiment.curves[row['point']]
        return next((line['epoch'] for line in lines if line['validation/error'] <= error), None)

    return first


NEAR = 2.0  # percentage points of validation error from an arm's best learning rate


def _borne(experiment: Experiment, arm: str) -> Verdict:
    """The learning rates with which an arm is within NEAR points of its best, in words."""
    tried = judge.trials(experiment, arm)
    means = {rate: statistics.fmean(errors) for rate, errors in tried.items()}
    near = [rate for rate, mean in means.items() if mean <= min(means.values()) + NEAR]
    if not near:
        return Verdict('', '')
    span = f'{min(near):g} to {max(near):g}' if len(near) > 1 else f'{near[0]:g} alone'
    words = f'{arm}: learning rates within {NEAR:g} points of the lowest validation error'
    return Verdict('', f'{words}: {span}.')


def a5a(claim: Claim, experiment: Experiment) -> Verdict:
    """The gap without augmentation minus that with crops and mirror images."""
    found = judge.difference(claim, experiment, 'flip and crop', 'none', judge.gap)
    pairs = [('flip and crop', 'none'), ('flip', 'none'), ('crop', 'none')]
    pairs.append(('flip, crop and colour', 'flip and crop'))
    errors = [judge.difference(claim, experiment, *pair) for pair in pairs]
    gap = _said('Gap of test and training error', found)
    return _beside(gap, _lower('Test errors', errors[0]), *errors[1:])


def a6(claim: Claim, experiment: Experiment) -> Verdict:
    """One column minus two, of each size; and how far apart the two are in colour."""
    points = _points(claim)
    sizes = ('equal width', 'equal parameters', 'half the width')
    pairs = [('two columns', f'one column, {size}') for size in sizes]

    def apart(row: judge.Row) -> float:
        values = judge.values_of(row, 'colour_index')['conv1']
        colours, half = list(values), len(values) // 2
        return abs(statistics.fmean(colours[:half]) - statistics.fmean(colours[half:]))

    colours = judge.difference(
        claim._replace(unit='of colour', margin=0.05), experiment, *pairs[0][::-1], apart
    )
    errors = [judge.difference(points, experiment, *pair) for pair in pairs]
    return _beside(
        _said('Test errors', errors[0]),
        *errors[1:],
        _said('Difference in colour of the two halves of the filters of conv1', colours),
    )


# --- VGG ------------------------------------------------------------------------------------------


def v1c(claim: Claim, experiment: Experiment) -> Verdict:
    pairs = [('3x3 pairs', '5x5'), ('3x3 pairs', '5x5, equal parameters')]
    return _beside(*(judge.difference(claim, experiment, *pair) for pair in pairs))


def v2(claim: Claim, experiment: Experiment) -> Verdict:
    """The inner ReLU; beside it whether one large kernel is the same without, and the columns."""
    found = judge.difference(claim, experiment, '3x3 pairs', '3x3 pairs, linear')
    one = judge.difference(claim._replace(direction=0), experiment, '3x3 pairs, linear', '5x5')
    columns = [('column C', '3x3 pairs'), ('column D', 'column C')]
    return _beside(found, one, *(judge.difference(claim, experiment, *pair) for pair in columns))


def v6(claim: Claim, experiment: Experiment) -> Verdict:
    pairs = [(f'VGG-{depth}, batch norm', 'VGG-11, batch norm') for depth in (19, 16)]
    pairs.append(('VGG-19, no norm', 'VGG-11, no norm'))
    test, *others = (judge.difference(claim, experiment, *pair) for pair in pairs)
    train = judge.difference(claim, experiment, *pairs[0], judge.train_error)
    sizes = _parameters(experiment, experiment.plan['arms'])
    return _beside(_said('Test error', test), _said('Training error', train), *others, sizes)


def in_order(layers: dict[str, float]) -> list[str]:
    """Names of layers by the numbers in them: fc2 before fc10."""
    pieces = lambda name: [int(own) if own.isdigit() else own for own in re.split(r'(\d+)', name)]
    return sorted(layers, key=pieces)


_NO_FLOW = 'The rows hold no finished run with gradient norms.'


def _flow(experiment: Experiment, arm: str, epoch: str = '0') -> list[list[float]]:
    """Norms of the gradient of each run: all layers but the last, from the first on.

    epoch: '0' is before the training, '' after it. Runs without this measure are left out.
    """
    found = []
    for row in finished(experiment, arm).values():
        try:
            norms = judge.values_of(row, 'gradient_norms', epoch)
        except KeyError:  # trained with other measures
            continue
        found.append([norms[layer] for layer in in_order(norms)[:-1]])
    return found


def v3(claim: Claim, experiment: Experiment) -> Verdict:
    """Norms of the gradient on images instead of noise, of the weights, and with batch norm.

    Of the weights, since those are what the gradient trains: it is small in all layers alike where
    the signal shrinks on its way up as the gradient does on its way down.
    """
    texts = []
    for depth in DEPTHS:
        said = []
        for kind in itertools.product(ACTIVATIONS, ('gaussian_0.01', 'glorot', 'he')):
            name = ', '.join(kind)
            runs = [
                _flow(experiment, f'{depth} layers, {name}, norm {n}') for n in ('none', 'batch')
            ]
            if all(runs):
                # the first layer has images as inputs, the hidden ones have units
                hidden = [[norms[1:] for norms in own] for own in runs]
                ends = [(min(map(min, own)), max(map(max, own))) for own in hidden]
                said.append(
                    f'{name} ' + ', '.join(f'{low:.0e} to {high:.0e}' for low, high in ends)
                )
        texts += [f'in {depth} layers {"; ".join(said)}'] * bool(said)
    text = (
        'On CIFAR-10 the least and the largest norm of the gradient of the weights of a hidden '
        'layer are, without batch norm and with it: '
    )
    return Verdict('', f'{text}{". And ".join(texts)}.' if texts else _NO_FLOW)


def r3(claim: Claim, experiment: Experiment) -> Verdict:
    """The least gradient of a convolution, of that of the last one, on images."""
    said = []
    for net in ('plain56', 'resnet56'):
        for norm in ('batch', 'none'):
            runs = _flow(experiment, f'{net}, norm {norm}')
            if runs:
                least = statistics.median(min(norms) / norms[-1] for norms in runs)
                said.append(f'{least:.2g} ({net}, norm {norm})')
            elif f'{net}, norm {norm}' in experiment.plan['arms']:
                said.append(f'unknown ({net}, norm {norm}: no run with gradient norms ended)')
    text = 'On CIFAR-10 the least gradient of a convolution is so many times that of the last: '
    return Verdict('', f'{text}{", ".join(said)}.' if said else _NO_FLOW)


def _r3_trained(claim: Claim, experiment: Experiment) -> Verdict:
    """The same after the training, of the nets whose degradation R1 measures."""
    said = []
    for net in ('plain-20', 'plain-56', 'resnet-56'):
        least = [min(norms) / norms[-1] for norms in _flow(experiment, net, '')]
        if least:
            said.append(f'{net} {min(least):.2g} to {max(least):.2g}')
    text = 'After the training of R1 it is, with batch norm, from seed to seed: '
    return Verdict('', f'{text}{", ".join(said)}.' if said else '')


# --- GoogLeNet ------------------------------------------------------------------------------------


def g2(claim: Claim, experiment: Experiment) -> Verdict:
    found = judge.difference(_points(claim), experiment, 'reduced', 'naive')
    return _said('Test error', found)


def branch_costs(row: judge.Row) -> dict[str, dict[str, float]]:
    """By block and branch, how many percentage points of error its absence adds."""
    errors = judge.values_of(row, 'branch_errors')
    found: dict[str, dict[str, float]] = {}
    for name, error in errors.items():
        block, _, branch = name.partition('/')
        if branch:
            found.setdefault(block, {})[branch] = 100 * (error - errors['whole'])
    return found


def g4(claim: Claim, experiment: Experiment) -> Verdict:
    """The cost of the most important branch of a block minus that of the least important one.

    Which these are is read off the other seeds: the two ends of a row's own noise would always lie
    apart.
    """
    arm, level = 'GoogLeNet', experiment.plan['level']
    data = experiment.plan.get('dataset', '')

    def error(row: judge.Row) -> float:
        """That of the whole net; KeyError where a row lacks one of the two measures."""
        judge.values_of(row, 'branch_gradient_norms')
        return judge.values_of(row, 'branch_errors')['whole']

    known, trouble, _ = judge.sample(experiment, arm, error)
    rows = [row for seed, row in finished(experiment, arm).items() if seed in known]
    costs = [branch_costs(row) for row in rows]
    if len(costs) <= judge.LEAST:
        return Verdict(NOT_RESOLVED, f'{trouble or "too few seeds"}.', seeds=len(costs), data=data)
    values = []
    for place, own in enumerate(costs):
        others = costs[:place] + costs[place + 1 :]
        spreads = []
        for block, branches in own.items():
            mean = {name: statistics.fmean(one[block][name] for one in others) for name in branches}
            least, most = min(mean, key=mean.__getitem__), max(mean, key=mean.__getitem__)
            spreads.append(branches[most] - branches[least])
        values.append(statistics.fmean(spreads))
    found = interval(values, level)
    verdict = judge.decided(found.low, found.high, claim.margin or 0.0, claim.direction)
    kinds = {name: [one[block][name] for one in costs for block in one] for name in costs[0][block]}
    shares = ', '.join(f'{name} {statistics.fmean(own):+.1f}' for name, own in kinds.items())
    norms = [item for row in rows for item in judge.values_of(row, 'branch_gradient_norms').items()]
    mean_norm = lambda kind: statistics.fmean(norm for name, norm in norms if name.endswith(kind))
    gradients = ', '.join(f'{kind} {mean_norm(f"/{kind}"):.3f}' for kind in kinds)
    text = (
        f'Without the most important branch of a block the error is {found.mean:.2f} points higher '
        f'than without the least important one, [{found.low:+.2f}, {found.high:+.2f}], mean of '
        f'{len(costs[0])} blocks, validation images. Mean cost of each branch: {shares}. '
        f'Mean norm of its gradient: {gradients}.'
    )
    if trouble:
        verdict, text = NOT_RESOLVED, f'{text} {trouble}.'
    elif verdict == NOT_RESOLVED and claim.margin:
        needed = tests.seeds_needed(
            statistics.stdev(values), claim.margin, level, True, equivalence=True
        )
        size = f'{claim.margin:g}'
        text += f' To tell {size} {unit_of(size, claim.unit)} from none takes about {needed} seeds.'
    return Verdict(verdict, text, found.mean, found.low, found.high, len(costs), data, 'seeds')


def g6(claim: Claim, experiment: Experiment) -> Verdict:
    pair = ('auxiliary classifiers', 'no auxiliary classifiers')
    return judge.difference(claim, experiment, *pair)


def g7(claim: Claim, experiment: Experiment) -> Verdict:
    pair = ('global average', 'fully connected')
    return _beside(judge.difference(claim, experiment, *pair), _parameters(experiment, pair))


# --- ResNet ---------------------------------------------------------------------------------------


def r1(claim: Claim, experiment: Experiment) -> Verdict:
    pair = ('plain-20', 'plain-56')
    found = judge.difference(claim, experiment, *pair, judge.train_error)
    test = judge.difference(claim, experiment, *pair)
    sizes = _parameters(experiment, pair)
    return _beside(_said('Training error', found), _said('Test error', test), sizes)


def r2(claim: Claim, experiment: Experiment) -> Verdict:
    pair = ('resnet-56', 'resnet-20')
    found = judge.difference(claim, experiment, *pair)
    train = judge.difference(claim, experiment, *pair, judge.train_error)
    sizes = _parameters(experiment, pair)
    return _beside(_said('Test error', found), _said('Training error', train), sizes)


def _response(row: judge.Row) -> float:
    """Mean standard deviation of the responses of the 3x3 layers."""
    layers = judge.values_of(row, 'response_deviations')
    return statistics.fmean(value for name, value in layers.items() if '/conv' in name)


def r4(claim: Claim, experiment: Experiment) -> Verdict:
    """Mean standard deviation of the responses of the 3x3 layers: plain over residual at both
    depths, and shallow over deep."""
    pairs = (('resnet-20', 'plain-20'), ('resnet-56', 'plain-56'), ('resnet-56', 'resnet-20'))
    return judge.all_of(
        [judge.ratio(claim, experiment, *pair, _response, of_times=False) for pair in pairs]
    )


def _r4_deeper(claim: Claim, experiment: Experiment) -> Verdict:
    """The deepest net of Fig. 7, too."""
    return judge.ratio(claim, experiment, 'resnet-110', 'resnet-56', _response, of_times=False)


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
    alike = [judge.difference(same, experiment, *pair) for pair in itertools.combinations(kinds, 2)]
    # that they differ little is what the claim says
    held = [one._replace(verdict=SUPPORTED) if one.verdict == EQUIVALENT else one for one in alike]
    return _beside(judge.all_of([found, *held]), _parameters(experiment, (none, *kinds)))


def r7(claim: Claim, experiment: Experiment) -> Verdict:
    pair = ('warm-up', 'no warm-up')
    found = judge.ratio(claim, experiment, *pair, _at(0.8))
    points = claim._replace(unit='percentage points', margin=1.0, direction=0)
    errors = judge.difference(points, experiment, *pair, judge.train_error)
    words = 'Training error at the end, which the paper calls similar'
    return _beside(_said('To 80 % training error', found), _said(words, errors))


RULES: dict[str, Rule] = {
    'L1': l1,
    'L3': l3,
    'L5': l5,
    'L6': l6,
    'L9': l9,
    'A1': a1,
    'A2a': a2a,
    'A3b': a3b,
    'A3d': a3d,
    'A4b': a4b,
    'A4c': a4c,
    'A5a': a5a,
    'A6': a6,
    'V1c': v1c,
    'V2': v2,
    'V3': v3,
    'V5': a2a,
    'V6': v6,
    'G2': g2,
    'G4': g4,
    'G6': g6,
    'G7': g7,
    'R1': r1,
    'R2': r2,
    'R3': r3,
    'R4': r4,
    'R5': r5,
    'R7': r7,
}


def verdict(claim: Claim) -> Verdict | None:
    """The verdict of stored rows, or None where there is no rule, or are no rows."""
    rule, experiment = RULES.get(claim.id), stored(claim.config)
    if not (rule and experiment):
        return None
    place = place_of(claim.config)
    where = '' if place.startswith('experiments') else f'The rows are in {place}.'
    found = _beside(rule(claim, experiment), Verdict('', where), Verdict('', beside(claim)))
    return found._replace(data=experiment.plan['dataset_note'])


# What rows of another config say of a claim, whether or not it has rows of its own
FACTORIAL = 'ablate_all.py:small'
POOLING = 'ablate_pooling.py:fashion_mnist'
INITIALISATION = 'ablate_activation.py:small_paper'
STANDARDISED = 'ablate_normalization.py:small_standardised'
BATCHNORM = 'batchnorm_mnist.py:full'
DEPTH = 'ablate_depth.py:small'
RESPONSES = 'responses.py:small'
_LARGER = 'In LeNet-5 on Fashion-MNIST, 54,000 images'
_LENET = 'In LeNet-5 on Fashion-MNIST, 20,000 images, with tanh and ReLU'
_STANDARDISED = 'On standardised images, for which the constants of LRN are not made'
_INITIALISATION = "With cuda-convnet's initialisation, on pixels from 0 to 255 minus the mean image"
PARTS: dict[str, dict[str, Rule]] = {
    'L1': {'lenet_shift.py:small_permuted': _l1_permuted},
    'A1': {INITIALISATION: _again(_INITIALISATION, a1), FACTORIAL: _of_field('activation', _LENET)},
    'A3b': {POOLING: _of_field('pool', _LARGER), FACTORIAL: _of_field('pool', _LENET)},
    'A3d': {POOLING: _of_field('overlap', _LARGER), FACTORIAL: _of_field('overlap', _LENET)},
    'A4b': {STANDARDISED: _again(_STANDARDISED, a4b)},
    'A4c': {
        STANDARDISED: _again(_STANDARDISED, a4c),
        BATCHNORM: _a4c_mnist,
        FACTORIAL: _of_field('norm', _LENET),
    },
    'R3': {DEPTH: _r3_trained},
    'R4': {RESPONSES: _r4_deeper},
}


def parts(claim: Claim) -> dict[str, Experiment | None]:
    """{config: its stored experiment, or None} of what else says something of a claim.

    A claim that is judged at the full scale leaves out what is of the small one.
    """
    full = ':full' in claim.config
    configs = [one for one in PARTS.get(claim.id, {}) if not (full and ':small' in one)]
    return {config: stored(config) for config in configs}


def beside(claim: Claim) -> str:
    """What rows of other configs say of a claim, and which have none; '' of no other configs."""
    rules = PARTS.get(claim.id, {})
    return ' '.join(
        rules[config](claim, other).text if other else f'Not run yet: {config}, {size_of(config)}.'
        for config, other in parts(claim).items()
    )
