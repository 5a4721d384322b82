"""The benchmark's cases are configs that train, and their work is that of the papers' tables."""

import pytest

import cnns
from experiments.benchmark.cases import CASES, KNOWN, chosen, config_of, dataset_of, work_of
from experiments.errors import UserError
from experiments.plan.checks import resolve
from experiments.plan.config import fields_of


def test_the_work_of_lenet5_is_that_of_its_table():
    first = 28 * 28 * 6 * 25
    macs = first + 10 * 10 * 16 * 150 + 120 * 400 + 120 * 84 + 84 * 10
    work = work_of(CASES['lenet5'])
    assert work.macs == macs and work.infer == 2 * macs
    # forward, weights, inputs; the input of the first layer is the image
    assert work.train == 2 * (macs + macs + macs - first)
    assert work.parameters == 61_706


@pytest.mark.parametrize('name', CASES)
def test_every_case_is_a_config_that_trains_and_full_batches_of_images(name):
    case = CASES[name]
    config = config_of(case, devices=1)
    resolve(config)
    assert fields_of(config) == case.fields
    assert fields_of(config_of(case, fast=False)) == case.fields | {'fast': False}
    small = case._replace(side=0)
    dataset = dataset_of(small)
    assert dataset.train.images.shape[1:] == case.input and len(dataset.classes) == case.classes
    assert len(dataset.train.labels) % case.batch == 0 and len(dataset.train.labels) >= case.batch


def test_cases_cover_the_poolings_of_the_four_layer_net():
    found = {
        (case.fields['pool'], case.fields['overlap'])
        for case in CASES.values()
        if 'pool' in case.fields
    }
    assert found == {(kind, overlap) for kind in ('average', 'max') for overlap in (False, True)}


def test_a_wrong_name_is_one_line_with_the_nearest(benchmark):
    code, out, err = benchmark('lenet')
    assert code == 2 and not out
    assert err.count('\n') == 1 and "'lenet'" in err and "'lenet5'" in err
    with pytest.raises(UserError, match='four_layer_batch'):
        chosen(['four_layer_batchnorm'])
    assert list(chosen(['resnet20', 'lenet5'], 7)) == ['lenet5', 'resnet20']
    assert chosen(['lenet5'], 7)['lenet5'].batch == 7


def test_the_name_nets_measures_every_class_of_net_in_each_of_its_forms():
    found = chosen(['nets'])
    assert found == KNOWN and list(chosen([])) == list(CASES)
    nets = {case.net for case in found.values()}
    assert {cnns.NETS[name].net for name in nets} == {entry.net for entry in cnns.NETS.values()}
    assert {'cuda_convnet_13pct', 'cuda_convnet_11pct', 'lenet5_1998', 'plain50'} <= nets
    assert 'resnet1202' not in nets  # resnet20's code
