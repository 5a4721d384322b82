"""The protocol: runs declared as loops, all checked before the first, learning rates chosen on
validation."""

import numpy as np
import pytest

from configs import base
from experiments.errors import UserError
from experiments.plan import config as configs
from experiments.plan import runs


def config_file(loop, **fields):

    def make():
        config = base.get_config()
        for path, value in fields.items():
            configs.set_field(config, path.replace('__', '.'), value)
        return config

    return configs.ConfigFile('made_up', make, loop)


def four_arms(add):
    for pool in ('average', 'max'):
        for overlap in (False, True):
            for seed in range(3):
                add(f'{pool} {overlap}', model=dict(pool=pool, overlap=overlap), seed=seed)


def test_a_sweep_becomes_arms_in_order_with_paired_seeds():
    plan = runs.plan_of(config_file(four_arms))
    assert [arm.label for arm in plan.arms] == [
        'average False',
        'average True',
        'max False',
        'max True',
    ]
    assert {arm.seeds for arm in plan.arms} == {(0, 1, 2)}
    run = plan.finals(plan.arms[3], 0.25)[1]
    assert (run.config.model.pool, run.config.model.overlap) == ('max', True)
    assert (run.config.seed, run.config.train.rate) == (1, 0.25)


def test_trials_try_every_learning_rate_and_share_no_name_with_the_final_runs():
    plan = runs.plan_of(
        config_file(four_arms, protocol__rates=(0.1, 0.2), protocol__selection_seeds=(0, 7))
    )
    trials = plan.trials(plan.arms[0])
    assert [(run.learning_rate, run.seed) for run in trials] == [
        (0.1, 0),
        (0.1, 7),
        (0.2, 0),
        (0.2, 7),
    ]
    finals = plan.finals(plan.arms[0], 0.1)
    assert not {run.name for run in trials} & {run.name for run in finals}


def test_epochs_that_would_have_no_effect_are_refused():
    steps = config_file(None, train__steps=100)
    with pytest.raises(
        UserError, match='train.epochs would have no effect.*read with train.steps=0'
    ):
        runs.plan_of(steps, [('train.epochs', '2')])
    made = runs.plan_of(steps, [('train.steps', '0'), ('train.epochs', '2')])
    assert (made.config.train.steps, made.config.train.epochs) == (0, 2)
    arm = config_file(lambda add: add('a', train=dict(epochs=3)), train__steps=100)
    with pytest.raises(UserError, match="arm 'a' sets train.epochs, which would have no effect"):
        runs.plan_of(arm)
    runs.plan_of(config_file(lambda add: add('a', train=dict(epochs=3, steps=0)), train__steps=100))


def test_a_config_without_sweep_is_one_run():
    plan = runs.plan_of(config_file(None))
    assert [(arm.label, arm.seeds) for arm in plan.arms] == [('lenet5', (0,))]


@pytest.mark.parametrize(
    'loop, message',
    [
        (lambda add: add('a', model=dict(pool='maxx')), "'maxx'"),
        (
            lambda add: add('a', model=dict(pol='max')),
            "unknown field 'model.pol'. Did you mean 'model.pool'",
        ),
        (lambda add: [add('a', seed=1), add('a', seed=1)], 'seed 1 twice'),
        (lambda add: [add('a', model=dict(pool='max')), add('a', seed=1)], 'two meanings'),
        (lambda add: [add('a'), add('b')], 'train the same config'),
        (
            lambda add: [add('a', seed=0), add('b', seed=0, model=dict(pool='average'))],
            'train the same config',
        ),  # 'average' is what the net does anyway
        (lambda add: None, 'adds no run'),
        (lambda add: add(), 'calls add wrongly'),
        (lambda add: 1 / 0, 'fails: ZeroDivisionError: division by zero'),
        (lambda add: add(3), 'labelled 3: a label is a line of text'),
        (lambda add: add(' '), 'a label is a line of text'),
        (lambda add: add('a\x1b[31m\nb'), 'a label is a line of text'),
        (lambda add: add('a', seed=1.5), "'seed' takes a whole number"),
        (lambda add: add('a', seed=True), "'seed' takes a whole number"),
        (lambda add: add('a', model='max'), "'model' is a group"),
        (lambda add: add('a', protocol=dict(rates=(0.1,))), 'common to all arms'),
    ],
)
def test_every_run_is_checked_before_the_first_starts(loop, message):
    with pytest.raises(UserError, match=message):
        runs.plan_of(config_file(loop))


