"""One page of all claims: the table of verdicts, and below it each claim with its figure.

It is one HTML file that needs no network. Its only script sorts the table; without scripts the
table stands in the order of the notes.
"""

import collections
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments import style, tables
from experiments.claims import drawings, figures, ledger, trained, words
from experiments.claims.claim import VERDICTS, Claim, Verdict
from experiments.files import write_whole
from experiments.report.page import STYLE, escape
from experiments.workdir import Experiment

Pairs = Sequence[tuple[Claim, Verdict]]

_STYLE = """
.verdict { white-space: nowrap; font-weight: 600; }
.supported { color: var(--c009e73); } .contradicted { color: var(--cd55e00); }
.corrected { color: var(--c0072b2); } .equivalent { color: var(--c7b3294); }
.not-resolved { color: var(--c666666); }
details { border-bottom: 1px solid #8886; padding: 0.4rem 0; }
summary { cursor: pointer; } details figure { max-width: 44rem; margin: 1rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; max-width: 50rem; }
dt { color: var(--c666666); } dd { margin: 0; }
th button { font: inherit; font-weight: 600; background: none; border: 0; padding: 0;
  color: inherit; cursor: pointer; text-decoration: underline dotted; }
td.sentence { white-space: normal; min-width: 20rem; }
td[data-heading='effect'], td[data-heading='measured on'] { white-space: normal; }
td small { display: block; color: var(--c666666); }
a { color: var(--c0072b2); }
@media (max-width: 52rem) {
  dl { display: block; } dd { margin: 0 0 0.4rem; }
  table:not(.pairs) td::before { flex-shrink: 0; }
  table:not(.pairs) td.sentence { display: block; min-width: 0; }
  table:not(.pairs) td.sentence::before { content: none; }
  table:not(.pairs) td:empty { display: none; }
}
"""

_SCRIPT = """
for (const button of document.querySelectorAll('th button')) button.onclick = () => {
  const column = button.closest('th').cellIndex, body = document.querySelector('tbody');
  const rows = [...body.rows], key = row => row.cells[column].dataset.key;
  const sorted = [...rows].sort((a, b) => key(a).localeCompare(key(b), 'en', {numeric: true}));
  const same = sorted.every((row, place) => row === rows[place]);
  body.append(...(same ? sorted.reverse() : sorted));
};
// a link to a claim opens it
const open = () => document.getElementById(location.hash.slice(1))?.setAttribute('open', '');
addEventListener('hashchange', open); open();
"""


