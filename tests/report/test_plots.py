"""What the plots show: points with their names, scales that fit, legends that can be read."""

import dataclasses

import pytest
from fake_run import TAG, add_paths

from espnet_kd.report import plot_dev_wer, plot_wer
from espnet_kd.report.figures import drawing
from espnet_kd.report.findings import read_content
from espnet_kd.report.models import parse_models


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("plots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCLITE", "none")
        names = add_paths(folder)
    models = parse_models(
        [f"{n}={folder}/asr_{n}" for n in names], "valid.loss_transducer.ave.pth"
    )
    return read_content(models, TAG, ["seen", "new"], 50, 0)


@pytest.fixture
def figure(monkeypatch):
    """Call a plot function and return its figure, which is not closed."""

    def draw(module, function, *args):
        kept = []
        monkeypatch.setattr(module, "save", lambda fig, path: kept.append(fig))
        with drawing():
            function(*args)
        return kept[0]

    return draw


def test_sizes_stand_straight_above_their_points(content, figure, tmp_path):
    fig = figure(plot_wer, plot_wer.wer_against_params, content, tmp_path / "x.png")
    for ax in fig.axes[:2]:
        (above,) = ax.child_axes
        ticks = dict(zip((t.get_text() for t in above.get_xticklabels()), above.get_xticks()))
        assert list(ticks) == ["−70 %", "−40 %", "teacher"]
        # One place for the students of a size, which are drawn side by side around it.
        assert ticks["−70 %"] == pytest.approx(0.6, abs=0.01)
        assert ticks["−40 %"] == pytest.approx(1.2, abs=0.01) and ticks["teacher"] == 2.0
        assert not ax.texts
        tops = max(max(line.get_ydata()) for line in ax.lines if len(line.get_ydata()) == 1)
        assert ax.get_ylim()[1] < 1.5 * tops
    (legend,) = fig.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert "significantly different from the teacher" in texts
    assert not any(text.startswith(("empty", "filled")) for text in texts)


def test_small_sizes_beside_a_large_teacher_stand_apart(content, figure, tmp_path):
    params = iter((1_250_000, 606_000, 246_000, 103_000, 51_000))
    rows = [dataclasses.replace(row, params=next(params)) for row in content.rows[:5]]
    few = dataclasses.replace(content, rows=rows)
    fig = figure(plot_wer, plot_wer.wer_against_params, few, tmp_path / "x.png")
    fig.canvas.draw()
    for ax in fig.axes[:2]:
        assert ax.get_xscale() == "log" and ax.get_xlabel().endswith("(thousand)")
        (above,) = ax.child_axes
        assert [round(place) for place in above.get_xticks()] == [51, 103, 246, 606, 1250]
        lefts = [text.get_window_extent().x0 for text in above.get_xticklabels()]
        assert min(b - a for a, b in zip(lefts, lefts[1:])) > above.get_xticklabels()[0].get_size()


def test_each_model_has_the_scale_of_its_own_validation(content, figure, tmp_path):
    content.rows[0].history[0]["valid"]["wer"] = 400.0
    fig = figure(plot_dev_wer, plot_dev_wer.dev_wer_curves, content.rows, tmp_path / "x.png")
    for ax, row in zip(fig.axes, content.rows):
        highest = max(epoch["valid"]["wer"] for epoch in row.history)
        assert highest <= ax.get_ylim()[1] < 1.2 * highest