def test_a_title_that_no_plan_could_hold_is_refused_before_the_first_run():
    with pytest.raises(UserError, match=r"title is 'a\\nb', it must be one line of text"):
        runs.plan_of(config_file(four_arms), [('title', 'a\nb')])


def test_the_last_of_many_runs_is_checked_too():
    def loop(add):
        four_arms(add)
        add('bad', train=dict(batch=-4))

    with pytest.raises(UserError, match='train.batch is -4'):
        runs.plan_of(config_file(loop))


def test_an_override_that_the_sweep_would_undo_is_refused():
    with pytest.raises(UserError, match=r'--config.model.pool would have no effect.*--only pool='):
        runs.plan_of(config_file(four_arms), [('model.pool', 'max')])
    plan = runs.plan_of(config_file(four_arms), [('train.epochs', '2')])
    assert plan.arms[0].config.train.epochs == 2


def test_only_keeps_the_runs_that_match():
    plan = runs.plan_of(config_file(four_arms))
    kept = runs.only(plan, 'pool=max,seed=0')
    assert [(arm.label, arm.seeds) for arm in kept.arms] == [
        ('max False', (0,)),
        ('max True', (0,)),
    ]
    assert [arm.label for arm in runs.only(plan, 'overlap=true').arms] == [
        'average True',
        'max True',
    ]
    assert runs.only(plan, '') is plan
    with pytest.raises(UserError, match="unknown key of --only 'pol'. Did you mean 'pool'"):
        runs.only(plan, 'pol=max')
    with pytest.raises(UserError, match='matches no run'):
        runs.only(plan, 'seed=9')
    with pytest.raises(UserError, match='key=value'):
        runs.only(plan, 'max')


def test_only_keeps_the_runs_of_a_phase():
    plan = runs.plan_of(config_file(four_arms, protocol__rates=(0.1, 0.2)))
    trials, finals = runs.only(plan, 'phase=select'), runs.only(plan, 'pool=max,phase=final')
    assert [run.phase for run in trials.runs()] == ['select'] * trials.size == ['select'] * 8
    assert [run.phase for run in finals.runs()] == ['final'] * finals.size == ['final'] * 6
    with pytest.raises(UserError, match="unknown phase of --only 'finals'. Did you mean 'final'"):
        runs.only(plan, 'phase=finals')
    for text in ('phase=select,phase=final', 'phase=select'):
        with pytest.raises(UserError, match='matches no run'):
            runs.only(runs.plan_of(config_file(four_arms)), text)


def rows(made, errors, losses=(1,) * 6):
    return {
        run.name: {
            'status': 'done' if e is not None else 'diverged',
            'validation/error': e,
            'validation/loss': loss,
            'test/error': 1 - (e or 0),
        }
        for run, e, loss in zip(made, errors, losses)
    }


def test_the_learning_rate_is_chosen_by_mean_validation_error():
    plan = runs.plan_of(
        config_file(four_arms, protocol__rates=(0.1, 0.2, 0.3), protocol__selection_seeds=(8, 9))
    )
    trials = plan.trials(plan.arms[0])
    # means 0.20, 0.15, 0.175: the best single trial (0.05 at learning rate 0.3) does not win
    assert runs.choose_learning_rate(trials, rows(trials, [0.2, 0.2, 0.1, 0.2, 0.05, 0.3])) == 0.2
    assert (
        runs.choose_learning_rate(trials, rows(trials, [0.2, 0.2, 0.2, 0.2, 0.3, 0.3])) == 0.1
    )  # tie: the lower
    assert (
        runs.choose_learning_rate(trials, rows(trials, [0.2] * 6, [3, 3, 2, 1, 2, 2])) == 0.2
    )  # the loss
    assert (
        runs.choose_learning_rate(trials, rows(trials, [0.3, 0.3, 0.1, None, 0.4, 0.4])) == 0.1
    )  # diverged: out
    assert runs.choose_learning_rate(trials, rows(trials, [None] * 6)) is None


