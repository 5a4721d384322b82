"""The report of an experiment: one HTML file that needs nothing else, no network and no scripts.

    python -m experiments.report WORKDIR [WORKDIR ...] [--out DIR] [--markdown]

writes report.html from the stored rows: what they support, table, figure, protocol, data,
environment, resolved config, failures. Several work directories are compared: their table is
printed, and written to DIR as results.csv beside the page. With --markdown the command prints table
and sentences instead.
"""

import contextlib
import html
import json
import os
import statistics
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments import schema, style, tables
from experiments.errors import UserError, check_writable, command, counted, printable
from experiments.files import write_whole
from experiments.options import Parser
from experiments.plan.runs import steps_to_error
from experiments.progress import note
from experiments.report import compare, figures, result_table
from experiments.report.sentences import notes, sentences, top5_notes
from experiments.report.summary import arm_rows, column, drawn, rates_of, summarise
from experiments.workdir import Experiment, folder_of, read_experiment

# On a phone, each row of a table becomes a block with a line for each cell
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--c000000); background: var(--cffffff); overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p, li, pre { max-width: 50rem; } ul { padding-left: 1.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: 0.25rem 1.2rem 0.25rem 0; white-space: nowrap;
  border-bottom: 1px solid #8886; font-variant-numeric: tabular-nums; }
tbody th { white-space: normal; min-width: 10rem; }
.texts td { white-space: normal; overflow-wrap: anywhere; }
.notes { color: var(--c666666); font-size: 0.9rem; }
.key { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0.2rem 1.5rem; }
.key li { max-width: none; padding-left: 1.9rem; text-indent: -1.9rem; }
.key span { display: inline-block; width: 1.4rem; height: 0.3rem; margin-right: 0.5rem;
  vertical-align: middle; }
.panels { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
figure { margin: 0; max-width: 26rem; } figcaption { font-weight: 600; }
figure svg { display: block; width: 100%; height: auto; fill: var(--c000000); }
code, pre { font-size: 0.85rem; overflow-wrap: anywhere; white-space: pre-wrap; }
@media (max-width: 52rem) {
  table:not(.pairs), table:not(.pairs) :is(tbody, tr, th) { display: block; }
  table:not(.pairs) thead { display: none; }
  table:not(.pairs) tr { border-bottom: 1px solid #8886; padding: 0.5rem 0; }
  table:not(.pairs) :is(th, td) { border: 0; padding: 0.1rem 0; white-space: normal;
    overflow-wrap: anywhere; }
  table:not(.pairs) td { display: flex; justify-content: space-between; gap: 1rem; }
  table:not(.pairs) td::before { content: attr(data-heading); color: var(--c666666); }
}
"""


def escape(text: str) -> str:
    """The text as HTML shows it, in one line."""
    return html.escape(printable(text))


def html_table(headings: Sequence[str], rows: Iterable[Sequence[str]], texts: bool = False) -> str:
    """HTML table of escaped strings; the first column heads its row. texts: cells may be broken."""
    head = ''.join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    kind = ' class="texts pairs"' if len(headings) == 2 else ' class="texts"' if texts else ''
    lines = [f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead><tbody>']
    for first, *others in rows:
        cells = ''.join(
            f'<td data-heading="{escape(heading)}">{escape(cell)}</td>'
            for heading, cell in zip(headings[1:], others)
        )
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return '\n'.join(lines) + '</tbody></table></div>'


def html_list(texts: Iterable[str]) -> str:
    """HTML list of escaped strings."""
    return '<ul>' + '\n'.join(f'<li>{escape(text)}</li>' for text in texts) + '</ul>'


def document(title: str, body: Iterable[str]) -> str:
    """A page of these pieces of HTML, which needs nothing else."""
    text = '\n'.join(body)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><style>{style.variables(STYLE + text)}{STYLE}'
        f'</style></head>\n<body>\n{text}\n</body></html>\n'
    )


def panel(heading: str, of: str, figure: Figure) -> str:
    """A figure as an svg element under its heading; of: what it is about, for its label."""
    label = escape(f'{heading}: {of}')
    svg = style.inline(figure).replace('<svg', f'<svg role="img" aria-label="{label}"', 1)
    return f'<figure><figcaption>{escape(heading)}</figcaption>{svg}</figure>'


def _figure(experiment: Experiment, summary: list[dict[str, Any]]) -> str:
    """The panels as svg elements, with legend and small print as text."""
    title = experiment.plan['title']
    panels = [panel(heading, title, figure) for heading, figure in figures.panels(experiment)]
    experiment, summary = drawn(experiment, summary)
    colours = figures.colours_of(experiment)
    key = ''.join(
        f'<li><span style="background: var(--c{colours[arm["arm"]][1:].lower()})"></span>'
        f'{escape(figures.arm_words(arm))}</li>'
        for arm in summary
    )
    kinds = [figures.KINDS[kind] for kind in figures.kinds_of(experiment)]
    lines = '; '.join(f'{look}: {meaning}' for look, meaning, _ in kinds)
    texts = [f'Lines: {lines}.'] if lines else []
    texts.append(figures.small_print(experiment, summary))
    width = f'max-width: {26 * len(panels)}rem'
    return (
        f'<ul class="key">{key}</ul><div class="panels" style="{width}">{"".join(panels)}</div>'
        f'<p class="notes">{escape(" ".join(texts))}</p>'
    )


def _selection(experiment: Experiment, summary: list[dict[str, Any]]) -> str:
    """How the learning rate was chosen: what was measured of all that were tried."""
    rates = sorted({rate for arm in summary for rate in rates_of(experiment, arm['arm'])})
    trials = [row for row in experiment.rows if row['phase'] == 'select']
    if all(len(rates_of(experiment, arm['arm'])) < 2 for arm in summary):
        used = sorted({*rates, *(arm['learning_rate'] for arm in summary)} - {None})
        words = ', '.join(f'{rate:g}' for rate in used) or 'not known before the first run'
        return f'<p>Learning rate: {words}; none was selected.</p>'
    thresholds = {arm['arm']: _threshold(experiment, arm['arm']) for arm in summary}
    different = list(dict.fromkeys(thresholds.values()))
    tried = sorted({row['seed'] for row in trials})
    seeds = f'seed{"s" * (len(tried) != 1)}: {", ".join(map(str, tried)) or "none yet"}'
    pieces = []
    for threshold in different:
        by = 'validation error at the end of training', 'in percent'
        if threshold is not None:
            words = f'steps to {100 * threshold:g} % training error'
            by = words, 'and those that never reach it'
        of = 'each arm' if len(different) == 1 else 'each of these arms'
        pieces.append(
            f'<p>The learning rate was chosen for {of} by its {by[0]} ({seeds}), {by[1]}:</p>'
        )
        own = [arm for arm in summary if thresholds[arm['arm']] == threshold]
        pieces.append(_rates_table(experiment, own, threshold))
    return ''.join(pieces)


def _rates_table(
    experiment: Experiment, summary: list[dict[str, Any]], threshold: float | None
) -> str:
    """A line for each arm: what its trials of each learning rate gave."""
    rates = sorted({rate for arm in summary for rate in rates_of(experiment, arm['arm'])})
    lines = []
    for arm in summary:
        line, own = [arm['arm']], arm_rows(experiment, arm['arm'], 'select')
        for rate in rates:
            found = [row for row in own if row['learning_rate'] == rate]
            cell = _measured([row for row in found if row['status'] == 'done'], threshold)
            cell += sorted({row['status'] for row in found} - {'done'})
            chosen = ' (chosen)' if rate == arm['learning_rate'] else ''
            planned = rate in rates_of(experiment, arm['arm'])
            line.append((', '.join(cell) or ('not run' if planned else '-')) + chosen)
        lines.append(line)
    return html_table(['arm', *(f'rate {rate:g}' for rate in rates)], lines)


def _threshold(experiment: Experiment, arm: str) -> float | None:
    """The training error by whose steps an arm's learning rate is chosen; None by validation."""
    plan = experiment.plan.get('origin', {}).get(arm, experiment.plan)
    return plan.get('threshold') if plan.get('criterion') == 'steps_to_error' else None


def _measured(found: list[dict[str, Any]], threshold: float | None) -> list[str]:
    """What the criterion reads off the trials of one learning rate, as parts of a cell."""
    if threshold is None:
        errors = [row['validation/error'] for row in found]
        return [f'{100 * statistics.mean(errors):.2f}'] if errors else []
    took = [steps_to_error(row, threshold) for row in found if 'train/curve' in row]
    steps = [step for step in took if step is not None]
    never = [f'{took.count(None)} never' if len(took) > 1 else 'never'] if None in took else []
    return ([f'{statistics.mean(steps):.0f}'] if steps else []) + never


def _protocol(experiment: Experiment, summary: list[dict[str, Any]]) -> str:
    """The number of final runs, their seeds, and when the test images are read."""
    plan = experiment.plan
    seeds, s = ', '.join(map(str, plan['seeds'])), 's' if len(plan['seeds']) > 1 else ''
    final = [row for row in experiment.rows if row['phase'] == 'final']
    planned = sum(arm['seeds_expected'] for arm in summary)
    if final and all('evaluation' in row for row in final):
        return '<p>These weights were evaluated; nothing was trained.</p>'
    return (
        _selection(experiment, summary)
        + f'<p>Every arm is trained at its learning rate with seed{s} {escape(seeds)}; a seed '
        'gives all arms the same data order. The test images are read once, at the end of a final '
        f'run; no epoch is picked. Final runs that have ended: {len(final)} of {planned}.</p>'
    )


def _stored(workdir: Path, experiment: Experiment, name: str) -> Iterator[dict[str, Any]]:
    """A JSON file of each run that has it; the final runs of the baseline come first."""
    baseline = arm_rows(experiment, experiment.plan['arms'][0], 'final')
    rows = [row['point'] for row in baseline + experiment.rows]
    for run in dict.fromkeys(rows + list(experiment.curves)):
        path = workdir / folder_of(run) / name
        with contextlib.suppress(OSError):
            try:
                found = schema.parse(path.read_bytes())
                if not isinstance(found, dict):
                    raise ValueError('no object')
                yield found
            except ValueError as error:
                note(f'{path}: {error}, left out')


def made_on(workdir: Path, experiment: Experiment) -> str:
    """When the runs began, and on what: '2026-11-26 to 2026-11-27; AMD EPYC, 2 cores; jax 0.12'."""
    every = list(_stored(workdir, experiment, 'environment.json'))
    days = sorted({str(own['date'])[:10] for own in every if 'date' in own})
    devices, versions = set(), set()
    for own in every:
        kind = own.get('cpu', 'CPU') if own.get('backend') == 'cpu' else own.get('device_kind', '?')
        count = own.get('cpu_count' if own.get('backend') == 'cpu' else 'device_count')
        what = 'core' if own.get('backend') == 'cpu' else 'device'
        devices.add(f'{kind}, {counted(count, what)}' if isinstance(count, int) else str(kind))
        versions.add(f'jax {own.get("jax", "?")}')
    parts = [' to '.join(dict.fromkeys(days[:1] + days[-1:])), *sorted(devices), *sorted(versions)]
    return printable('; '.join(filter(None, parts)))


def _made_by(parts: dict[str, tuple[Path, Experiment]]) -> list[str]:
    """Environment and resolved config of each work directory."""
    stored = {
        name: next(_stored(folder, one, 'environment.json'), {})
        for name, (folder, one) in parts.items()
    }
    environment = [
        (key, *(str(own.get(key, '-')) for own in stored.values()))
        for key in sorted({key for own in stored.values() for key in own})
    ]
    headings = ('what', *parts) if len(parts) > 1 else ('what', 'value')
    body = [
        '<h2>Environment</h2>',
        html_table(headings, environment, texts=True) if environment else '<p>None stored.</p>',
    ]
    for name, (folder, one) in parts.items():
        config = json.dumps(next(_stored(folder, one, 'config.json'), {}), indent=2, sort_keys=True)
        of = f' of {name}' if len(parts) > 1 else ''
        body.append(
            f'<details><summary>Resolved config of a run of the baseline{escape(of)}</summary>'
            f'<pre>{html.escape(config)}</pre></details>'
        )
    return body


def write(
    workdirs: str | os.PathLike | Sequence[str | os.PathLike], out: str | os.PathLike | None = None
) -> Path:
    """Writes report.html of one work directory, or of several side by side; returns its path.

    out: the folder that is written to; None is that of the only work directory.

    Raises UserError (not a work directory of an experiment), OSError (disk full, read-only).
    """
    folders = [workdirs] if isinstance(workdirs, (str, os.PathLike)) else list(workdirs)
    found = [read_experiment(folder) for folder in folders]
    names = compare.names(folders, found)
    parts = {name: (Path(folder), one) for name, folder, one in zip(names, folders, found)}
    experiment = compare.together(folders, found)
    plan, summary = experiment.plan, summarise(experiment)
    parameters = sorted(set(column(summary, 'parameters')))
    counts = [f'{count:,} parameters' for count in parameters]
    net = ', '.join(filter(None, (plan.get('model'), *counts)))
    failures = [f'{arm["arm"]}: {failure}' for arm in summary for failure in arm['failures']]
    unfinished = [f'{arm["arm"]}: {words}' for arm in summary for words in arm['unfinished']]
    findings = sentences(summary) or ['One arm: nothing to compare.']
    small = [line for line in notes(summary) + top5_notes(summary) if line not in failures]
    remarks = plan.get('remarks', [])
    body = [
        f'<h1>{escape(plan["title"])}</h1>',
        f'<p>{escape("; ".join(filter(None, (net, plan.get("dataset")))))}.</p>',
        f'<p>Made by <code>{escape(plan["command"])}</code></p>' if plan.get('command') else '',
        *(['<h2>Running or interrupted</h2>', html_list(unfinished)] if unfinished else []),
        '<h2>What the runs support</h2>',
        html_list(findings + remarks),
        '<h2>Table</h2>',
        html_table(*result_table.table(summary)),
        f'<div class="notes">{html_list(small)}</div>' if small else '',
        '<h2>Figure</h2>',
        _figure(experiment, summary),
        '<h2>Protocol</h2>',
        _protocol(experiment, summary),
        '<h2>Data</h2>',
        f'<p>{escape(plan["dataset_note"])}</p>',
        '<h2>Failures</h2>',
        html_list(failures) if failures else '<p>None.</p>',
        *_made_by(parts),
    ]
    path = Path(folders[0] if out is None else out) / 'report.html'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, document(plan['title'], body))
    return path


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(
        prog='python -m experiments.report',
        description='Writes report.html from the stored rows of an experiment, or of several.',
    )
    compare.add_arguments(parser)
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write to this folder (default: the work directory; of several '
        f'work directories {compare.FOLDER})',
    )
    parser.add_argument(
        '--markdown',
        action='store_true',
        help='print the table and what it supports as Markdown; write nothing',
    )
    args = parser.parse_args(argv)
    if args.markdown:
        print(result_table.markdown(summarise(compare.read(args.workdir))), end='')
        return 0
    if args.out == '':
        raise UserError("--out '' names no folder: give one such as --out runs/comparison.")
    several = len(args.workdir) > 1
    folder = Path(args.out or compare.out(args))
    if several and (folder / 'plan.json').exists():
        raise UserError(f'{folder} is a work directory, whose page stays. Name another --out.')
    experiment = compare.read(args.workdir)
    check_writable(folder / 'report.html')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # named by compare.read
        paths = [write(args.workdir, folder)]
    if several:
        summary = summarise(experiment)
        tables.show(result_table.terminal(summary))
        print(*sentences(summary), *experiment.plan['remarks'], sep='\n')
        result_table.write_csv(folder / 'results.csv', summary)
        paths.append(folder / 'results.csv')
    print(*paths, sep='\n')
    return 0
