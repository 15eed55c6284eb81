"""A run as one page: what it paid, to whom, and how it was made, from the file that it wrote and the record in it."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal
from fractions import Fraction
from functools import partial
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa import audit, charts
from hensa.audit import Record
from hensa.charts import Spec
from hensa.comparison import Tally
from hensa.counts import Count, percent
from hensa.errors import ColumnError, DataError, HensaError
from hensa.explanation import NAMES, unpublished
from hensa.figures import (
    Batch,
    Bin,
    Bins,
    Changes,
    Concentration,
    Edge,
    GroupSums,
    Share,
    Top,
    decimals_by_group,
    even_edges,
    log_edges,
    numbers_of,
    points_of,
    score_edges,
    wide_edges,
)
from hensa.files import batches, format_of, naming, schema_of
from hensa.ledger import FINDINGS, KEY
from hensa.manifest import Manifest
from hensa.page import Lang, data_island, render
from hensa.population import Population
from hensa.program import PerEvent, Program, Stages, StandardScore, days_of
from hensa.report_words import WORDS
from hensa.threads import share_out

__all__ = ["report"]

Row = Sequence[str]

BANDS = 11  # so that a table of the steps 0 to 100 falls into tens
TOP = 20
INPUTS = 10
EXACT = Context(prec=100)  # the sums of Arrow have at most 76 digits
_POINTS = pa.decimal128(38, 9)  # a base of CSV that is no integer

_DRAW = """
const specs = JSON.parse(document.getElementById("charts").textContent);
for (const [id, spec] of Object.entries(specs)) {
  vegaEmbed(document.getElementById(id), spec, {renderer: "svg", actions: false, ast: true, tooltip: {theme: "page"}});
}
"""
"""`ast` has expressions interpreted, as the page allows no script to be made of text."""


def report(path: str, lang: Lang = "en", *, hide_ids: bool = False, id: str | None = None) -> str:
    """Tell of the run that wrote a file, as one HTML page that needs no network.

    The rows are read once, a batch at a time: memory and the size of the page do not grow with them. Counts and points
    are exact; shares are rounded to the digits shown.

    Parameters
    ----------
    path : str
        A file that `hensa score`, `hensa compare` or `hensa restate` wrote, with its record: in the metadata of Parquet
        and Arrow, beside CSV. Or the directory of a scored dataset, with its manifest.
    lang : {"en", "ja"}
        Language of the page.
    hide_ids : bool
        Leave out the ids of rows.
    id : str, optional
        The column of ids; without it that is ``referrer_id``, and where there is none, numbers of rows are shown. Of a
        restatement those of its record are shown.

    Returns
    -------
    str
        The text of the page: the same for the same file.

    Raises
    ------
    HensaError
        The file cannot be read, has no record, was written by another command, or does not fit its record; it has no
        column `id`; the extra "report" is not installed; a `lang` that is none.

    Examples
    --------
    >>> report("paid.parquet", lang="fr")
    Traceback (most recent call last):
    hensa.errors.DataError: lang is 'fr'; it must be "en" or "ja".
    """
    if lang not in get_args(Lang):
        raise DataError(f'lang is {lang!r}; it must be "en" or "ja".')
    record, paths, expected = _opened(path)
    with naming(path):
        kept = "manifest" if os.path.isdir(path) else "beside" if format_of(path) == "csv" else "inside"
        schema = schema_of(paths[0])
        if id is not None and id not in schema.names:
            have = ", ".join(map(repr, schema.names))
            raise ColumnError(f"There is no column {id!r} to tell rows apart; the columns are {have}.")
        about = About(record, schema, Words(lang), None if hide_ids else id or "referrer_id", kept)
        match record.run:
            case audit.Score():
                found: Scored | Compared | Restated = Scored(about, record.run)
            case audit.Compare():
                found = Compared(about, record.run)
            case audit.Restate():
                found = Restated(about, record.run)
            case _:
                raise HensaError(f"it was written by {record.command}; a report tells of score, compare and restate.")
        n_rows = 0
        for part in paths:
            reader, _ = batches(part, lambda names: [name for name in names if name in found.reads])
            for batch in reader:
                found.add(batch)
                n_rows += batch.num_rows
        if expected not in (n_rows, None):
            raise HensaError(f"it has {Count(n_rows):row}, while its record tells of {expected:,}; it was changed.")
        sections = [section for section in found.sections() if section.blocks]
    specs = {
        f"chart-{number}": block["spec"]
        for number, block in enumerate((b for section in sections for b in section.blocks if "spec" in b), start=1)
    }
    for id_, block in zip(specs, (b for section in sections for b in section.blocks if "spec" in b), strict=True):
        block["id"] = id_
    return render(
        "report.html",
        lang,
        f"{found.title} - hensa",
        [charts.javascript(), _DRAW] if specs else [],
        words=about.words.all,
        kicker=about.words("kicker_" + type(found).__name__.lower()),
        heading=found.title,
        lead=found.lead(n_rows),
        sections=sections,
        charts=data_island("charts", specs),
    )


def _opened(path: str) -> tuple[Record, list[str], int | None]:
    """The record of a file or a dataset, its files, and how many rows it must have, if the record tells."""
    if os.path.isdir(path):
        manifest = Manifest.load(path)
        for _ in manifest.check(path, content=False):
            pass
        if not manifest.parts:
            raise HensaError(f"{path}: the dataset has no parts.")
        return manifest.record, manifest.paths(path), manifest.rows
    record = Record.read(path)
    rows = record.inputs[0].rows if isinstance(record.run, audit.Score | audit.Compare) else None
    return record, [path], rows


# ---- parts of a page


class Words:
    """The texts of a language."""

    def __init__(self, lang: Lang) -> None:
        self.lang = lang
        self.all = WORDS[lang]

    def __call__(self, key: str, **values: Any) -> str:
        return self.all[key].format(**values)

    def column(self, name: str) -> str:
        """What a column is called."""
        return NAMES[self.lang].get(name, (name, ""))[0]

    def columns(self, keys: str) -> list[str]:
        """Headings of a table, by their keys."""
        return [self.all[key] for key in keys.split()]


@dataclass
class Section:
    """A heading and what is below it. A block is a dict with one of tiles, facts, text, table, spec or notes."""

    id: str
    heading: str
    lead: str = ""
    blocks: list[dict[str, Any]] = field(default_factory=list)

    def tiles(self, items: list[tuple[str, ...]]) -> None:
        self.blocks.append({"tiles": [(*item, "")[:3] for item in items]})

    def facts(self, items: list[tuple[str, str]]) -> None:
        self.blocks.append({"facts": items})

    def text(self, text: str) -> None:
        self.blocks.append({"text": text})

    def table(
        self, caption: str, headings: Row, rows: Sequence[Row], foot: Row | None = None, text: Sequence[int] = (0,)
    ) -> None:
        self.blocks.append(
            {"table": {"caption": caption, "headings": headings, "rows": rows, "foot": foot, "text": text}}
        )

    def chart(
        self,
        title: str,
        spec: Spec,
        label: str,
        headings: Row,
        rows: Sequence[Row],
        caption: str = "",
        legend: Sequence[tuple[str, str]] = (),
        half: bool = False,
    ) -> None:
        """A chart, what it shows in words, and its data as a table; `half`: two go side by side where there is room."""
        self.blocks.append(
            {
                "spec": spec,
                "title": title,
                "label": label,
                "caption": caption,
                "legend": legend,
                "half": half,
                "data": {"headings": headings, "rows": rows},
            }
        )

    def notes(self, items: list[tuple[str, str]]) -> None:
        self.blocks.append({"notes": items})


@dataclass(frozen=True)
class About:
    """The file that a report is of."""

    record: Record
    schema: pa.Schema
    words: Words
    id: str | None
    kept: str
    """Where the record is: "inside" the file, "beside" it, or in the "manifest" of a dataset."""

    def has(self, name: str) -> bool:
        return name in self.schema.names

    def tell_of_ids(self, section: Section, ids: Sequence[str]) -> None:
        """That rows are numbered where there is no column of ids."""
        if self.id is not None and not ids:
            section.text(self.words("no_id", column=self.id))

    def made(self, facts: list[tuple[str, str]]) -> Section:
        """How the file was made."""
        words, record = self.words, self.record
        section = Section("run", words("run"), words(f"run_lead_{self.kept}", command=record.command))
        for kind, rules in record.rules():
            name = rules.program.name if kind == "program" else kind
            facts.append((words("program"), f"{name} · SHA-256 {rules.sha256}"))
        for input_ in record.inputs[:INPUTS]:
            rows = "" if input_.rows is None else words("n_rows", n=Count(input_.rows)) + " · "
            facts.append((words("input"), f"{input_.name} · {rows}SHA-256 {input_.sha256}"))
        if len(record.inputs) > INPUTS:
            facts.append((words("input"), words("more_inputs", n=Count(len(record.inputs) - INPUTS))))
        facts.append((words("made_on"), f"hensa {record.hensa} · {record.kernel} · pyarrow {record.pyarrow}"))
        section.facts(facts)
        section.text(words("verify"))
        return section

    def bonus_notes(self, key: str, program: Program) -> list[tuple[str, str]]:
        """That there are no bonuses, as nothing tells the stage before."""
        previous = program.lacks_previous(self.schema.names)
        return [("warn", self.words(key, name=program.name, column=previous))] if previous else []

    def ledger_notes(self) -> list[tuple[str, str]]:
        """What `hensa rows` found in messy input, as the metadata of the rows tell."""
        try:
            report = json.loads((self.schema.metadata or {})[KEY])
            found = {name: int(finding["count"]) for name, finding in report["findings"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            return []
        known = {name: self.words.all.get(f"ledger.{name}", text) for name, text in FINDINGS.items()}
        notes = [("", f"{n:,} {known[name]}") for name, n in found.items() if n and name in known]
        return notes or [("", self.words("ledger_clean"))]


def number(value: float | None) -> str:
    """A number that was measured, to six digits or more."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100_000 else f"{value:,.6g}"


