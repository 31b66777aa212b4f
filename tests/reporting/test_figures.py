import pytest
from matplotlib.figure import Figure

from frlr_mm.reporting.figures import STYLES, line_styles, save_figure, variant_styles


def make_figure():
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([1, 2], **line_styles(['SR'])[0])
    return figure


def test_a_figure_is_a_png_and_the_same_svg_each_time(tmp_path):
    png, svg = save_figure(make_figure(), tmp_path / 'a' / 'figure.svg')
    assert png.read_bytes().startswith(b'\x89PNG') and svg.read_text().startswith('<?xml')
    again = save_figure(make_figure(), tmp_path / 'b' / 'figure.png')[1]
    assert again.read_bytes() == svg.read_bytes()
    assert sorted(path.name for path in png.parent.iterdir()) == ['figure.png', 'figure.svg']
    with pytest.raises(ValueError, match=r'\.png or \.svg, but got .*figure\.pdf'):
        save_figure(make_figure(), tmp_path / 'figure.pdf')


def colors(styles):
    return [style['color'] for style in styles]


def test_a_loss_has_its_style_wherever_it_stands():
    mine = {name: STYLES[name]['color'] for name in STYLES}
    names = ['SS-LR', 'SR', 'HS-LR, ratio 0.01', 'LR']
    assert colors(line_styles(names)) == [mine['SS-LR'], mine['SR'], mine['HS-LR'], mine['LR']]
    # Neither is named after a loss, so that they take what is left.
    assert colors(line_styles(['LRs', 'SR', 'SS-LR-like'])) == [
        mine['LR'],
        mine['SR'],
        mine['HS-LR'],
    ]
    # The second line of a loss is another line.
    first, second = line_styles(['SR', 'SR, seed 1'])
    assert first['color'] == mine['SR'] != second['color']


def test_lines_differ_in_colour_and_in_marker():
    for styles in (line_styles(list('abcdefgh')), variant_styles('HS-LR', 4)):
        for key in ('color', 'marker'):
            assert len({style[key] for style in styles}) == len(styles)
    assert variant_styles('HS-LR', 4)[0] == line_styles(['HS-LR'])[0]
    assert len(line_styles(list('abcdefghi'))) == 9
