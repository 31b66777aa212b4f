"""What the pictures of the command lines share: files, styles, the logs of runs."""

from .figures import line_style, read_image, replacing, save_figure
from .runs import Series, Summary, align, read_run, summarize

__all__ = [
    'Series',
    'Summary',
    'align',
    'line_style',
    'read_image',
    'read_run',
    'replacing',
    'save_figure',
    'summarize',
]