def test_a_learning_rate_that_the_grid_would_undo_is_refused():
    grid = config_file(four_arms, protocol__rates=(0.1, 0.2))
    with pytest.raises(UserError, match='--config.train.rate would have no effect.*protocol.rates'):
        runs.plan_of(grid, [('train.rate', '0.5')])
    with pytest.raises(UserError, match="arm 'a' sets train.rate, which would have no effect"):
        runs.plan_of(
            config_file(lambda add: add('a', train=dict(rate=0.5)), protocol__rates=(0.1, 0.2))
        )
    plan = runs.plan_of(config_file(lambda add: add('a', train=dict(rate=0.5))))
    assert plan.finals(plan.arms[0])[0].learning_rate == 0.5


def test_a_learning_rate_not_chosen_yet_is_none():
    plan = runs.plan_of(
        config_file(four_arms, protocol__rates=(0.05, 0.2))
    )  # 0.05: the config's own too
    (unknown,) = {run.learning_rate for run in plan.finals(plan.arms[0])}
    assert unknown is None
    names = lambda rate: {run.name for run in plan.finals(plan.arms[0], rate)}
    assert not names(None) & (names(0.05) | names(0.2))


def test_seeds_of_numpy_are_seeds():
    plan = runs.plan_of(config_file(lambda add: [add('a', seed=seed) for seed in np.arange(2)]))
    assert plan.arms[0].seeds == (0, 1) and type(plan.arms[0].seeds[0]) is int


def test_only_matches_resolved_values_by_whole_or_last_name():
    def loop(add):
        add('plain')
        add('max', model=dict(pool='max'), train=dict(rate=0.1))
        add('limit', data=dict(limit=100), model=dict(name='lenet5_1998'))

    plan = runs.plan_of(config_file(loop))
    labels = lambda text: [arm.label for arm in runs.only(plan, text).arms]
    assert labels('pool=average') == ['plain']  # the net's own choice; the 1998 net has none
    assert labels('model.pool=max') == ['max'] and labels('rate=1e-1') == ['max']
    assert labels('limit=100') == ['limit'] and labels('name=lenet5') == ['plain', 'max']
    for text in ('=', ',', 'pool=', 'seed=0,', 'rate=x', 'seed=0,seed=1'):
        with pytest.raises(UserError, match='--only'):
            runs.only(plan, text)


def test_a_title_says_what_is_compared_in_which_net_on_which_data():
    title = lambda loop, *assigned, **fields: (
        runs.plan_of(config_file(loop, **fields), assigned).title
    )
    assert title(four_arms) == 'pool and overlap in lenet5 on digits'
    assert title(None) == 'lenet5 on digits'
    nets = lambda add: [add(name, model=dict(name=name)) for name in ('lenet5', 'mlp_300')]
    assert title(nets, ('data.name', 'folder:/home/me/dogs/')) == 'lenet5, mlp_300 on folder:dogs'


def test_the_title_of_a_file_does_not_outlive_its_net_and_data():
    title = lambda *assigned: (
        runs.plan_of(config_file(None, title='LeNet-5 on digits'), assigned).title
    )
    assert title(('train.epochs', '3')) == 'LeNet-5 on digits'
    assert title(('data.name', 'mnist')) == 'lenet5 on mnist'
    assert title(('model.name', 'mlp_300'), ('data.name', 'mnist')) == 'mlp_300 on mnist'
    assert title(('model.name', 'mlp_300'), ('title', 'My own')) == 'My own'


def two_rules(add):
    add('momentum', rates=(0.1, 0.2), train=dict(momentum=0.9))
    for seed in range(2):
        add('plain', seed=seed, train=dict(momentum=0.0))


