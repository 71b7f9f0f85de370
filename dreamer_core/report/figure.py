"""A figure of matplotlib, which takes half a second to import: a run draws none before its end."""

from __future__ import annotations

from typing import Any


def new_figure(width_inches: float, height_inches: float, **options: Any) -> Any:
    """Returns a figure on the Agg backend, whatever backend pyplot would choose.

    Args:
        width_inches: of the picture.
        height_inches: of the picture.
        options: of matplotlib's Figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (see above)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width_inches, height_inches), **options)
    FigureCanvasAgg(figure)
    return figure
