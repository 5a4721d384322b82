"""A work directory is read as its plan says, or named as none."""

import json

import pytest
from rows import row

from experiments import files
from experiments import workdir as workdirs
from experiments.errors import UserError

PLAN = {
    'title': 't',
    'dataset_note': 'd',
    'arms': ['average'],
    'seeds': [0],
    'rates': [],
    'level': 0.95,
    'points': ['average-final-0-0.1'],
}


def test_loading_keeps_the_last_row_of_each_run_of_the_plan(tmp_path):
    (tmp_path / 'plan.json').write_text(json.dumps(PLAN))
    for one in (
        row('average', 0, 0, 'failed'),
        row('average', 7, 0.5),
        row('average', 0, 0.25),
        {'no': 'point'},
    ):
        files.append(tmp_path / 'results.jsonl', one)
    folder = tmp_path / 'points' / PLAN['points'][0]
    folder.mkdir(parents=True)
    for epoch, value in ((1, 0.9), (2, 0.8), (1, 0.7)):  # started over: the later line counts
        files.append(folder / 'metrics.jsonl', {'epoch': epoch, 'validation/error': value})
    with pytest.warns(UserWarning, match='a row without point, arm'):
        loaded = workdirs.read_experiment(tmp_path)
    assert [one['test/error'] for one in loaded.rows] == [0.25]
    assert [line['validation/error'] for line in loaded.curves[PLAN['points'][0]]] == [0.7, 0.8]


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'no plan.json'),
        ('{', 'is not JSON'),
        ('[]', 'lacks title'),
        (json.dumps({**PLAN, 'arms': []}), 'names no arm'),
        (json.dumps({k: v for k, v in PLAN.items() if k != 'level'}), 'lacks level'),
    ],
)
def test_a_folder_without_a_usable_plan_is_an_error_that_says_what_to_do(
    tmp_path, content, message
):
    if content is not None:
        (tmp_path / 'plan.json').write_text(content)
    with pytest.raises(UserError, match=f'(?s){message}.*(give the work directory|run the exp)'):
        workdirs.read_experiment(tmp_path)
