"""The protocol: points declared as loops, checked before any runs, rates chosen on validation."""

import pytest

from experiments import config as configs
from experiments import sweep
from experiments.errors import UserError


def source(loop, **fields):
    from configs import base

    def make():
        config = base.get_config()
        for path, value in fields.items():
            configs.set_field(config, path.replace('__', '.'), value)
        return config

    return configs.Source('made_up', make, loop)


def four_arms(add):
    for pool in ('average', 'max'):
        for overlap in (False, True):
            for seed in range(3):
                add(f'{pool} {overlap}', model=dict(pool=pool, overlap=overlap), seed=seed)


def test_the_sweep_becomes_arms_in_order_with_paired_seeds():
    plan = sweep.plan(source(four_arms))
    assert [arm.label for arm in plan.arms] == ['average False', 'average True', 'max False', 'max True']
    assert {arm.seeds for arm in plan.arms} == {(0, 1, 2)}
    point = plan.finals(plan.arms[3], 0.25)[1]
    assert (point.config.model.pool, point.config.model.overlap) == ('max', True)
    assert (point.config.seed, point.config.train.rate) == (1, 0.25)


def test_selection_tries_every_rate_and_shares_no_name_with_the_final_points():
    plan = sweep.plan(source(four_arms, protocol__rates=(0.1, 0.2), protocol__selection_seeds=(0, 7)))
    trials = plan.selections(plan.arms[0])
    assert [(p.rate, p.seed) for p in trials] == [(0.1, 0), (0.1, 7), (0.2, 0), (0.2, 7)]
    finals = plan.finals(plan.arms[0], 0.1)
    assert not {p.name for p in trials} & {p.name for p in finals}


def test_a_config_without_sweep_is_one_point():
    plan = sweep.plan(source(None))
    assert [(arm.label, arm.seeds) for arm in plan.arms] == [('lenet5', (0,))]


@pytest.mark.parametrize('loop, message', [
    (lambda add: add('a', model=dict(pool='maxx')), "'maxx'"),
    (lambda add: add('a', model=dict(pol='max')), "unknown field 'model.pol'. Did you mean 'model.pool'"),
    (lambda add: [add('a', seed=1), add('a', seed=1)], 'seed 1 twice'),
    (lambda add: [add('a', model=dict(pool='max')), add('a', seed=1)], 'two meanings'),
    (lambda add: [add('a'), add('b')], 'train the same config'),
    (lambda add: [add('a', seed=0), add('b', seed=0, model=dict(pool='average'))],
     'train the same config'),  # 'average' is what the net does anyway
    (lambda add: None, 'adds no point'),
    (lambda add: add(), 'calls add wrongly'),
])
def test_every_point_is_checked_before_the_first_starts(loop, message):
    with pytest.raises(UserError, match=message):
        sweep.plan(source(loop))


def test_the_last_of_many_points_is_checked_too():
    def loop(add):
        four_arms(add)
        add('bad', train=dict(batch=-4))

    with pytest.raises(UserError, match='train.batch is -4'):
        sweep.plan(source(loop))


def test_an_override_that_the_sweep_would_undo_is_refused():
    with pytest.raises(UserError, match=r'--config.model.pool would have no effect.*--only pool='):
        sweep.plan(source(four_arms), [('model.pool', 'max')])
    plan = sweep.plan(source(four_arms), [('train.epochs', '2')])
    assert plan.finals(plan.arms[0], None)[0].config.train.epochs == 2


def test_only_keeps_the_points_that_match():
    plan = sweep.plan(source(four_arms))
    part = sweep.only(plan, 'pool=max,seed=0')
    assert [(arm.label, arm.seeds) for arm in part.arms] == [('max False', (0,)), ('max True', (0,))]
    assert [arm.label for arm in sweep.only(plan, 'overlap=true').arms] == ['average True', 'max True']
    assert sweep.only(plan, '') is plan
    with pytest.raises(UserError, match="unknown key of --only 'pol'. Did you mean 'pool'"):
        sweep.only(plan, 'pol=max')
    with pytest.raises(UserError, match='matches no point'):
        sweep.only(plan, 'seed=9')
    with pytest.raises(UserError, match='key=value'):
        sweep.only(plan, 'max')


def rows(points, errors, losses=(1,) * 6):
    return {p.name: {'status': 'done' if e is not None else 'diverged', 'validation/error': e,
                     'validation/loss': loss, 'test/error': 1 - (e or 0)}
            for p, e, loss in zip(points, errors, losses)}


def test_the_rate_is_chosen_by_mean_validation_error():
    plan = sweep.plan(source(four_arms, protocol__rates=(0.1, 0.2, 0.3),
                             protocol__selection_seeds=(8, 9)))
    points = plan.selections(plan.arms[0])
    # means 0.20, 0.15, 0.175: the best single trial (0.05 at rate 0.3) does not win
    assert sweep.choose_rate(points, rows(points, [.2, .2, .1, .2, .05, .3])) == 0.2
    assert sweep.choose_rate(points, rows(points, [.2, .2, .2, .2, .3, .3])) == 0.1  # tie: the lower
    assert sweep.choose_rate(points, rows(points, [.2] * 6, [3, 3, 2, 1, 2, 2])) == 0.2  # the loss
    assert sweep.choose_rate(points, rows(points, [.3, .3, .1, None, .4, .4])) == 0.1  # diverged: out
    assert sweep.choose_rate(points, rows(points, [None] * 6)) is None
