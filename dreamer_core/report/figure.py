"""A figure of matplotlib, which takes half a second to import: it waits for the first picture."""

from __future__ import annotations

import logging
from typing import Any

from dreamer_core.errors import BadInput, first_line


def new_figure(width_inches: float, height_inches: float, **options: Any) -> Any:
    """Returns a figure on the Agg backend, whatever backend pyplot would choose.

    Args:
        width_inches: of the picture.
        height_inches: of the picture.
        options: of matplotlib's Figure.

    Raises:
        BadInput: matplotlib cannot be loaded, whose settings or files may have changed meanwhile.
    """
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # tells of its caches
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (see above)
        from matplotlib.figure import Figure  # noqa: PLC0415
    except (ImportError, OSError, ValueError) as error:
        raise BadInput(
            f"Wanted matplotlib, for a picture, but {first_line(error).rstrip('.')}; look at its "
            "variables (MPLBACKEND, MPLCONFIGDIR) or install it again"
        ) from error
    figure = Figure(figsize=(width_inches, height_inches), **options)
    FigureCanvasAgg(figure)
    return figure
