"""Claims and verdicts as the lines of tables, for the terminal, the page and Markdown."""

import re

from experiments.claims import trained
from experiments.claims.claim import VERDICTS, Claim, Verdict, unit_of
from experiments.claims.ledger import SECTIONS
from experiments.errors import counted
from experiments.report.page import made_on
from experiments.report.summary import arm_rows, finished, rates_of
from experiments.workdir import Experiment

HEADINGS = ('claim', 'verdict', 'effect', 'measured on', 'the notes say')


def effect(claim: Claim, found: Verdict) -> str:
    """'60,000 parameters', '+0.43 [+0.2, +0.66] percentage points'; '' where there is none.

    A ratio of times lacks a bound where too few runs of an arm got there.
    """
    times = claim.unit == 'times'
    if found.effect is None:
        return f'at least {_number(found.low)} {claim.unit}' if found.low else ''
    if times and not found.effect:
        return f'at most {_number(found.high)} {claim.unit}' if found.high else ''
    interval = ''
    if found.low is not None:
        high = 'no upper bound' if found.high is None else _number(found.high)
        low = 'no lower bound' if times and not found.low else _number(found.low)
        interval = f' [{low}, {high}]'
    number, part = _number(found.effect), f' ({found.pair})' if found.other else ''
    return f'{number}{interval} {unit_of(number, claim.unit)}{part}'


def _number(value: float) -> str:
    return f'{value:,.0f}' if value == round(value) or abs(value) >= 1000 else f'{value:.3g}'


def table(pairs: list[tuple[Claim, Verdict]]) -> list[tuple[str, ...]]:
    """The lines of the table of all claims, in the order of HEADINGS."""
    return [
        (one.id, found.verdict, effect(one, found), measured_on(one), one.sentence)
        for one, found in pairs
    ]


def measured_on(claim: Claim) -> str:
    """'cifar10 as JPEG, 10,000 images, 1,250 steps': data and length of the runs that decide.

    'computed' of what is computed. The images are those of training, from the least to the most.
    """
    experiment = None if claim.compute else trained.stored(claim.config)
    if not experiment:
        return 'computed' if claim.compute else ''
    data, note = experiment.plan['dataset'], experiment.plan['dataset_note']
    counts = re.findall(r'only the first ([\d,]+) of [\d,]+ train', note)
    if counts and note.count(f'{data} ') > len(counts):  # an arm has all of them
        counts.append('all')
    lengths = _lengths(experiment)
    parts = [
        data + ' as JPEG' * ('images stored as JPEG' in note),
        ' to '.join(dict.fromkeys([*counts[:1], *counts[-1:]])) + ' images' * bool(counts),
        ' to '.join(f'{steps:,}' for steps, _ in lengths) + ' steps' * bool(lengths),
    ]
    return ', '.join(filter(None, parts))


def by_paper(pairs: list[tuple[Claim, Verdict]]) -> tuple[list[str], list[list[str]]]:
    """A table of one screen: for each paper, the claims of every verdict that was given."""
    found = {claim.id: one.verdict for claim, one in pairs}
    kinds = [kind for kind in VERDICTS if kind in found.values()]
    lines = [
        [paper, *(' '.join(c.id for c in claims if found.get(c.id) == kind) for kind in kinds)]
        for paper, claims in SECTIONS.items()
    ]
    return ['paper', *kinds], lines