def write(folder: str | os.PathLike, pairs: Pairs, sections: Sequence[str] = ()) -> Path:
    """Writes claims.html and claims.md into a folder; returns the page. sections: as of `html`.

    Raises OSError (disk full, read-only).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / 'claims.md', markdown(pairs))
    path = folder / 'claims.html'
    write_whole(path, html(pairs, sections))
    return path


def write_figures(folder: str | os.PathLike, pairs: Pairs) -> list[Path]:
    """Writes the figures of claims, ID-1.png, ID-1.svg, ID-2.png, ...; returns their paths.

    Raises OSError (disk full, read-only).
    """
    return [
        style.save(figure, Path(folder) / f'{claim.id}-{place}.{ending}')
        for claim, found in pairs
        for place, (_, figure) in enumerate(pictures(claim, found, trained.stored(claim.config)), 1)
        for ending in ('png', 'svg')
    ]


def markdown(pairs: Pairs) -> str:
    """The same for GitHub: the table of verdicts, then what stands behind each, without figures."""
    text = [tables.markdown(words.HEADINGS, words.table(list(pairs)))]
    for title, claims in ledger.SECTIONS.items():
        if own := [pair for pair in pairs if pair[0] in claims]:
            text.append(f'\n### {title}\n\n')
            if title in ledger.LACKS:
                text.append(f'{tables.as_markdown(ledger.LACKS[title])}\n\n')
            text += [f'- {_line(*pair)}\n' for pair in own]
    return ''.join(text)


def _line(claim: Claim, found: Verdict) -> str:
    """One claim in one line of Markdown."""
    parts = [claim.sentence, claim.correction and f'Correction: {claim.correction}', found.text]
    if claim.config:
        experiment = trained.stored(claim.config)
        made = '' if claim.compute else words.measured_on(claim)
        seeds = f'seeds {words.seeds(experiment)}' if experiment and found.seeds else ''
        parts.append(f'({"; ".join(filter(None, (made, seeds, "configs/" + claim.config)))})')
    text = tables.as_markdown(' '.join(filter(None, parts)))
    return f'**{claim.id}** {found.verdict}: {text}'


def html(pairs: Pairs, sections: Sequence[str] = ()) -> str:
    """The page. sections: what `section` gives for each pair; drawn here where there are none."""
    opened = (
        dict(zip([claim.id for claim, _ in pairs], sections, strict=True))
        if sections
        else {claim.id: section(claim, found) for claim, found in pairs}
    )
    counts = collections.Counter(found.verdict for _, found in pairs)
    kinds = ', '.join(f'{counts[kind]} {kind}' for kind in VERDICTS if counts[kind])
    body = [
        '<h1>What the notes claim, and what was found</h1>',
        f'<p>{len(pairs)} claims: {escape(kinds)}. Intervals are 95 % over seeds, corrected for '
        'the comparisons of the experiment, unless they say otherwise. An effect inside '
        'the margin, which is declared before the runs, counts as nothing. Each claim has its '
        'figure, its command and its data below.</p>',
        _table(pairs),
    ]
    for title, claims in ledger.SECTIONS.items():
        own = [pair for pair in pairs if pair[0] in claims]
        if own:
            body.append(f'<h2>{escape(title)}</h2>')
            if title in ledger.LACKS:
                body.append(f'<p>{escape(ledger.LACKS[title])}</p>')
            body += [opened[claim.id] for claim, _ in own]
    page = '\n'.join(body)
    colours = style.variables(page + STYLE + _STYLE)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Claims</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{colours}{STYLE}{_STYLE}</style></head><body>{page}'
        f'<script>{_SCRIPT}</script></body></html>\n'
    )


def _table(pairs: Pairs) -> str:
    head = ''.join(f'<th scope="col"><button>{name}</button></th>' for name in words.HEADINGS)
    lines = []
    # effects of one unit by their size, those without a number last
    sizes = {}
    for claim, found in pairs:
        size = found.low or 0.0 if found.effect is None else found.effect
        sizes[claim.id] = not words.effect(claim, found), claim.unit, size
    order = sorted(sizes, key=sizes.__getitem__)
    for place, (claim, found) in enumerate(pairs):
        kind = found.verdict.replace(' ', '-')
        correction = claim.correction and f'<small>{escape(claim.correction)}</small>'
        cells = (
            f'<th scope="row" data-key="{place}"><a href="#{claim.id}">{claim.id}</a></th>',
            f'<td data-heading="verdict" data-key="{kind}" class="verdict {kind}">'
            f'{found.verdict}</td>',
            f'<td data-heading="effect" data-key="{order.index(claim.id)}">'
            f'{escape(words.effect(claim, found))}</td>',
            f'<td data-heading="measured on" data-key="{escape(words.measured_on(claim))}">'
            f'{escape(words.measured_on(claim))}</td>',
            f'<td data-heading="the notes say" data-key="{escape(claim.sentence)}" '
            f'class="sentence">{escape(claim.sentence)}{correction}</td>',
        )
        lines.append(f'<tr>{"".join(cells)}</tr>')
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table></div>'
    )


def section(claim: Claim, found: Verdict) -> str:
    """One claim of the page, which opens: figure, and all that stands behind the verdict."""
    experiment = trained.stored(claim.config)
    drawn = []
    for caption, figure in pictures(claim, found, experiment):
        svg = style.inline(figure).replace('<svg', '<svg role="img"', 1)
        drawn.append(f'<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>')
    lines = words.full(claim, found, experiment)[1:]
    terms = ''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in lines)
    kind = found.verdict.replace(' ', '-')
    return (
        f'<details id="{claim.id}"><summary><b>{claim.id}</b> '
        f'<span class="verdict {kind}">{found.verdict}</span> {escape(claim.sentence)}</summary>'
        f'{"".join(drawn)}<dl>{terms}</dl></details>'
    )


def pictures(
    claim: Claim, found: Verdict, experiment: Experiment | None
) -> list[tuple[str, Figure]]:
    """The figures of a claim, in the form of the paper's where it has one: (caption, figure)."""
    drawn = []
    if claim.id in drawings.DRAWINGS:
        caption, compute = drawings.DRAWINGS[claim.id]
        drawn.append((caption, compute()))
    for known in (figures.PAPERS, figures.ERRORS):
        if experiment and claim.id in known:
            caption, draw = known[claim.id]
            figure = draw(experiment)
            level = experiment.plan['level']
            drawn.append((figures.with_intervals(caption, figure, level), figure))
    for config, other in trained.parts(claim).items():
        if other and config in figures.PARTS and (part := figures.PARTS[config](claim.id, other)):
            caption, figure = part
            level = other.plan['level']
            drawn.append((figures.with_intervals(caption, figure, level), figure))
    if experiment and found.low is not None and words.effect(claim, found):
        shown = claim.value is not None and not found.other
        paper = " and the paper's value" if shown else ''
        caption = f'The effect with its interval over {found.covers}, beside the margin{paper}.'
        drawn.append((caption, figures.effect(claim, found)))
    return drawn