def share_text(share: Share) -> str:
    """A share with a decimal if it is certain."""
    for digits in (1, 0):
        texts = {f"{float(end):.{digits}%}" for end in (share.low, share.high)}
        if len(texts) == 1:
            return texts.pop()
    return f"{float(share.low):.0%} – {float(share.high):.0%}"


def rate_text(share: Fraction) -> str:
    return f"{float(share * 100):g}%"


def cell(value: Any) -> str:
    """A cell of a row, which is text in CSV."""
    if value is None:
        return "–"
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except ArithmeticError:
            return str(value)
    if isinstance(value, int) or (isinstance(value, Decimal) and value == value.to_integral_value()):
        return f"{int(value):,}"
    return f"{value:,.6g}" if isinstance(value, float | Decimal) else str(value)


def bin_text(bin: Bin, words: Words, whole: bool) -> str:
    """What a bin is called."""

    def shown(edge: Edge) -> str:
        return f"{edge:,}"

    if bin.low is None:
        return words("below", high=shown(bin.high or 0))
    if bin.high is None:
        return words("from", low=shown(bin.low))
    if not whole:
        return words("between", low=shown(bin.low), high=shown(bin.high))
    last = bin.high - 1
    return shown(bin.low) if last == bin.low else f"{shown(bin.low)}–{shown(last)}"


