"""A figure that a notebook shows. Imported only by who asks for a plot: it needs matplotlib."""

import io
from typing import Any

from matplotlib.figure import Figure


class ReportFigure(Figure):
    """A figure that pyplot does not know, which a notebook shows nevertheless.

    A figure of pyplot would stay in memory until it is closed, and a notebook would
    show it twice: as what a cell has drawn, and as the value of its last line. Other
    figures it shows once `%matplotlib` is set up, which this one does not wait for.
    """

    def _repr_png_(self) -> bytes:
        """Returns the picture: IPython calls this."""
        stream = io.BytesIO()
        figure: Any = self  # whose annotations are incomplete
        figure.savefig(stream, format="png")
        return stream.getvalue()