def full(claim: Claim, found: Verdict, experiment: Experiment | None) -> list[tuple[str, str]]:
    """The lines of one claim: what it says, what is found, and how; experiment: that of its rows.

    Raises OSError (a file of the rows cannot be read).
    """
    size, unit = f'{claim.margin or 0:g}', claim.unit
    if claim.compute:
        unit = 'percentage points, of what is trained'
    margin = f'{size} {unit_of(size, unit)}' if claim.margin is not None else 'none: computed'
    commands = [f'python -m experiments.claims {claim.id}'] if claim.compute else []
    behind = []
    if claim.config:
        command = f'python -m experiments.run --config configs/{claim.config}'
        commands.append(experiment and experiment.plan.get('command') or command)
        behind.append(('rows', 'none: not run yet'))
    if experiment:
        covers = f'; the interval covers {found.covers}' if found.covers else ''
        behind = [
            ('seeds', seeds(experiment) + covers),
            ('length', _length(experiment)),
            ('learning rates', _rates(experiment)),
            ('trained', made_on(trained.folder_of(claim.config), experiment)),
            ('rows', _rows(claim.config, experiment)),
        ]
    for config, other in trained.parts(claim).items():
        found_there = [f'python -m experiments.run --config configs/{config}', 'not run yet']
        if other:
            found_there[0] = other.plan.get('command') or found_there[0]
            made = made_on(trained.folder_of(config), other)
            found_there[1:] = [_rows(config, other), other.plan['dataset_note'], made]
        behind.append(('beside', '; '.join(filter(None, found_there))))
    lines = [
        (claim.id, claim.sentence),
        ('correction', claim.correction),
        ('verdict', found.verdict),
        ('found', found.text),
        ('effect', effect(claim, found)),
        ('paper', claim.paper),
        ('measure', claim.measure),
        ('margin', margin),
        ('source', claim.source),
        ('config', claim.config),
        ('command', '; '.join(commands)),
        ('data', found.data or ('none: computed' if claim.compute else '')),
        *behind,
    ]
    return [line for line in lines if line[1]]


def _rows(config: str, experiment: Experiment) -> str:
    return f'{len(experiment.rows)} runs in {trained.place_of(config)}'


def seeds(experiment: Experiment) -> str:
    """'0 to 4 of each arm' of the final runs that finished; by arm where they differ."""
    own = {arm: _span([*finished(experiment, arm)]) for arm in experiment.plan['arms']}
    if len({*own.values()}) == 1:
        return f'{own.popitem()[1]} of each arm'
    usual = max([*own.values()], key=[*own.values()].count)
    others = [f'{arm} {seeds}' for arm, seeds in own.items() if seeds != usual]
    count = len(own) - len(others)
    if count > 2:
        return '; '.join([f'{usual} of {count} arms', *others])
    return '; '.join(f'{arm} {seeds}' for arm, seeds in own.items())


def _length(experiment: Experiment) -> str:
    """'16 epochs, 1,872 steps' of each run; from the shortest to the longest where they differ."""
    return ' to '.join(
        f'{counted(epochs, "epoch")}, {counted(steps, "step")}'
        for steps, epochs in _lengths(experiment)
    )


def _lengths(experiment: Experiment) -> list[tuple[int, int]]:
    """(steps, epochs) of the shortest and of the longest run; one of them where they are alike."""
    rows = [row for row in experiment.rows if row['status'] == 'done' and 'steps' in row]
    lengths = sorted({(row['steps'], row['epochs']) for row in rows})
    return list(dict.fromkeys([*lengths[:1], *lengths[-1:]]))


def _span(seeds: list[int]) -> str:
    if len(seeds) > 2 and seeds == [*range(seeds[0], seeds[-1] + 1)]:
        return f'{seeds[0]} to {seeds[-1]}'
    return ', '.join(map(str, seeds)) or 'none'


def _rates(experiment: Experiment) -> str:
    """'relu 0.01, 0.03*, 0.1; ...': those tried, and which was chosen; '' if none were tried."""
    arms = []
    for arm in experiment.plan['arms']:
        tried = sorted(rates_of(experiment, arm))
        chosen = {row['learning_rate'] for row in arm_rows(experiment, arm, 'final')}
        if len(tried) > 1:
            marked = (f'{rate:g}{"*" * (rate in chosen)}' for rate in tried)
            arms.append(f'{arm} {", ".join(marked)}')
    return f'{"; ".join(arms)} (* chosen)' if arms else ''