def _count(bins: Bins, column: pa.Array) -> None:
    bins.add(numbers_of(column))


# ---- a run of `hensa score`


class Scored:
    """What a run paid."""

    def __init__(self, about: About, run: audit.Score) -> None:
        self._about, self._run = about, run
        self._program = program = run.program.program
        self._population = Population.from_json(json.dumps(run.population.moments))
        self.title = program.title_in(about.words.lang)
        rule, rates = program.rule, program.rates
        columns = list(program.columns)
        self._columns = [name for name in columns if about.has(name)]
        self._ids = [about.id] if about.id is not None and about.has(about.id) else []
        results = [name for name in ("stage", "score", "rate", "reward", "friend_reward") if about.has(name)]
        self.reads = {*self._columns, *self._ids, *results}
        self._shown = [*self._columns, *results]
        self._rows = self._paid = 0
        self._nulls: Counter[str] = Counter()
        previous = rule.previous if isinstance(rule, Stages) else None
        self._bins = {name: self._bins_of(name) for name in self._columns if name != previous}
        self._scores: Bins | None = None
        if isinstance(rule, StandardScore) and rates is not None and about.has("score"):
            self._scores = Bins(score_edges(rates.thresholds, rule.centre, rule.scale))
        self._base = program.reward.base if program.reward is not None and about.has(program.reward.base) else None
        self._known: list[Fraction] = []
        if rates is not None and isinstance(rule, Stages):
            self._known = [Fraction(0), *rates.shares]
        elif rates is not None:
            self._known = sorted({*rates.shares, *([Fraction(0)] if rates.below == "zero" else [])})
        self._by = "stage" if isinstance(rule, Stages) else "rate"
        has_bands = bool(self._known) and about.has(self._by)
        self._band_rows = np.zeros(len(self._known), dtype=np.int64) if has_bands else None
        self._band_points, self._band_base = GroupSums(len(self._known)), GroupSums(len(self._known))
        self._band_decimals: dict[int, Decimal] = dict.fromkeys(range(len(self._known)), Decimal(0))
        self._concentration = Concentration()
        self._top = Top(TOP)
        self._friends = GroupSums(1)
        events = rule.events if isinstance(rule, PerEvent) else ()
        self._events = {event.column: GroupSums(1) for event in events}

    def _bins_of(self, name: str) -> tuple[Bins, bool, Fraction | None]:
        """Bins that suit a column, whether they are of whole numbers, and the unit of a logarithmic scale."""
        kind = self._about.schema.field(name).type
        whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind)
        mean, sd = self._moments(name)
        if mean is not None and sd is not None and 0 < sd < abs(mean):
            return Bins(even_edges(mean, sd, whole)), whole, None
        unit = Fraction(1)
        if not whole and mean:
            unit = Fraction(10) ** min(0, int(np.floor(np.log10(abs(mean)))) - 2)
        return Bins(log_edges(unit)), whole, unit

    def _moments(self, name: str) -> tuple[float | None, float | None]:
        """The mean and SD that a column was scored by; None of several cohorts and of what is no measure."""
        rule, population = self._program.rule, self._population
        if self._run.by or name not in population.measures:
            return None, None
        ddof = rule.ddof if isinstance(rule, StandardScore) else 0
        return population[name].mean, replace(population[name], ddof=ddof).sd

    def add(self, batch: Batch) -> None:
        """Take in some rows."""
        self._rows += batch.num_rows
        for name in self._columns:
            self._nulls[name] += batch.column(name).null_count
        parts = [partial(_count, bins, batch.column(name)) for name, (bins, *_) in self._bins.items()]
        if self._scores is not None:
            parts.append(partial(_count, self._scores, batch.column("score")))
        reward = points_of(batch, "reward") if self._about.has("reward") else None
        if reward is not None:
            parts.append(partial(self._add_reward, batch, *reward))
        if self._band_rows is not None:
            parts.append(partial(self._add_bands, batch, reward))
        share_out(lambda part, _: parts[part](), len(parts), None, unit=1)  # each has counts and sums of its own
        if self._about.has("friend_reward"):
            points, _ = points_of(batch, "friend_reward")
            self._friends.add(points, np.zeros(len(points), dtype=np.int64))
        for name, sums in self._events.items():
            points, _ = points_of(batch, name)
            if reward is not None:
                points = np.where(reward[1], points, 0)
            sums.add(points, np.zeros(len(points), dtype=np.int64))

    def _add_reward(self, batch: Batch, points: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_]) -> None:
        self._paid += int(np.count_nonzero(points > 0))
        self._concentration.add(points[valid])
        self._top.add(batch, points, valid)

    def _add_bands(self, batch: Batch, reward: tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]] | None) -> None:
        column = batch.column(self._by)
        given = column.is_valid().to_numpy(zero_copy_only=False)
        if self._by == "stage":
            codes = numbers_of(column).astype(np.int64)
            if len(codes) and codes.max() >= len(self._known):
                raise DataError(f"column 'stage': found {codes.max()}, while the program has {len(self._known) - 1}.")
        else:
            rates = numbers_of(column)
            known = np.array([float(share) for share in self._known])
            codes = np.minimum(np.searchsorted(known, rates), len(known) - 1)
            wrong = np.flatnonzero(known[codes] != rates)
            if len(wrong):
                raise DataError(f"column 'rate': found {rates[wrong[0]]}, which is no rate of {self._program.name!r}.")
        assert self._band_rows is not None
        self._band_rows += np.bincount(codes, minlength=len(self._known))
        if reward is None:
            return
        self._band_points.add(reward[0][given], codes)
        if self._base is not None:
            base = batch.column(self._base).filter(pa.array(given))
            if not pa.types.is_decimal(base.type):
                try:
                    base = base.cast(pa.int64())
                except pa.ArrowInvalid:
                    base = base.cast(_POINTS)
            if pa.types.is_decimal(base.type):
                for code, total in decimals_by_group(base, codes).items():
                    self._band_decimals[code] = EXACT.add(self._band_decimals[code], total)
            else:
                self._band_base.add(base.fill_null(0).to_numpy(zero_copy_only=False), codes)

    # -- what was found

    def lead(self, n_rows: int) -> str:
        """The run in a line."""
        words, parts = self._about.words, []
        if self._run.month:
            parts.append(words("month_is", month=self._run.month))
        parts.append(words("n_rows", n=Count(n_rows)))
        return " · ".join(parts)

    def sections(self) -> Iterator[Section]:
        """The page, from top to bottom."""
        yield self._summary()
        if self._rows:
            yield self._measures()
            yield self._score()
            yield self._bands()
            yield self._event_table()
            yield self._shares()
            yield self._largest()
        yield self._quality()
        yield self._made()

    @property
    def _unscored(self) -> int:
        """Rows with no result."""
        return (
            self._rows - self._concentration.rows if self._about.has("reward") else max(self._nulls.values(), default=0)
        )

    def _base_total(self) -> int | Decimal | None:
        if self._base is None or self._band_rows is None or not self._about.has("reward"):
            return None
        return _added(self._band_base.totals(), self._band_decimals.values())

    def _summary(self) -> Section:
        words, total = self._about.words, self._concentration.total
        section = Section("summary", words("summary"))
        tiles: list[tuple[str, ...]] = [(words("rows"), f"{self._rows:,}", words("unscored", n=Count(self._unscored)))]
        if self._about.has("reward"):
            tiles.append((words("points_paid"), f"{total:,}", words("to_rows", n=Count(self._paid))))
            base = self._base_total()
            if base:
                share = percent(Fraction(total), Fraction(base))
                of = words("share_of", column=words.column(self._base or ""), total=cell(base))
                tiles.append((words("mean_rate"), share, of))
            if total > 0 and not self._concentration.negatives:
                one = self._concentration.share_of_top(Fraction(1, 100))
                tiles.append((words("top_1"), share_text(one), words("top_rows", n=Count(one.rows))))
        if self._about.has("friend_reward"):
            tiles.append((words("friend_points_paid"), f"{self._friends.totals()[0]:,}"))
        section.tiles(tiles)
        if not self._rows:
            section.text(words("no_rows"))
        return section

    def _measures(self) -> Section:
        words, rule = self._about.words, self._program.rule
        lead = "population_lead" if self._program.measures else "population_lead_plain"
        section = Section("population", words("population"), words(lead))
        facts = []
        for name, (bins, whole, unit) in self._bins.items():
            filled = bins.filled()
            if not filled:
                continue
            mean, sd = self._moments(name)
            title, labels = words.column(name), [bin_text(bin, words, whole and unit != 0) for bin in filled]
            legend = []
            if mean is not None:
                legend.append(("var(--mark)", words("mean_is", mean=number(mean))))
                if sd:
                    legend.append(("var(--orange-soft)", words("sd_is", sd=number(sd))))
            spec = charts.histogram(
                filled, labels, title, words("rows"), mean, sd, None if unit is None else float(unit)
            )
            peak = max(filled, key=lambda bin: bin.count)
            section.chart(
                title,
                spec,
                words(
                    "histogram_label",
                    column=title,
                    bin=labels[filled.index(peak)],
                    n=Count(peak.count),
                    low=cell(bins.lowest),
                    high=cell(bins.highest),
                ),
                [title, words("rows"), words("share")],
                [
                    (label, f"{bin.count:,}", percent(bin.count, self._rows))
                    for label, bin in zip(labels, filled, strict=True)
                ],
                legend=legend,
                half=True,
            )
            if name in (measure.column for measure in self._program.measures):
                facts.append((name, bins, mean, sd))
        if facts and self._run.by:
            section.text(words("own_cohort", n=Count(self._run.population.cohorts)))
        elif facts and isinstance(rule, StandardScore):
            rows = [
                (words.column(name), number(mean), number(sd), cell(bins.lowest), cell(bins.highest))
                for name, bins, mean, sd in facts
            ]
            section.table(words("moments"), words.columns("measure mean sd least most"), rows)
        return section

    def _score(self) -> Section:
        words, rule, rates = self._about.words, self._program.rule, self._program.rates
        section = Section("scores", words("scores"), words("scores_lead"))
        if self._scores is None or rates is None or not isinstance(rule, StandardScore):
            return section
        # As many bins as the rate table needs, and not one more than has rows beyond it.
        bins = self._scores.all()
        places = np.flatnonzero(self._scores.counts)
        if not len(places):
            return section
        bins = bins[min(places[0], 1) : max(places[-1] + 1, len(bins) - 1)]
        labels = [bin_text(bin, words, False) for bin in bins]
        spec = charts.scores(bins, labels, words("score"), words("rows"), float(rule.centre))
        low, high = self._scores.lowest, self._scores.highest
        section.chart(
            words("scores_title"),
            spec,
            words("scores_label", low=number(low), high=number(high), centre=cell(rule.centre)),
            [words("score"), words("rows"), words("share")],
            [
                (label, f"{bin.count:,}", percent(bin.count, self._rows))
                for label, bin in zip(labels, bins, strict=True)
                if bin.count
            ],
            caption=words("scores_open", low=cell(bins[-1].low), n=Count(bins[-1].count)) if bins[-1].count else "",
            legend=[("var(--mark)", words("centre_is", centre=cell(rule.centre)))],
        )
        domain = _domain(bins)
        steps = [
            (float(threshold), float(share * 100))
            for threshold, share in zip(rates.thresholds, rates.shares, strict=True)
        ]
        lowest = steps[0][1] if rates.below == "first" else 0.0
        section.chart(
            words("rate_title"),
            charts.rate_line([(float("-inf"), lowest), *steps], domain, words("score"), words("rate_axis")),
            words(
                "rate_label", n=Count(len(steps)), low=rate_text(min(rates.shares)), high=rate_text(max(rates.shares))
            ),
            words.columns("score_from rate"),
            [(f"{step.threshold:,}", rate_text(share)) for step, share in zip(rates.steps, rates.shares, strict=True)],
        )
        return section

    def _groups(self) -> list[tuple[str, list[int]]]:
        """The bands of the table, and the codes in each."""
        words, known = self._about.words, self._known
        if self._by == "stage":
            names = [words("no_stage"), *(words("stage_is", n=n) for n in range(1, len(known)))]
            return [
                (f"{name} · {rate_text(share)}", [i]) for i, (name, share) in enumerate(zip(names, known, strict=True))
            ]
        size = -(-len(known) // BANDS)
        groups = [list(range(start, min(start + size, len(known)))) for start in range(0, len(known), size)]
        return [
            (
                rate_text(known[group[0]])
                if len(group) == 1
                else f"{rate_text(known[group[0]])} – {rate_text(known[group[-1]])}",
                group,
            )
            for group in groups
        ]

    def _bands(self) -> Section:
        words = self._about.words
        section = Section("bands", words("bands"), words("bands_lead"))
        if self._band_rows is None:
            if self._known:
                section.text(words("no_column", column=self._by))
            return section
        counts = self._band_rows.tolist()
        points, bases = self._band_points.totals(), self._band_base.totals()
        has_points, has_base = self._about.has("reward"), self._about.has("reward") and self._base is not None
        found = []
        for name, codes in self._groups():
            base = _added([bases[c] for c in codes], [self._band_decimals[c] for c in codes])
            found.append((name, sum(counts[c] for c in codes), base, sum(points[c] for c in codes)))
        names, rows, _, paid = map(list, zip(*found, strict=True))
        all_rows, all_points = sum(rows), sum(paid)

        def line(name: str, n: int, base: int | Decimal, own: int) -> list[str]:
            cells = [name, f"{n:,}", percent(n, all_rows)]
            if has_base:
                cells.append(cell(base))
            return [*cells, f"{own:,}", percent(own, all_points)] if has_points else cells

        headings = [words(self._by if self._by == "stage" else "rate"), words("rows"), words("share_rows")]
        if has_base:
            headings.append(words.column(self._base or ""))
        if has_points:
            headings += words.columns("points share_points")
        series = [
            (words("share_rows"), [n / (all_rows or 1) for n in rows], [words("n_rows", n=Count(n)) for n in rows])
        ]
        if has_points and all_points > 0:
            texts = [words("n_points", n=Count(own)) for own in paid]
            series.append((words("share_points"), [own / all_points for own in paid], texts))
        first = max(range(len(rows)), key=lambda i: rows[i])
        section.chart(
            words("bands_title"),
            charts.bars_by_band(names, series, words("share")),
            words("bands_label", band=names[first], share=percent(rows[first], all_rows)),
            headings,
            [line(*each) for each in found],
            legend=list(zip(("var(--blue)", "var(--orange)"), (name for name, *_ in series), strict=False)),
        )
        total_base = self._base_total() or 0
        section.blocks[-1]["data"] = None
        section.table(
            words("bands"),
            headings,
            [line(*each) for each in found],
            line(words("all"), all_rows, total_base, all_points),
        )
        return section

    def _event_table(self) -> Section:
        words, rule = self._about.words, self._program.rule
        section = Section("events", words("events"), words("events_lead"))
        if not isinstance(rule, PerEvent):
            return section
        rows, total, friends = [], 0, 0
        for name, referrer, friend in rule.amounts(self._run.month):
            [count] = self._events[name].totals()
            total, friends = total + count * referrer, friends + count * friend
            cells = [words.column(name), f"{count:,}", f"{referrer:,}", f"{count * referrer:,}"]
            rows.append([*cells, *([f"{friend:,}", f"{count * friend:,}"] if rule.pays_friends else [])])
        headings = words.columns("event count amount points")
        foot = [words("all"), "", "", f"{total:,}"]
        if rule.pays_friends:
            headings += words.columns("friend_amount friend_points_paid")
            foot += ["", f"{friends:,}"]
        section.table(words("events"), headings, rows, foot)
        return section

    def _shares(self) -> Section:
        words, found = self._about.words, self._concentration
        section = Section("concentration", words("concentration"), words("concentration_lead"))
        if not self._about.has("reward") or not found.rows:
            return section
        if found.negatives or found.total <= 0:
            section.text(words("no_shares"))
            return section
        tops = [(percent(part, digits=digits), found.share_of_top(part)) for part, digits in _PARTS]
        section.tiles(
            [
                (words("top_part", part=part), share_text(share), words("top_rows", n=Count(share.rows)))
                for part, share in tops
            ]
        )
        curve = found.curve()
        section.chart(
            words("lorenz"),
            charts.lorenz(curve, words("lorenz_x"), words("lorenz_y")),
            words("lorenz_label", ten=share_text(tops[2][1])),
            [words("top_rows_heading"), words("rows"), words("share_points")],
            [(words("top_part", part=part), f"{share.rows:,}", share_text(share)) for part, share in tops],
            caption=words("lorenz_caption"),
        )
        return section

    def _largest(self) -> Section:
        words = self._about.words
        section = Section("top", words("top"), words("top_lead"))
        found = list(self._top)
        if not found:
            return section
        self._about.tell_of_ids(section, self._ids)
        shown = [name for name in self._shown if name not in self._ids]
        headings, rows = _rank_headings(words, self._about, self._ids), []
        for rank, (place, row) in enumerate(found, start=1):
            rows.append(
                [
                    f"{rank}",
                    *_id_cells(self._about, self._ids, place, row),
                    *(_result(name, row[name]) for name in shown),
                ]
            )
        headings += [words.all.get(f"column.{name}", words.column(name)) for name in shown]
        section.table(words("top"), headings, rows, text=(0, 1) if len(headings) > len(shown) + 1 else (0,))
        return section

    def _quality(self) -> Section:
        words, program, run = self._about.words, self._program, self._run
        section = Section("notes", words("notes"))
        notes = []
        if self._unscored:
            notes.append(
                ("warn", words("note_unscored", n=Count(self._unscored), share=percent(self._unscored, self._rows)))
            )
        notes += [
            ("warn", words("note_nulls", column=words.column(name), n=Count(n)))
            for name, n in self._nulls.items()
            if n and not (isinstance(program.rule, Stages) and name == program.rule.previous)
        ]
        if self._rows and not any(level for level, _ in notes):
            notes.append(("", words("note_complete")))
        for name in self._population.measures:
            if self._moments(name)[1] == 0:
                notes.append(("warn", words("note_constant", column=words.column(name))))
        if run.population.source == "file":
            notes.append(("", words("note_stored", n=Count(run.population.count))))
        if run.by:
            notes.append(("", words("note_cohorts", n=Count(run.population.cohorts), by=", ".join(run.by))))
        if run.month is None:
            notes.append(("", words("note_no_month")))
        elif not program.holds(*days_of(run.month)):
            notes.append(("warn", words("note_any_month", month=run.month)))
        notes += self._about.bonus_notes("note_no_bonuses", program)
        notes += self._about.ledger_notes()
        ours = unpublished(program, words.lang)
        if ours:
            notes.append(("warn", words("note_reconstructed", what=ours)))
        section.notes(notes)
        return section

    def _made(self) -> Section:
        words, run, program = self._about.words, self._run, self._program
        facts = [(words("month"), run.month or words("not_stated"))]
        first, last = program.effective_from, program.effective_until
        if first or last:
            dates = "until" if not first else "since" if not last else "from_until"
            facts.append((words("in_force"), words(dates, first=first, last=last)))
        if program.measures:
            source = words(f"population_{run.population.source}")
            facts.append(
                (words("scored_against"), words("population_is", source=source, n=Count(run.population.count)))
            )
        facts.append((words("without_result"), words("n_rows", n=Count(self._unscored))))
        return self._about.made(facts)


_PARTS = ((Fraction(1, 1000), 1), (Fraction(1, 100), 0), (Fraction(1, 10), 0), (Fraction(1, 2), 0))


def _added(whole: Iterable[int], decimals: Iterable[Decimal]) -> int | Decimal:
    """The sum, with all digits; a whole one as an integer."""
    total = Decimal(0)
    for part in decimals:
        total = EXACT.add(total, part)
    return EXACT.add(total, Decimal(sum(whole))) if total else sum(whole)


def _domain(bins: Sequence[Bin]) -> tuple[float, float]:
    spans = charts.spans(bins)
    return spans[0][0], spans[-1][1]


def _rank_headings(words: Words, about: About, ids: Sequence[str]) -> list[str]:
    return [words("rank"), *(ids or ([] if about.id is None else [words("row")]))]


def _id_cells(about: About, ids: Sequence[str], place: int, row: dict[str, Any]) -> list[str]:
    if about.id is None:
        return []
    return [str(row[name]) for name in ids] or [f"{place:,}"]


def _result(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name == "rate":
        return f"{float(value) * 100:.10g}%"
    return f"{float(value):.4f}" if name == "score" else cell(value)


# ---- a comparison


class Compared:
    """Who gains and who loses under other programs."""

    def __init__(self, about: About, run: audit.Compare) -> None:
        self._about, self._run = about, run
        names = [rules.program.name for rules in run.programs]
        if run.budget is not None:
            names.append(f"{names[-1]}-scaled")
        self._names = names
        self.title = about.words("compared_title", first=names[0], others=about.words("comma").join(names[1:]))
        self._ids = [about.id] if about.id is not None and about.has(about.id) else []
        self._band = run.band if run.band is not None and about.has(run.band) else None
        self._edges: list[Edge] = list(run.edges) if self._band else wide_edges()
        self._columns = [f"{name}_reward" for name in names]
        missing = [name for name in self._columns if not about.has(name)]
        if missing:
            raise HensaError(f"there is no column {missing[0]!r}, though its record tells of that program.")
        self.reads = {*self._columns, *self._ids, *([self._band] if self._band else [])}
        self._changes = {name: Changes(self._edges) for name in names[1:]}
        self._costs = [GroupSums(1) for _ in names]

    def add(self, batch: Batch) -> None:
        """Take in some rows."""
        paid = [points_of(batch, name) for name in self._columns]
        zeros = np.zeros(batch.num_rows, dtype=np.int64)
        for cost, (points, _) in zip(self._costs, paid, strict=True):
            cost.add(points, zeros)
        before, given = paid[0]
        bands, known = points_of(batch, self._band) if self._band else (before, given)
        bins = Bins(self._edges)
        codes = np.where(known, bins.codes(bands), len(self._edges) + 1)
        for name, (after, also) in zip(self._names[1:], paid[1:], strict=True):
            self._changes[name].add(batch, before, after, given & also, codes)

    def lead(self, n_rows: int) -> str:
        """The comparison in a line."""
        return self._about.words("n_rows", n=Count(n_rows))

    def sections(self) -> Iterator[Section]:
        """The page, from top to bottom."""
        words = self._about.words
        costs = [cost.totals()[0] for cost in self._costs]
        section = Section("total", words("total"), words("total_lead", first=self._names[0]))
        section.tiles(
            [
                (name, f"{cost:,}", "" if not i else _signed(cost - costs[0], words))
                for i, (name, cost) in enumerate(zip(self._names, costs, strict=True))
            ]
        )
        yield section
        notes = []
        for name, changes in self._changes.items():
            *parts, total = changes.tallies()
            yield from _change_sections(
                self._about,
                name,
                changes,
                parts,
                total,
                self._edges,
                words.column(self._band or ""),
                self._band is None,
                self._ids,
                self._columns[0],
                f"{name}_reward",
            )
            if total.missing:
                notes.append(("warn", words("note_missing", n=Count(total.missing), first=self._names[0], other=name)))
        quality = Section("notes", words("notes"))
        notes = notes or [("", words("note_all_compared"))]
        for rules in self._run.programs:
            notes += self._about.bonus_notes("note_bonuses_left_out", rules.program)
        quality.notes([*notes, *self._about.ledger_notes()])
        yield quality
        yield self._about.made([(words("month"), self._run.month)] if self._run.month else [])


# ---- a restatement


class Restated:
    """Who was paid too little or too much."""

    def __init__(self, about: About, run: audit.Restate) -> None:
        self._about, self._run = about, run
        self.title = about.words("restated_title")
        self._ids = [] if about.id is None else [name for name in run.id if about.has(name)]
        self.reads = {*self._ids, "status", "before", "after", "due"}
        missing = [name for name in ("status", "before", "after", "due") if not about.has(name)]
        if missing:
            raise HensaError(f"there is no column {missing[0]!r}, which restate writes.")
        self._edges = wide_edges()
        self._changes = Changes(self._edges)
        self._status: Counter[str] = Counter()
        self._deltas: dict[str, GroupSums] = {}
        self._due = GroupSums(2)
        self._n_due = 0

    def add(self, batch: Batch) -> None:
        """Take in some rows."""
        before, _ = points_of(batch, "before")
        after, _ = points_of(batch, "after")
        due, _ = points_of(batch, "due")
        codes = Bins(self._edges).codes(before)
        self._changes.add(batch, before, after, np.ones(batch.num_rows, dtype=bool), codes)
        self._due.add(due, (due < 0).astype(np.int64))
        self._n_due += int(np.count_nonzero(due))
        status = batch.column("status")
        status = status.dictionary_decode() if pa.types.is_dictionary(status.type) else status
        names = np.asarray(status.to_pylist(), dtype=object)
        for name in dict.fromkeys(names.tolist()):
            own = names == name
            self._status[name] += int(np.count_nonzero(own))
            self._deltas.setdefault(name, GroupSums(1)).add(
                (after - before)[own], np.zeros(int(own.sum()), dtype=np.int64)
            )

    def lead(self, n_rows: int) -> str:
        """The restatement in a line."""
        words = self._about.words
        return words("restated_lead", n=Count(n_rows), policy=words(f"policy_{self._run.policy}"))

    def sections(self) -> Iterator[Section]:
        """The page, from top to bottom."""
        words, status = self._about.words, self._status
        to_pay, to_get_back = self._due.totals()
        section = Section("total", words("due_total"))
        tiles: list[tuple[str, ...]] = [
            (words("to_pay"), f"{to_pay:,}"),
            (words("to_get_back"), f"{to_get_back:,}"),
            (words("due"), f"{to_pay + to_get_back:+,}", words("to_ids", n=Count(self._n_due))),
        ]
        before = self._about.record.inputs[0].rows
        if before is not None:
            unchanged = before - status["underpaid"] - status["overpaid"] - status["missing_after"]
            tiles.append((words("status.unchanged"), f"{unchanged:,}"))
        section.tiles(tiles)
        rows = [
            (words(f"status.{name}"), f"{status[name]:,}", f"{self._deltas[name].totals()[0]:+,}")
            for name in ("underpaid", "overpaid", "missing_before", "missing_after")
            if status[name]
        ]
        *parts, total = self._changes.tallies()
        section.table(
            words("by_status"),
            words.columns("status ids difference"),
            rows,
            (words("all"), f"{total.rows:,}", f"{total.difference:+,}"),
        )
        yield section
        yield from _change_sections(
            self._about, "", self._changes, parts, total, self._edges, "", True, self._ids, "before", "after"
        )
        quality = Section("notes", words("notes"))
        notes = [
            ("warn", words("note_status", n=Count(status[name]), what=words(f"status.{name}")))
            for name in ("missing_before", "missing_after")
            if status[name]
        ]
        quality.notes(notes or [("", words("note_matched"))])
        yield quality
        facts = [(words("policy"), words(f"policy_{self._run.policy}")), (words("points_column"), self._run.points)]
        yield self._about.made(facts)


def _signed(points: int, words: Words) -> str:
    return words("difference_is", n=f"{points:+,}" if points else "0")


def _colour(bin: Bin) -> str:
    return "var(--gain)" if bin.low is not None and bin.low > 0 else "var(--lose)"


def _change_sections(
    about: About,
    name: str,
    changes: Changes,
    parts: Sequence[Tally],
    total: Tally,
    edges: Sequence[Edge],
    band: str,
    by_points: bool,
    ids: Sequence[str],
    before: str,
    after: str,
) -> Iterator[Section]:
    """By band, by size, and the largest."""
    words = about.words
    suffix = f"-{name}" if name else ""
    against = words("against", name=name) if name else ""
    column = words("points_before") if by_points else band
    section = Section(f"bands{suffix}", words("change_bands") + against, words("change_bands_lead", column=column))
    bins = [*Bins(edges).all(), None]
    used = [
        (bin_text(bin, words, True) if bin else words("unknown"), part)
        for bin, part in zip(bins, parts, strict=True)
        if part.rows
    ]
    # A restatement writes none of the rows that stay, unless they are missing on a side.
    has_stays = bool(name or total.stays)
    headings = [column, *words.columns(f"gain lose {'stay ' if has_stays else ''}gained lost difference")]

    def line(name: str, part: Tally) -> list[str]:
        counts = (part.gains, part.loses, *([part.stays] if has_stays else []), part.gained, part.lost)
        return [name, *(f"{count:,}" for count in counts), f"{part.difference:+,}" if part.difference else "0"]

    if used:
        section.chart(
            words("change_bands_title"),
            charts.diverging(
                [name for name, _ in used],
                [part.gained for _, part in used],
                [part.lost for _, part in used],
                words("points"),
                (words("gained"), words("lost")),
            ),
            words("change_bands_label", gained=f"{total.gained:,}", lost=f"{total.lost:,}"),
            headings,
            [],
            legend=[("var(--gain)", words("gained")), ("var(--lose)", words("lost"))],
        )
        section.blocks[-1]["data"] = None
        section.table(words("change_bands"), headings, [line(*each) for each in used], line(words("all"), total))
    yield section
    sizes = Section(f"sizes{suffix}", words("sizes") + against, words("sizes_lead"))
    filled = changes.sizes.filled()
    if filled and (len(filled) > 1 or filled[0].low != 0):
        labels = [bin_text(bin, words, True) for bin in filled]
        colours = ["var(--muted)" if bin.low == 0 else _colour(bin) for bin in filled]
        sizes.chart(
            words("sizes_title"),
            charts.histogram(filled, labels, words("difference"), words("rows"), unit=1.0, colours=colours),
            words("sizes_label", gains=Count(total.gains), loses=Count(total.loses), stays=Count(total.stays)),
            words.columns("difference rows share"),
            [
                (label, f"{bin.count:,}", percent(bin.count, total.rows))
                for label, bin in zip(labels, filled, strict=True)
            ],
            legend=[
                ("var(--gain)", words("gain")),
                ("var(--lose)", words("lose")),
                *([("var(--muted)", words("stay"))] if has_stays else []),
            ],
        )
    yield sizes
    largest = Section(f"largest{suffix}", words("largest") + against, words("largest_lead"))
    if any(changes.gains) or any(changes.losses):
        about.tell_of_ids(largest, ids)
    for key, top in (("largest_gains", changes.gains), ("largest_losses", changes.losses)):
        rows = []
        for rank, (place, row) in enumerate(top, start=1):
            paid = [int(row[column] or 0) for column in (before, after)]
            cells = [*_id_cells(about, ids, place, row), *(f"{points:,}" for points in paid), f"{paid[1] - paid[0]:+,}"]
            rows.append([f"{rank}", *cells])
        if rows:
            headings = [*_rank_headings(words, about, ids), *words.columns("before after difference")]
            n_ids = len(headings) - 4
            largest.table(words(key), headings, rows, text=range(n_ids + 1))
    yield largest