def test_an_arm_can_have_learning_rates_of_its_own_that_rename_no_run():
    own = runs.plan_of(config_file(two_rules, protocol__rates=(0.2, 0.4)))
    assert [arm.learning_rates for arm in own.arms] == [(0.1, 0.2), (0.2, 0.4)]
    assert own.learning_rates == (0.1, 0.2, 0.4) and own.size == 2 + 1 + 2 + 2
    assert [run.learning_rate for run in own.trials(own.arms[0])] == [0.1, 0.2]
    shared = lambda add: two_rules(lambda *words, rates=None, **fields: add(*words, **fields))
    common = runs.plan_of(config_file(shared, protocol__rates=(0.2, 0.4)))
    names = lambda plan, arm: {run.learning_rate: run.name for run in plan.trials(plan.arms[arm])}
    assert names(own, 0)[0.2] == names(common, 0)[0.2] and names(own, 1) == names(common, 1)


def test_an_arm_can_be_without_a_grid_beside_one_that_has_one():
    loop = lambda add: [add('a', train=dict(rate=0.5), rates=()), add('b', rates=(0.1, 0.2))]
    plan = runs.plan_of(config_file(loop, protocol__rates=(1.0, 2.0)))
    assert [(run.arm, run.phase, run.learning_rate) for run in plan.runs()] == [
        ('a', 'final', 0.5),
        ('b', 'select', 0.1),
        ('b', 'select', 0.2),
        ('b', 'final', None),
    ]


def test_learning_rates_of_the_command_line_and_of_smoke_are_those_of_every_arm():
    asked = runs.plan_of(config_file(two_rules), [('protocol.rates', '0.3')])
    assert {arm.learning_rates for arm in asked.arms} == {(0.3,)}
    small = runs.plan_of(config_file(two_rules)._replace(small=True))
    assert {arm.learning_rates for arm in small.arms} == {()}


@pytest.mark.parametrize(
    'loop, message',
    [
        (lambda add: [add('a', rates=(0.1,)), add('a', seed=1)], 'two meanings: .0.1,. and None'),
        (lambda add: add('a', rates=(0.1, -1)), 'a learning rate is -1'),
        (lambda add: add('a', rates=(0.1, 0.1)), 'names a learning rate twice'),
        (lambda add: add('a', rates=0.1), 'add wrongly .*not iterable'),
        (lambda add: add('a', rates=(0.1,), train=dict(rate=1.0)), 'train.rate.*no effect'),
    ],
)
def test_wrong_learning_rates_of_an_arm_are_named(loop, message):
    with pytest.raises(UserError, match=message):
        runs.plan_of(config_file(loop))


# --- widening, and the criterion of steps ----------------------------------------------------


@pytest.mark.parametrize(
    'rates, chosen, wanted',
    [
        ((0.01, 0.03, 0.1), 0.1, 0.3),
        ((0.01, 0.03, 0.1), 0.01, 0.003),
        ((0.01, 0.03, 0.1), 0.03, None),
        ((0.03, 0.1, 0.3), 0.3, 1.0),
        ((0.1, 0.3, 1.0), 0.1, 0.03),
        ((0.1, 0.2), 0.2, 0.4),
        ((0.1, 0.2), 0.1, 0.05),
        ((0.2, 0.1, 0.4), 0.4, 0.8),
        ((0.01, 0.03, 0.1), None, None),
    ],
)
def test_a_grid_goes_on_by_its_own_steps_beyond_the_edge_that_won(rates, chosen, wanted):
    assert runs.wider(rates, chosen) == (pytest.approx(wanted) if wanted else None)


def widened(widen, rates=(0.01, 0.03, 0.1), **fields):
    def make():
        config = base.get_config()
        config.protocol.rates = rates
        config.protocol.widen = widen
        for field, value in fields.items():
            configs.set_field(config, field.replace('__', '.'), value)
        return config

    return runs.plan_of(configs.ConfigFile('x', make, None))


def rates_tried(plan, best):
    """Learning rates of all trials, where the error is lower the closer they are to `best`."""
    rows, count = {}, -1
    while len(rows) > count:  # as the runner does: all trials that are known, then the next
        count = len(rows)
        for run in plan.trials(plan.arms[0], rows):
            error = abs(np.log(run.learning_rate / best)) / 100
            row = {'status': 'done', 'validation/error': error, 'validation/loss': error}
            rows[run.name] = row
    return list(dict.fromkeys(run.learning_rate for run in plan.trials(plan.arms[0], rows)))


