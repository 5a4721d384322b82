"""The figure of stored speeds: the ratio to PyTorch of every case."""

from matplotlib.figure import Figure

from experiments import style
from experiments.benchmark import tables
from experiments.errors import UserError

_TICKS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 20, 50)


def render(found: list[dict]) -> Figure:
    """Ratio to PyTorch of every case: a dot with the spread of its rounds, a colour per file.

    Where plain flax was measured too, its ratio is a hollow square. Raises UserError where no file
    has a ratio.
    """
    entries = [item for result in found for item in result['cases'].items()]
    drawn = (name for name, entry in entries if tables.ratio(entry, tables.best(entry)))
    names = list(dict.fromkeys(drawn))
    if not names:
        raise UserError('the files hold no ratio to PyTorch: measure with --against torch.')
    figure = style.canvas(9, 1.6 + len(names) * (0.22 + 0.16 * len(found)))
    axes = figure.add_subplot()
    axes.axvline(1, color='black', lw=0.8)
    ends = [1.0]
    for index, result in enumerate(found):
        colour = style.colour(index)
        shift = (index - (len(found) - 1) / 2) * 0.7 / len(found)
        mean, count = tables.geometric_mean(result)
        where = result['environment']
        words = (f'{where["cpu"]}, ' if where['platform'] == 'cpu' else '') + tables.label(result)
        plain = f'plain flax, {words}'
        words += f' (geometric mean of {count}: {mean:.2f})' if count > 1 else ''
        for name, entry in result['cases'].items():
            theirs = tables.best(entry)
            one, other = (tables.ratio(entry, theirs, side=side) for side in ('ours', 'plain'))
            if not one:
                continue
            y = names.index(name) + shift
            axes.errorbar(
                one.median,
                y,
                xerr=[[one.median - one.low], [one.high - one.median]],
                fmt='o',
                color=colour,
                ms=5,
                capsize=3,
                lw=1.4,
                label=words,
            )
            words = ''
            ends += [one.low, one.high]
            if other:
                axes.plot(other.median, y, 's', color=colour, mfc='white', ms=4, label=plain)
                plain = ''
                ends.append(other.median)
    axes.set_xscale('log', base=2)
    low, high = min(ends) / 1.15, max(ends) * 1.15
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in _TICKS if low <= tick <= high])
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter('{x:g}')
    axes.set_yticks(range(len(names)), [name.replace('_', ' ') for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    style.frame_rows(axes)
    axes.grid(axis='x', alpha=0.25)
    axes.set_xlabel(
        'training images/s, ours / PyTorch (median, lowest and highest round); '
        'right of 1, ours is faster'
    )
    axes.set_title('Training step beside the best of PyTorch', loc='left', fontsize=11)
    entries = sorted(
        zip(*axes.get_legend_handles_labels(), strict=True),
        key=lambda entry: entry[1].startswith('plain'),
    )
    figure.legend(
        *zip(*entries, strict=True), loc='outside lower center', frameon=False, fontsize=8, ncols=1
    )
    return figure
