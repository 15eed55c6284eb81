"""The charts of a report, as Vega-Lite specifications whose colours are the CSS variables of the page."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from hensa.errors import HensaError
from hensa.figures import Bin

if TYPE_CHECKING:
    import altair

__all__ = ["Spec", "bars_by_band", "diverging", "histogram", "javascript", "lorenz", "rate_line", "scores", "spans"]

Spec: TypeAlias = dict[str, Any]
Rows: TypeAlias = list[dict[str, Any]]

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Hiragino Sans', 'Noto Sans JP', Meiryo, sans-serif"
_AXIS = {
    "labelColor": "var(--muted)",
    "titleColor": "var(--muted)",
    "gridColor": "var(--grid)",
    "domainColor": "var(--line)",
    "tickColor": "var(--line)",
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "titlePadding": 8,
    "labelPadding": 5,
}
_SHORT = "format(datum.value, '~s')"  # each number with its own k or M, where `format` would give all the same
_LEFT = 52  # pixels of the left axis of charts that stand one below the other


@cache
def javascript() -> str:
    """The script of the plotting library (Vega, BSD-3-Clause), from which charts are drawn without a network."""
    try:
        import vl_convert
    except ModuleNotFoundError as missing:
        raise HensaError(f'a report needs {missing.name}; install it with: pip install "hensa[report]"') from missing
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in script.lower() or "<!--" in script:
        raise HensaError("the plotting library cannot be written into a page; install another vl-convert-python")
    return script


def histogram(
    bins: Sequence[Bin],
    labels: Sequence[str],
    x: str,
    y: str,
    mean: float | None = None,
    sd: float | None = None,
    unit: float | None = None,
    colours: Sequence[str] | None = None,
) -> Spec:
    """Rows by bins of a number, with the mean and one SD to either side of it.

    Parameters
    ----------
    bins : sequence of Bin
        One after another.
    labels : sequence of str
        What the bins are called.
    x, y : str
        Titles of the axes.
    mean, sd : float or None
        What is marked; None marks nothing.
    unit : float or None
        The scale is logarithmic beyond this number, on either side of 0; None: it is even.
    colours : sequence of str, optional
        Of the bars.
    """
    alt = _altair()
    found = spans(bins)
    low, high = found[0][0], found[-1][1]
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    if unit is not None:
        scale["type"], scale["constant"] = "symlog", unit
    values = [
        {"low": start, "high": end, "count": bin.count, "label": label, "colour": colour}
        for bin, (start, end), label, colour in zip(
            bins, found, labels, colours or ["var(--blue)"] * len(bins), strict=True
        )
    ]
    axis = alt.Axis(title=x, labelExpr=_SHORT, grid=False, labelOverlap="greedy", labelSeparation=4)
    if unit is not None:
        axis["values"] = _decades(low, high, unit)
    elif all(float(end).is_integer() for span in found for end in span):
        axis["tickMinStep"] = 1
    bars = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(stroke="var(--ground)", strokeWidth=1)
        .encode(
            color=alt.Color("colour:N", scale=None),
            x=alt.X("low:Q", scale=scale, axis=axis),
            x2="high:Q",
            y=_count_axis(max(bin.count for bin in bins), y),
            y2=alt.datum(0),
            tooltip=[alt.Tooltip("label:N", title=x), alt.Tooltip("count:Q", title=y, format=",")],
        )
    )
    layers = [bars]
    if mean is not None and low <= mean <= high:
        if sd:
            span = [{"low": max(low, mean - sd), "high": min(high, mean + sd)}]
            layers.insert(
                0,
                alt.Chart(alt.Data(values=span))
                .mark_rect(color="var(--orange-soft)")
                .encode(x=alt.X("low:Q", scale=scale), x2="high:Q"),
            )
        layers.append(
            alt.Chart(alt.Data(values=[{"mean": mean}]))
            .mark_rule(color="var(--mark)", strokeWidth=2)
            .encode(x=alt.X("mean:Q", scale=scale))
        )
    return _finished(alt.layer(*layers), 220)


def scores(bins: Sequence[Bin], labels: Sequence[str], x: str, y: str, centre: float) -> Spec:
    """Rows by bins of the score, with the score of the mean."""
    spec = histogram(bins, labels, x, y, centre, None)
    return _aligned(spec)


def rate_line(steps: Sequence[tuple[float, float]], domain: tuple[float, float], x: str, y: str) -> Spec:
    """The rate (in percent) by score: from each of the scores on, the rate beside it."""
    alt = _altair()
    low, high = domain
    shown = [(max(low, score), rate) for score, rate in steps if score <= high]
    values = [{"score": score, "rate": rate} for score, rate in [*shown, (high, shown[-1][1])]]
    line = (
        alt.Chart(alt.Data(values=values))
        .mark_line(interpolate="step-after", color="var(--orange)", strokeWidth=2.5)
        .encode(
            x=alt.X(
                "score:Q",
                scale=alt.Scale(domain=[low, high], nice=False, zero=False),
                axis=alt.Axis(title=x, grid=False),
            ),
            y=alt.Y("rate:Q", axis=alt.Axis(title=y, tickCount=5, titleAnchor="end"), scale=alt.Scale(zero=True)),
            tooltip=[alt.Tooltip("score:Q", title=x), alt.Tooltip("rate:Q", title=y)],
        )
    )
    return _aligned(_finished(line, 150))


def bars_by_band(bands: Sequence[str], series: Sequence[tuple[str, Sequence[float], Sequence[str]]], x: str) -> Spec:
    """Shares of series side by side for each band.

    Parameters
    ----------
    bands : sequence of str
        From top to bottom.
    series : sequence of (str, sequence of float, sequence of str)
        The name of each, its share by band, and the number behind it as text.
    x : str
        Title of the axis of shares.
    """
    alt = _altair()
    values = [
        {"band": band, "series": name, "share": share, "text": text}
        for name, shares, texts in series
        for band, share, text in zip(bands, shares, texts, strict=True)
    ]
    names = [name for name, *_ in series]
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(cornerRadiusEnd=2)
        .encode(
            y=alt.Y("band:N", sort=list(bands), axis=alt.Axis(title=None, labelLimit=150, ticks=False)),
            yOffset=alt.YOffset("series:N", sort=names),
            x=alt.X("share:Q", axis=alt.Axis(title=x, format="~%", tickCount=5)),
            color=alt.Color(
                "series:N", legend=None, scale=alt.Scale(domain=names, range=["var(--blue)", "var(--orange)"])
            ),
            tooltip=[
                alt.Tooltip("band:N", title=" "),
                alt.Tooltip("series:N", title=" "),
                alt.Tooltip("text:N", title=" "),
                alt.Tooltip("share:Q", title=" ", format=".2%"),
            ],
        )
    )
    return _finished(chart, 30 * len(bands) + 50)


def lorenz(curve: Sequence[tuple[float, float]], x: str, y: str) -> Spec:
    """The Lorenz curve below the line of equal points."""
    alt = _altair()
    values = [{"rows": rows, "points": points} for rows, points in curve]

    def axes(of: str) -> dict[str, Any]:
        scale = alt.Scale(domain=[0, 1])
        return {
            "x": alt.X("rows:Q", scale=scale, axis=alt.Axis(title=x, format="~%", tickCount=5)),
            "y": alt.Y("points:Q", scale=scale, axis=alt.Axis(title=y, format="~%", tickCount=5)),
        }

    equal = (
        alt.Chart(alt.Data(values=[{"rows": 0, "points": 0}, {"rows": 1, "points": 1}]))
        .mark_line(color="var(--muted)", strokeDash=[4, 4], strokeWidth=1.5)
        .encode(**axes("equal"))
    )
    tooltip = [alt.Tooltip("rows:Q", title=x, format=".2%"), alt.Tooltip("points:Q", title=y, format=".2%")]
    base = alt.Chart(alt.Data(values=values))
    area = base.mark_area(color="var(--blue-soft)").encode(**axes("curve"))
    line = base.mark_line(color="var(--blue)", strokeWidth=2.5).encode(**axes("curve"))
    hints = base.mark_point(size=80, opacity=0, filled=True).encode(**axes("curve"), tooltip=tooltip)
    return _finished(alt.layer(area, equal, line, hints), 320)


def diverging(bands: Sequence[str], gained: Sequence[int], lost: Sequence[int], x: str, names: tuple[str, str]) -> Spec:
    """Points gained to the right and lost to the left, by band."""
    alt = _altair()
    values = [
        {"band": band, "points": points, "text": f"{points:+,}" if points else "0", "series": name}
        for name, amounts in ((names[0], gained), (names[1], [-amount for amount in lost]))
        for band, points in zip(bands, amounts, strict=True)
    ]
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(cornerRadiusEnd=2)
        .encode(
            y=alt.Y("band:N", sort=list(bands), axis=alt.Axis(title=None, labelLimit=150, ticks=False)),
            x=alt.X("points:Q", axis=alt.Axis(title=x, labelExpr=_SHORT, tickCount=6)),
            color=alt.Color(
                "series:N", legend=None, scale=alt.Scale(domain=names, range=["var(--gain)", "var(--lose)"])
            ),
            tooltip=[
                alt.Tooltip("band:N", title=" "),
                alt.Tooltip("series:N", title=" "),
                alt.Tooltip("text:N", title=" "),
            ],
        )
    )
    return _finished(chart, 24 * len(bands) + 50)


# ---- what they share


def _altair() -> Any:
    try:
        import altair
    except ModuleNotFoundError as missing:
        raise HensaError(f'a report needs {missing.name}; install it with: pip install "hensa[report]"') from missing
    return altair


def _finished(chart: "altair.TopLevelMixin", height: int) -> Spec:
    spec: Spec = chart.to_dict(validate=False)
    spec |= {
        "width": "container",
        "height": height,
        "background": None,
        "autosize": {"type": "fit", "contains": "padding"},
        "config": {
            "aria": False,
            "font": _FONT,
            "view": {"stroke": None},
            "axis": _AXIS,
            "axisQuantitative": {"ticks": False, "domain": False},
            "axisX": {"ticks": True, "domain": True},
        },
    }
    return spec


def _aligned(spec: Spec) -> Spec:
    """With a left axis of the same width, for charts whose x axes lie one below the other."""
    spec["config"]["axisY"] = {"minExtent": _LEFT, "maxExtent": _LEFT}
    return spec


def spans(bins: Sequence[Bin]) -> list[tuple[float, float]]:
    """Where the bars of bins begin and end; a bin with an open end is as wide as the one beside it."""
    first, last = bins[0], bins[-1]
    spans = [(float(bin.low or 0), float(bin.high or 0)) for bin in bins]
    if first.low is None and first.high is not None:
        spans[0] = (float(first.high) - _width(bins[1:2]), float(first.high))
    if last.high is None and last.low is not None:
        spans[-1] = (float(last.low), float(last.low) + _width(bins[-2:-1]))
    return spans


def _width(bins: Iterable[Bin]) -> float:
    return next((float(bin.high - bin.low) for bin in bins if bin.low is not None and bin.high is not None), 1.0)


def _decades(low: float, high: float, unit: float = 1) -> list[float]:
    powers = [unit * 10.0**power for power in range(19)]
    return [value for value in (*(-power for power in reversed(powers)), 0, *powers) if low <= value <= high]


def _count_axis(most: int, title: str) -> Any:
    alt = _altair()
    values = [value for value in _decades(0, max(most, 1)) if value != 1 or most < 100]
    return alt.Y(
        "count:Q",
        scale=alt.Scale(type="symlog", domain=[0, max(most, 1)], nice=False),
        axis=alt.Axis(title=title, labelExpr=_SHORT, values=values, labelOverlap="greedy"),
    )
