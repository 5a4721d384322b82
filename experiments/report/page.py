"""The report of an experiment: one HTML file that needs nothing else, no network and no scripts.

    python -m experiments.report WORKDIR [--markdown]

writes WORKDIR/report.html from the stored rows: what they support, table, figure, protocol, data,
environment, resolved config, failures. With --markdown it prints table and sentences instead.
"""

import argparse
import contextlib
import json
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from experiments import schema, style
from experiments.errors import command
from experiments.files import write_whole
from experiments.report import figures, result_table
from experiments.report.sentences import notes, sentences, top5_notes
from experiments.report.summary import arm_rows, column, rates_of, summarise
from experiments.workdir import Experiment, read_experiment

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: 0.25rem 0.9rem 0.25rem 0; white-space: nowrap;
  border-bottom: 1px solid #8886; font-variant-numeric: tabular-nums; }
.notes { color: #777; font-size: 0.85rem; }
figure { margin: 0; background: white; border-radius: 6px; }
figure svg { display: block; width: 100%; min-width: 44rem; height: auto; }
code, pre { font-size: 0.85rem; overflow-wrap: anywhere; white-space: pre-wrap; }
"""


def _html_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """HTML table of escaped strings; the first column heads its row."""
    head = ''.join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    lines = [f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>']
    for first, *others in rows:
        cells = ''.join(f'<td>{escape(cell)}</td>' for cell in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return '\n'.join(lines) + '</tbody></table></div>'


def _html_list(texts: Iterable[str]) -> str:
    """HTML list of escaped strings."""
    return '<ul>' + '\n'.join(f'<li>{escape(text)}</li>' for text in texts) + '</ul>'


def _figure(experiment: Experiment) -> str:
    """The figure as an svg element, without what only an SVG file needs."""
    text = style.svg(figures.render(experiment))
    text = re.sub(r'<metadata>.*?</metadata>', '', text[text.index('<svg') :], flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', '', text)  # HTML knows the namespaces of svg
    label = f'Learning curves, test error and paired differences: {experiment.plan["title"]}'
    text = text.replace('<svg', f'<svg role="img" aria-label="{escape(label)}"', 1)
    return f'<figure class="wide">{text}</figure>'


def _selection(experiment: Experiment, summary: list[dict[str, Any]]) -> str:
    """How the learning rate was chosen: the validation errors of all that were tried."""
    rates = sorted(experiment.plan['rates'])
    trials = [row for row in experiment.rows if row['phase'] == 'select']
    if len(rates) < 2:
        used = sorted({*rates, *(arm['learning_rate'] for arm in summary)} - {None})
        words = ', '.join(f'{rate:g}' for rate in used) or 'not known before the first run'
        return f'<p>Learning rate: {words}; none was selected.</p>'
    lines = []
    for arm in summary:
        line = [arm['arm']]
        for rate in rates:
            found = [
                row for row in trials if (row['arm'], row['learning_rate']) == (arm['arm'], rate)
            ]
            errors = [row['validation/error'] for row in found if row['status'] == 'done']
            cell = [f'{100 * statistics.mean(errors):.2f}'] if errors else []
            cell += sorted({row['status'] for row in found} - {'done'})
            chosen = ' (chosen)' if rate == arm['learning_rate'] else ''
            empty = 'not run' if rate in rates_of(experiment, arm['arm']) else '-'
            line.append((', '.join(cell) or empty) + chosen)
        lines.append(line)
    seeds = ', '.join(map(str, sorted({row['seed'] for row in trials}))) or 'none yet'
    return (
        '<p>The learning rate was chosen for each arm by its validation error at the end of '
        f'training (seeds: {escape(seeds)}), in percent:</p>'
        + _html_table(['arm', *(f'rate {rate:g}' for rate in rates)], lines)
    )


def _protocol(experiment: Experiment, summary: list[dict[str, Any]]) -> str:
    """The number of final runs, their seeds, and when the test images are read."""
    plan = experiment.plan
    seeds = ', '.join(map(str, plan['seeds']))
    final = [row for row in experiment.rows if row['phase'] == 'final']
    planned = sum(arm['seeds_expected'] for arm in summary)
    return (
        _selection(experiment, summary)
        + f'<p>Every arm is trained at its learning rate with the seeds {escape(seeds)}; a seed '
        'gives all arms the same data order. The test images are read once, at the end of a final '
        f'run; no epoch is picked. {len(final)} of {planned} final runs have ended.</p>'
    )


def _stored(workdir: Path, experiment: Experiment, name: str) -> dict[str, Any]:
    """A JSON file of the first run that has it; the final runs of the baseline come first."""
    baseline = arm_rows(experiment, experiment.plan['arms'][0], 'final')
    for row in baseline + experiment.rows:
        with contextlib.suppress(OSError, ValueError):
            found = schema.parse((workdir / 'points' / row['point'] / name).read_bytes())
            if isinstance(found, dict):
                return found
    return {}


def write(workdir: str | os.PathLike) -> Path:
    """Writes report.html into a work directory and returns its path.

    Raises UserError (not a work directory of an experiment), OSError (disk full, read-only).
    """
    workdir = Path(workdir)
    experiment = read_experiment(workdir)
    plan, summary = experiment.plan, summarise(experiment)
    parameters = sorted(set(column(summary, 'parameters')))
    net = plan.get('model', '') + ''.join(f', {count:,} parameters' for count in parameters)
    failures = [f'{arm["arm"]}: {failure}' for arm in summary for failure in arm['failures']]
    findings = sentences(summary) or ['One arm: nothing to compare.']
    stored = _stored(workdir, experiment, 'environment.json')
    environment = [(key, str(value)) for key, value in sorted(stored.items())]
    config = _stored(workdir, experiment, 'config.json')
    body = [
        f'<h1>{escape(plan["title"])}</h1>',
        f'<p>{escape(net)}; {escape(plan.get("dataset", ""))}. Made by '
        f'<code>{escape(plan.get("command", ""))}</code></p>',
        '<h2>What the runs support</h2>',
        _html_list(findings),
        '<h2>Table</h2>',
        _html_table(result_table.HEADINGS, result_table.cells(summary)),
        '<div class="notes">',
        _html_list(note for note in notes(summary) + top5_notes(summary) if note not in failures),
        '</div>',
        '<h2>Figure</h2>',
        _figure(experiment),
        '<h2>Protocol</h2>',
        _protocol(experiment, summary),
        '<h2>Data</h2>',
        f'<p>{escape(plan["dataset_note"])}</p>',
        '<h2>Failures</h2>',
        _html_list(failures) if failures else '<p>None.</p>',
        '<h2>Environment</h2>',
        _html_table(('what', 'value'), environment) if environment else '<p>None stored.</p>',
        '<details><summary>Resolved config of a run of the baseline</summary>',
        f'<pre>{escape(json.dumps(config, indent=2, sort_keys=True))}</pre></details>',
    ]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(plan["title"])}</title><style>{STYLE}</style></head>\n<body>\n'
        + '\n'.join(body)
        + '\n</body></html>\n'
    )
    path = workdir / 'report.html'
    write_whole(path, page)
    return path


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m experiments.report',
        description='Writes WORKDIR/report.html from the stored rows of an experiment.',
    )
    parser.add_argument('workdir', help='work directory of an experiment')
    parser.add_argument(
        '--markdown',
        action='store_true',
        help='print the table and what it supports as Markdown; write nothing',
    )
    args = parser.parse_args(argv)
    if args.markdown:
        print(result_table.markdown(summarise(read_experiment(args.workdir))), end='')
    else:
        print(write(args.workdir))
    return 0
