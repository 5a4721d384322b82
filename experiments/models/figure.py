"""The figure of the nets: parameters against multiply-adds."""

from typing import Any

import matplotlib.ticker
from matplotlib.figure import Figure

from experiments import style

MARKERS = 'osD^vP*Xph<>d8'


def render(nets: list[dict[str, Any]]) -> Figure:
    """Parameters against multiply-adds of one image, both logarithmic: a mark per net.

    nets: as `description.zoo` gives them. The nets of a family have the same colour and mark.
    """
    figure = style.canvas(9, 6)
    axes = figure.add_subplot()
    axes.set_xscale('log')
    axes.set_yscale('log')
    for i, family in enumerate(dict.fromkeys(net['family'] for net in nets)):
        members = [net for net in nets if net['family'] == family]
        axes.plot(
            [net['macs'] for net in members],
            [net['parameters'] for net in members],
            MARKERS[i % len(MARKERS)],
            color=style.colour(i),
            ms=8,
            mec='white',
            mew=0.6,
            label=family,
        )
    axes.set_xlabel('multiply-adds per image')
    axes.set_ylabel('parameters')
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(matplotlib.ticker.EngFormatter(sep='\N{NO-BREAK SPACE}'))
        axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.margins(0.08)
    axes.grid(alpha=0.25)
    axes.set_title(
        'Parameters and multiply-adds of the nets, each at its own input size', loc='left'
    )
    axes.legend(loc='upper left', bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
    return figure
