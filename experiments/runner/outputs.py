"""What ends an experiment: the table and sentences, the CSV file, the figure and the page."""

import sys
import warnings

from rich.console import Console

from experiments.plan.runs import FINAL
from experiments.report import figures, page, result_table
from experiments.report.sentences import sentences
from experiments.report.summary import summarise
from experiments.workdir import WorkDir, load


def write(workdir: WorkDir, console: Console) -> None:
    """Prints the table and the sentences; writes CSV, figure and page."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # damaged lines were named when the folder was opened
        experiment = load(workdir.folder)
        summary = summarise(experiment)
        console.print(result_table.terminal(summary))
        for sentence in sentences(summary):
            console.print(sentence, highlight=False, markup=False, soft_wrap=True)
        try:
            result_table.write_csv(workdir.folder / 'results.csv', summary)
            drawn = figures.write(experiment, workdir.folder / 'figure')
            paths = [workdir.folder / 'results.csv', *drawn, page.write(workdir.folder)]
        except OSError as error:
            workdir.fail(error)
        written = ', '.join(map(str, paths))
        console.print(f'written: {written}', highlight=False, soft_wrap=True)


def status(bad: list[dict]) -> int:
    """The exit status of runs with these rows that are not done, after naming them: 1 if any final
    run is among them or any failed. A learning rate may be too high: that is what a grid is for."""
    for row in bad:
        rate = '' if row['learning_rate'] is None else f', rate {row["learning_rate"]:g}'
        print(
            f'{row["status"]}: {row["arm"]} ({row["phase"]}, seed {row["seed"]}{rate}): '
            f'{row["reason"]}',
            file=sys.stderr,
        )
    return int(any(row['phase'] == FINAL or row['status'] == 'failed' for row in bad))
