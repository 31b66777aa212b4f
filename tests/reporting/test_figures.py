import pytest
from matplotlib.figure import Figure

from frlr_mm.reporting import line_style, replacing, save_figure


def make_figure():
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([1, 2], **line_style(0))
    return figure


def test_a_figure_is_a_png_and_the_same_svg_each_time(tmp_path):
    png, svg = save_figure(make_figure(), tmp_path / 'a' / 'figure.svg')
    assert png.read_bytes().startswith(b'\x89PNG') and svg.read_text().startswith('<?xml')
    again = save_figure(make_figure(), tmp_path / 'b' / 'figure.png')[1]
    assert again.read_bytes() == svg.read_bytes()
    assert sorted(path.name for path in png.parent.iterdir()) == ['figure.png', 'figure.svg']
    with pytest.raises(ValueError, match=r'\.png or \.svg, but got .*figure\.pdf'):
        save_figure(make_figure(), tmp_path / 'figure.pdf')


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'table.csv'
    path.write_text('old')

    def fail():
        with replacing(path) as partial:
            partial.write_text('new')
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_eight_lines_differ_in_colour_and_in_marker():
    styles = [line_style(i) for i in range(8)]
    assert len({style['color'] for style in styles}) == len({s['marker'] for s in styles}) == 8