def test_the_grid_widens_while_its_edge_wins_and_at_most_as_often_as_asked():
    assert rates_tried(widened(2), best=0.03) == [0.01, 0.03, 0.1]
    assert rates_tried(widened(2), best=0.3) == [0.01, 0.03, 0.1, 0.3, 1.0]
    assert rates_tried(widened(1), best=9.0) == [0.01, 0.03, 0.1, 0.3]
    assert rates_tried(widened(2), best=0.002) == pytest.approx([0.01, 0.03, 0.1, 0.003, 0.001])
    assert rates_tried(widened(0), best=9.0) == [0.01, 0.03, 0.1]


def test_widening_changes_no_name():
    name = lambda plan: [run.name for run in plan.trials(plan.arms[0])]
    assert name(widened(2)) == name(widened(0))


def test_steps_to_an_error_are_those_of_the_middle_of_the_first_epoch_at_or_below_it():
    errors = (0.9, 0.5, 0.3, 0.1, 0.2, 0.3)  # two points an epoch
    curve = [[10 * (place + 1), error] for place, error in enumerate(errors)]
    row = {'epochs': 3, 'train/curve': curve}
    assert runs.steps_to_error(row, 0.7) == 10  # of steps 0 to 20, whose mean it is
    assert runs.steps_to_error(row, 0.4) == 20
    # the mean over one epoch falls from 0.7 at 10 to 0.4 at 20, on a straight line
    assert runs.steps_to_error(row, 0.55) == pytest.approx(15)
    assert runs.steps_to_error(row, 0.2) == 30  # though the point at 40 is the first at 0.1
    assert runs.steps_to_error(row, 0.1) is None
    uneven = {'epochs': 1, 'train/curve': [[10, 0.9], [40, 0.1]]}
    assert runs.steps_to_error(uneven, 0.3) == 20  # (10 x 0.9 + 30 x 0.1) / 40
    assert runs.steps_to_error(uneven, 0.29) is None
    single = {'epochs': 1, 'train/curve': [[6, 0.4]]}  # 6 x 0.4 / 6 is more than 0.4
    assert runs.steps_to_error(single, 0.4) == 3


def test_the_rise_of_the_error_inside_an_epoch_moves_no_crossing():
    fall = [0.5 - 0.01 * place for place in range(40)]
    times = []
    for teeth in (0.0, 0.02):  # lower by that in the first half of every epoch of four points
        errors = [error + teeth * (-1 if place % 4 < 2 else 1) for place, error in enumerate(fall)]
        curve = [[place + 1, error] for place, error in enumerate(errors)]
        times.append(runs.steps_to_error({'epochs': 10, 'train/curve': curve}, 0.25))
    assert times[0] == times[1]


def test_the_fastest_learning_rate_is_chosen_and_one_that_never_gets_there_comes_last():
    plan = widened(0, train__curve=4, protocol__criterion='steps_to_error')
    trials, protocol = plan.trials(plan.arms[0]), plan.config.protocol

    def rows(*steps):
        """One trial of each rate: steps until 25 % training error, and its validation error."""
        return {
            run.name: {
                'status': 'done',
                'steps': 100,
                'validation/error': 0.1 * place,
                'validation/loss': 1,
                'epochs': 2,
                'train/curve': [[10, 0.9], [step or 100, 0.2 if step else 0.5]],
            }
            for place, (run, step) in enumerate(zip(trials, steps))
        }

    choose = lambda *steps: runs.choose_learning_rate(trials, rows(*steps), protocol)
    assert choose(90, 40, 60) == 0.03
    assert choose(None, None, 95) == 0.1
    assert choose(None, None, None) == 0.01  # then the validation error decides
    assert choose(50, 50, 60) == 0.01
    assert runs.choose_learning_rate(trials, rows(90, 40, 60)) == 0.01  # by validation error


@pytest.mark.parametrize(
    'fields, words',
    [
        (dict(protocol__criterion='steps_to_error'), 'Set train.curve'),
        (dict(protocol__criterion='speed'), 'value of protocol.criterion'),
        (dict(protocol__rates=(0.1,)), 'no step to take'),
    ],
)
def test_a_protocol_that_cannot_work_is_an_error(fields, words):
    with pytest.raises(UserError, match=words):
        widened(2, **fields)
