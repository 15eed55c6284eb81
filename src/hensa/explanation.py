"""Why a row got its rate and what the next one takes: facts, and a text in English or Japanese to answer a member."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import partial
from itertools import groupby
from typing import Any, Literal, TypeAlias, get_args

from hensa.cohorts import names_of
from hensa.counts import Count
from hensa.errors import DataError
from hensa.next_step import Further, FurtherStages, paying_runs, rate_of
from hensa.population import Population
from hensa.program import Criterion, PerEvent, Program, RateTable, Stages, StandardScore
from hensa.scoring import score

__all__ = ["NAMES", "WORDS", "Explanation", "Lang", "explain", "unpublished"]

Lang: TypeAlias = Literal["en", "ja"]
Facts: TypeAlias = dict[str, Any]
Words: TypeAlias = Mapping[str, str]

WORDS: dict[str, Words] = {
    "en": {
        "paid": "Your rate is {rate} and your reward {points:point}.",
        "rated": "Your rate is {rate}.",
        "unscored": "You have no score.",
        "missing": "{name}: not known.",
        "all_alike": "{name}: the same for all of them.",
        "population": "You are compared with a population of {count:member}.",
        "cohort": "You are compared with the {count:member} of {cohort}.",
        "measure": "{name}: you have {amount}. The mean is {mean} and the standard deviation {sd}, so your standard "
        "score is ({value} - {mean}) / {sd}{scaled} + {centre} = {standard_score}.",
        "scaled": " x {scale}",
        "constant": "{name}: you have {amount}, as has every one of them, so your standard score is {centre}.",
        "score": "Your score is {how}: {score}.",
        "score_name": "Score",
        "single": "this standard score",
        "mean": "the mean of these standard scores",
        "weighted": "the mean of these standard scores with the weights {weights}",
        "step": "A score from {threshold} to below {above} is on step {step}, which pays {rate}.",
        "lowest": "A score below {above} is on step {step}, the lowest, which pays {rate}.",
        "highest": "A score of {threshold} or more is on step {step}, the highest, which pays {rate}.",
        "only": "Every score is on step {step}, which pays {rate}.",
        "off_table": "A score below {above} is on no step and pays nothing.",
        "reward": "{base}: {value} x {rate} = {product}{rounded}{capped}, so your reward is {points:point}.",
        "floor": ", rounded down",
        "half_up": ", rounded half up",
        "ceil": ", rounded up",
        "capped": ", at most {cap}",
        "no_next": "There is no higher step.",
        "next": "The next step, {step}, starts at a score of {threshold} and pays {rate}. "
        "All else being equal, it takes:",
        "named": "A rate of {wanted} or more is paid from step {step} on, at a score of {threshold}. "
        "All else being equal, it takes:",
        "named_paid": "You are paid {wanted} or more already.",
        "named_none": "No higher step pays {wanted} or more.",
        "further": "- {name}: {clauses}.",
        "and": "; ",
        "fixed": "{number} more if the mean and the standard deviation stay as they are",
        "own": "{number} more when your own number moves them too",
        "same": "{number} more, also when your own number moves the mean and the standard deviation",
        "fixed_none": "no number reaches it if the mean and the standard deviation stay as they are",
        "own_none": "no number reaches it when your own number moves the mean and the standard deviation too",
        "weight_none": "more does not raise your score",
        "reconstructed": "Not published, and filled in by us: {what}.",
        "comma": ", ",
        "rule.kind": "the formula of the score",
        "rule.measures": "what is measured, and the weights",
        "rule.scale": "the points of score per standard deviation",
        "rule.centre": "the score of the mean",
        "rule.ddof": "that the variance divides by {divisor}",
        "rule.constant": "the standard score where all members have the same",
        "rates.below": "what is paid below the table",
        "rates.steps": "the rate of step {step}",
        "rates.steps.run": "the rates of steps {step} to {last}",
        "rates.steps.all": "the rates of the steps",
        "reward.base": "what the rate is a share of",
        "reward.rounding": "how points are rounded",
        "reward.cap": "the most points",
        "on_stage": "{name}: you have {amount}, which reaches stage {stage}.",
        "on_no_stage": "{name}: you have {amount}, which reaches no stage.",
        "stage": "You are on the highest of these, stage {stage}, which pays {rate}.",
        "no_stage": "You are on no stage, and nothing is paid.",
        "bonus": "Stages that you reach for the first time pay {bonus:point} once.",
        "stage_reward": "{base}: {value} x {rate} = {product}{rounded}; with what is paid once{capped}, your reward is "
        "{points:point}.",
        "no_next_stage": "There is no higher stage.",
        "next_stage": "The next stage, {stage}, pays {rate}{once}. Any one of these reaches it or a higher one:",
        "named_stage": "A rate of {wanted} or more is paid from stage {stage} on{once}. Any one of these reaches it:",
        "once": ", and {bonus:point} once when it is first reached",
        "named_no_stage": "No higher stage pays {wanted} or more.",
        "more": "{number} more",
        "none": "no number does",
        "rule.criteria": "what reaches the stages",
        "rule.previous": "which stage counts as the one before",
        "rates.stage": "the rate of stage {step}",
        "rates.stage.run": "the rates of stages {step} to {last}",
        "referrer_paid": "The referrer is paid {points:point}.",
        "friend_paid": "Friends are paid {points:point}.",
        "unpaid": "It is not known what is paid.",
        "event": "{name}: {amount}{clauses}.",
        "to_referrer": "; {each:point} each to the referrer, {points} in all",
        "to_friend": "; {each:point} each to the friend, {points} in all",
        "to_nobody": "; nothing is paid for these",
        "rule.events": "the points for {step}",
        "rule.campaigns": "the points for {step} in this month",
        "rule.events.all": "the points for each event",
        "rule.campaigns.all": "the points of campaigns",
        "rule.bonuses": "what stages pay once",
        "effective_from": "since when it is in force",
        "effective_until": "until when it is in force",
    },
    "ja": {
        "paid": "ポイント率は{rate}、付与ポイントは{points}ポイントです。",
        "rated": "ポイント率は{rate}です。",
        "unscored": "スコアはありません。",
        "missing": "{name}が不明です。",
        "all_alike": "{name}は全員が同じ値です。",
        "population": "集計対象の{count}人と比べています。",
        "cohort": "{cohort}の{count}人と比べています。",
        "measure": "{name}は{amount}です。平均は{mean}、標準偏差は{sd}なので、偏差値は"
        "（{value} - {mean}）÷ {sd}{scaled} + {centre} = {standard_score}です。",
        "scaled": " × {scale}",
        "constant": "{name}は{amount}で、全員が同じ値なので、偏差値は{centre}です。",
        "score": "スコアは{how}で、{score}です。",
        "score_name": "スコア",
        "single": "この偏差値",
        "mean": "これらの偏差値の平均",
        "weighted": "これらの偏差値の加重平均（重みは{weights}）",
        "step": "スコア{threshold}以上{above}未満はステップ{step}で、ポイント率は{rate}です。",
        "lowest": "スコア{above}未満は一番下のステップ{step}で、ポイント率は{rate}です。",
        "highest": "スコア{threshold}以上は一番上のステップ{step}で、ポイント率は{rate}です。",
        "only": "どのスコアもステップ{step}で、ポイント率は{rate}です。",
        "off_table": "スコア{above}未満はどのステップにも届かず、ポイントは付きません。",
        "reward": "{base}{value} × {rate} = {product}{rounded}{capped}なので、付与ポイントは{points}ポイントです。",
        "floor": "、端数切り捨て",
        "half_up": "、端数四捨五入",
        "ceil": "、端数切り上げ",
        "capped": "、上限{cap}",
        "no_next": "これより上のステップはありません。",
        "next": "次のステップ{step}はスコア{threshold}以上で、ポイント率は{rate}です。"
        "ほかの数値が同じ場合に必要な数は次のとおりです。",
        "named": "{wanted}以上のポイント率はステップ{step}（スコア{threshold}以上）からです。"
        "ほかの数値が同じ場合に必要な数は次のとおりです。",
        "named_paid": "ポイント率はすでに{wanted}以上です。",
        "named_none": "ポイント率が{wanted}以上になる上のステップはありません。",
        "further": "・{name}：{clauses}。",
        "and": "。",
        "fixed": "平均と標準偏差が変わらなければ、あと{number}",
        "own": "ご自身の数による平均と標準偏差の変化も含めると、あと{number}",
        "same": "あと{number}（ご自身の数による平均と標準偏差の変化を含めても同じです）",
        "fixed_none": "平均と標準偏差が変わらなければ、いくつ増えても届きません",
        "own_none": "ご自身の数による平均と標準偏差の変化も含めると、いくつ増えても届きません",
        "weight_none": "増えてもスコアは上がりません",
        "reconstructed": "次の点は公表されておらず、当方で補ったものです：{what}。",
        "comma": "、",
        "rule.kind": "スコアの式",
        "rule.measures": "対象となる数とその重み",
        "rule.scale": "標準偏差あたりの点数",
        "rule.centre": "平均のときの偏差値",
        "rule.ddof": "分散を{divisor}で割ること",
        "rule.constant": "全員が同じ値のときの偏差値",
        "rates.below": "表の一番下に届かない場合の扱い",
        "rates.steps": "ステップ{step}のポイント率",
        "rates.steps.run": "ステップ{step}から{last}のポイント率",
        "rates.steps.all": "各ステップのポイント率",
        "reward.base": "ポイント率を掛ける対象",
        "reward.rounding": "ポイントの端数処理",
        "reward.cap": "ポイントの上限",
        "on_stage": "{name}は{amount}で、ステージ{stage}に届いています。",
        "on_no_stage": "{name}は{amount}で、どのステージにも届いていません。",
        "stage": "このうち一番高いステージ{stage}となり、ポイント率は{rate}です。",
        "no_stage": "ステージがないため、ポイントは付きません。",
        "bonus": "初めて届いたステージのボーナスは{bonus}ポイントです（1回限り）。",
        "stage_reward": "{base}{value} × {rate} = {product}{rounded}に、1回限りのボーナスを加えて{capped}、"
        "付与ポイントは{points}ポイントです。",
        "no_next_stage": "これより上のステージはありません。",
        "next_stage": "次のステージ{stage}のポイント率は{rate}{once}です。"
        "次のどれか一つで、このステージかそれより上に届きます。",
        "named_stage": "{wanted}以上のポイント率はステージ{stage}から{once}です。次のどれか一つで届きます。",
        "once": "、初めて届いたときのボーナスは{bonus}ポイント（1回限り）",
        "named_no_stage": "ポイント率が{wanted}以上になる上のステージはありません。",
        "more": "あと{number}",
        "none": "いくつ増えても届きません",
        "rule.criteria": "ステージの条件",
        "rule.previous": "前のステージの数え方",
        "rates.stage": "ステージ{step}のポイント率",
        "rates.stage.run": "ステージ{step}から{last}のポイント率",
        "referrer_paid": "紹介者への付与は{points}ポイントです。",
        "friend_paid": "お友達への付与は{points}ポイントです。",
        "unpaid": "付与ポイントは不明です。",
        "event": "{name}は{amount}です。{clauses}",
        "to_referrer": "紹介者には1件につき{each}ポイント、計{points}ポイントが付きます。",
        "to_friend": "お友達には1件につき{each}ポイント、計{points}ポイントが付きます。",
        "to_nobody": "ポイントは付きません。",
        "rule.events": "{step}のポイント数",
        "rule.campaigns": "当月の{step}のポイント数",
        "rule.events.all": "各対象のポイント数",
        "rule.campaigns.all": "キャンペーンのポイント数",
        "rule.bonuses": "1回限りのボーナス",
        "effective_from": "開始日",
        "effective_until": "終了日",
    },
}
"""The sentences, by language."""

NAMES: dict[str, dict[str, tuple[str, str]]] = {
    "en": {
        "new_referrals": ("New referrals", ""),
        "ad_users": ("Ad users", ""),
        "friend_points": ("Friend points", ""),
        "cumulative_referrals": ("Friends", ""),
        "own_points": ("Own points", ""),
        "stage_before": ("Stage reached before", ""),
        "registrations": ("Registrations", ""),
        "first_valid_ads": ("First valid ads", ""),
        "first_exchanges": ("First exchanges", ""),
        "early_first_ads": ("Early first ads", ""),
    },
    "ja": {
        "new_referrals": ("新規紹介登録者数", "人"),
        "ad_users": ("広告利用者数", "人"),
        "friend_points": ("有効ポイント", "ポイント"),
        "cumulative_referrals": ("ハピ友の人数", "人"),
        "own_points": ("ご自身の有効ポイント", "ポイント"),
        "stage_before": ("これまでに届いたステージ", ""),
        "registrations": ("新規登録", "件"),
        "first_valid_ads": ("初回広告利用の有効判定", "件"),
        "first_exchanges": ("初回ポイント交換", "件"),
        "early_first_ads": ("登録後7日以内の初回広告利用", "件"),
    },
}
"""What the columns of the built-in programs are called, and their unit; other columns are called by their own name."""


@dataclass(frozen=True)
class Explanation:
    """Why one row got its rate, as facts and as text.

    ``str(explanation)`` is the text, a sentence or item a line; `to_dict` gives the facts.

    Parameters
    ----------
    facts : dict
        See `to_dict`.
    text : str
        The facts in the language asked for.
    """

    facts: Facts
    text: str

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> Facts:
        """The facts as JSON values.

        Returns
        -------
        dict
            Decimals of the program (thresholds, rates in the ``unit`` of its table) are strings, as they are exact; the
            mean, SD and scores are the nearest float64, and a number of further units is an integer or None: none does.
            ``standing`` says of each part of the program that took part, and of each rate, where it comes from.
        """
        return self.facts


def explain(
    row: Mapping[str, Any],
    program: Program,
    population: Population,
    lang: Lang = "en",
    *,
    rate: Decimal | int | str | None = None,
    included: bool = True,
    by: str | Sequence[str] | None = None,
    month: str | None = None,
    any_month: bool = False,
) -> Explanation:
    """Explain the rate and the reward of one row, and what the next step takes.

    The smallest whole number of further units (newcomers, ad users) of each measure that reaches the next step, all
    else being equal, is found exactly: with the mean and SD held fixed, and with the row's own effect on them.

    Parameters
    ----------
    row : mapping of str to value
        The row's measures and the base of its reward, such as ``table.slice(i, 1).to_pylist()[0]``; further columns are
        left aside.
    program : Program
        The rules. Events have amounts and no rates, so there is no next step.
    population : Population
        What the row is scored against. It has no bearing on stages and events.
    lang : {"en", "ja"}
        Language of the text.
    rate : Decimal, int or str, optional
        Also say what it takes to be on a higher step that pays at least this rate, in the unit of the table: "27.5".
    included : bool
        Whether the row is one of the population's. A row that is not (one scored against last month's population) does
        not move its mean and SD, so only the numbers with these held fixed are given.
    by : str or sequence of str, optional
        The cohort columns that `population` was taken by: the row is explained against its own cohort, which is named.
    month : str, optional
        The month that is paid, such as ``"2019-10"``, which is named too; a program with campaigns needs it.
    any_month : bool
        Allow a month that is not wholly within the program's effective dates.

    Returns
    -------
    Explanation

    Raises
    ------
    DataError
        As for `score`; with `included`, a row that cannot be one of the population's; a `lang` or `rate` that is none;
        a row of no cohort of the population.
    ProgramError
        The month is outside the program's effective dates.

    Examples
    --------
    >>> import hensa
    >>> program = hensa.Program.load("hapitas-friend")
    >>> rows = {
    ...     "new_referrals": [10] * 99 + [5000],
    ...     "ad_users": [7] * 100,
    ...     "friend_points": [100_000] * 100,
    ... }
    >>> row = {name: values[0] for name, values in rows.items()}
    >>> explanation = explain(row, program, hensa.population(rows, program))
    >>> print(explanation.text.splitlines()[1])
    Your rate is 9.8% and your reward 9,800 points.
    >>> explanation.to_dict()["next_step"]["further"]["new_referrals"]
    {'population_fixed': 50, 'own_effect': 51}
    """
    if lang not in get_args(Lang):
        raise DataError(f'lang is {lang!r}; it must be "en" or "ja".')
    wanted = None if rate is None else rate_of(rate)
    if month is not None:
        program.check_month(month, any_month)
    cohort = {name: _cell(row, name) for name in names_of(by)}
    if cohort and program.measures:
        population = _of_cohort(population, cohort)
    facts: Facts = {
        "program": program.name,
        "title": program.title_in("en"),
        "kind": program.rule.__struct_config__.tag,
        "month": month,
        "cohort": {name: _plain(value) for name, value in cohort.items()} or None,
    }
    match program.rule:
        case StandardScore():
            facts |= _standard_score_facts(row, program, population, wanted, included)
            lines = _standard_score_lines(facts, program, lang)
        case Stages():
            facts |= _stage_facts(row, program, wanted)
            lines = _stage_lines(facts, program, lang)
        case PerEvent():
            facts |= _event_facts(row, program.rule, program, month)
            lines = _event_lines(facts, lang)
    title = WORDS[lang]["comma"].join(filter(None, (program.short_title(lang), month)))
    return Explanation(facts, "\n".join([title, *lines]))


def _cell(row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        raise DataError(f"The row has no {name!r}, which by names; it has {', '.join(map(repr, row)) or 'nothing'}.")
    return row[name]


def _of_cohort(population: Population, cohort: Mapping[str, Any]) -> Population:
    key = tuple(cohort.values())
    if key not in population.cohorts:
        found = ", ".join(f"{name} {value!r}" for name, value in cohort.items())
        raise DataError(f"The population has no cohort of {found}; it has {Count(len(population.cohorts)):cohort}.")
    return population.cohorts[key]


# --- a standard score ------------------------------------------------------------------------------------------------


def _standard_score_facts(
    row: Mapping[str, Any], program: Program, population: Population, wanted: Decimal | None, included: bool
) -> Facts:
    rule, rates, reward = program.rule, program.rates, program.reward
    assert isinstance(rule, StandardScore)
    assert rates is not None
    names = [measure.column for measure in rule.measures]
    is_paid = reward is not None and reward.base in row
    columns = ["score", "step", *(f"{name}_score" for name in names), *(["reward"] if is_paid else [])]
    cells = {name: [row[name]] for name in program.columns if name in row}
    found = score(cells, program, population, columns=columns).to_pylist()[0]
    step = found["step"]
    facts: Facts = {
        "count": population.count,
        "measures": [
            {
                "column": measure.column,
                "weight": str(measure.weight),
                "value": _plain(found[measure.column]),
                "mean": population[measure.column].mean,
                "sd": replace(population[measure.column], ddof=rule.ddof).sd,
                "standard_score": found[f"{measure.column}_score"],
            }
            for measure in rule.measures
        ],
        "score": found["score"],
        "step": step,
        "unit": rates.unit,
        "rate": None,
        "reward": None,
        "next_step": None,
        "named_rate": None,
        "standing": {},
    }
    if found["score"] is None:
        facts["missing"] = [name for name in cells if found[name] is None]
        return facts
    further = Further(program, population)
    values = [Fraction(found[name]) for name in names]
    constant = [not variance for variance in further.variances]
    used = [f"rule.{key}" for key in ("kind", "measures", "scale", "centre")]
    used += ["rule.ddof"] * (not all(constant)) + ["rule.constant"] * any(constant)
    used += ["rates.below"] * (step is None or (step == 0 and found["score"] < float(rates.thresholds[0])))
    facts["rate"] = "0" if step is None else str(rates.steps[step].rate)
    if reward is not None and is_paid:
        product = _product(found[reward.base], facts["rate"], rates.unit)
        is_capped = reward.cap is not None and product > reward.cap
        facts["reward"] = {
            "base": reward.base,
            "value": _plain(found[reward.base]),
            "product": f"{product:f}",
            "is_capped": is_capped,
            "points": found["reward"],
        }
        used += ["reward.base"] + ["reward.rounding"] * (product % 1 != 0) + ["reward.cap"] * is_capped
    shown = [] if step is None else [step]
    above = range(0 if step is None else step + 1, len(rates.steps))
    if above:
        facts["next_step"] = _target(further, values, [(above[0], len(rates.steps))], included)
        shown.append(above[0])
    if wanted is not None:
        runs = paying_runs(rates, wanted, above[0] - 1) if above else []
        facts["named_rate"] = {"wanted": str(wanted), "is_paid": Decimal(facts["rate"]) >= wanted}
        if runs and not facts["named_rate"]["is_paid"]:
            facts["named_rate"] |= _target(further, values, runs, included)
            shown.append(runs[0][0])
    standing = {f"rates.steps[{index}]": rates.steps[index].standing for index in dict.fromkeys(shown)}
    standing |= {key: program.standing.get(key) for key in used}
    facts["standing"] = {key: value for key, value in standing.items() if value is not None}
    return facts


def _target(further: Further, values: list[Fraction], runs: list[tuple[int, int]], included: bool) -> Facts:
    """The first step of some runs (first, end) of steps above the row's, and what it takes to be on any of them."""
    step = further.rates.steps[runs[0][0]]
    ways = {"population_fixed": further.fixed} | ({"own_effect": further.own} if included else {})
    numbers = {
        name: {way: _least(partial(decide, values, i), further.rates, runs) for way, decide in ways.items()}
        for i, name in enumerate(further.columns)
    }
    return {"step": runs[0][0], "threshold": str(step.threshold), "rate": str(step.rate), "further": numbers}


def _least(decide: Callable[[Fraction], int | None], rates: RateTable, runs: list[tuple[int, int]]) -> int | None:
    """The smallest number that ends on a step of a run: steps rise with it, but one more may jump over a run."""
    thresholds = rates.thresholds
    for first, end in runs:
        number = decide(thresholds[first])
        if number is None:
            return None
        beyond = decide(thresholds[end]) if end < len(thresholds) else None
        if beyond is None or beyond > number:
            return number
    return None


def _product(base: int | Decimal, rate: str, unit: str) -> Decimal:
    with localcontext(prec=200):  # 39 digits by 50, so this is exact
        return (Decimal(base) * Decimal(rate) / (100 if unit == "percent" else 1)).normalize()


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else str(value)


def _standard_score_lines(facts: Facts, program: Program, lang: Lang) -> Iterator[str]:
    words, rule, rates = WORDS[lang], program.rule, program.rates
    assert isinstance(rule, StandardScore)
    assert rates is not None
    if facts["score"] is None:
        yield words["unscored"]
        for name in facts["missing"]:
            yield words["missing"].format(name=_name(name, lang))
        for measure in [] if facts["missing"] else facts["measures"]:
            if not measure["sd"]:
                yield words["all_alike"].format(name=_name(measure["column"], lang))
        return
    step, rate, reward = facts["step"], _percent(facts["rate"], rates.unit), facts["reward"]
    yield words["paid" if reward else "rated"].format(rate=rate, points=reward and Count(reward["points"]))
    named_cohort = facts["cohort"] or {}
    yield words["cohort" if named_cohort else "population"].format(
        count=Count(facts["count"]),
        cohort=words["comma"].join(f"{name} {value}" for name, value in named_cohort.items()),
    )
    for measure in facts["measures"]:
        yield words["measure" if measure["sd"] else "constant"].format(
            name=_name(measure["column"], lang),
            amount=_count(measure["value"], measure["column"], lang),
            value=_number(measure["value"]),
            mean=_rounded(measure["mean"]),
            sd=_rounded(measure["sd"]),
            scaled="" if rule.scale == 1 else words["scaled"].format(scale=_number(rule.scale)),
            centre=_number(rule.centre),
            standard_score=f"{measure['standard_score']:,.4f}",
        )
    weights = [measure.weight for measure in rule.measures]
    how = "single" if len(weights) == 1 else "mean" if len(set(weights)) == 1 else "weighted"
    listed = words["comma"].join(map(_number, weights))
    low, high = _bounds(rates, step)
    yield words["score"].format(how=words[how].format(weights=listed), score=_shown(facts["score"], low, high))
    place = "off_table" if step is None else _PLACES[low is None, high is None]
    yield words[place].format(threshold=_number(low), above=_number(high), step=step, rate=rate)
    if reward:
        yield _reward_line("reward", reward, program, rate, lang)
    if facts["next_step"] is None:
        yield words["no_next"]
    else:
        yield from _target_lines("next", facts["next_step"], facts, program, lang)
    if named := facts["named_rate"]:
        if "step" in named:
            yield from _target_lines("named", named, facts, program, lang)
        else:
            which = "named_paid" if named["is_paid"] else "named_none"
            yield words[which].format(wanted=_percent(named["wanted"], rates.unit))
    yield from _reconstructed(facts, lang, "n" if rule.ddof == 0 else "n - 1")


def _target_lines(sentence: str, target: Facts, facts: Facts, program: Program, lang: Lang) -> Iterator[str]:
    words, unit, rule = WORDS[lang], facts["unit"], program.rule
    assert isinstance(rule, StandardScore)
    yield words[sentence].format(
        step=target["step"],
        threshold=_number(Decimal(target["threshold"])),
        rate=_percent(target["rate"], unit),
        wanted=_percent(target["wanted"], unit) if "wanted" in target else "",
    )
    sign = rule.scale * sum(measure.weight for measure in rule.measures)
    for measure in rule.measures:
        numbers = target["further"][measure.column]
        if measure.weight * sign <= 0:
            clauses = [words["weight_none"]]
        elif None not in numbers.values() and numbers["population_fixed"] == numbers.get("own_effect"):
            number = _count(numbers["own_effect"], measure.column, lang)
            clauses = [words["same"].format(number=number)]
        else:
            clauses = [
                words[f"{way}_none" if number is None else way].format(
                    number=None if number is None else _count(number, measure.column, lang)
                )
                for way, number in zip(("fixed", "own"), numbers.values(), strict=False)
            ]
        yield words["further"].format(name=_name(measure.column, lang), clauses=words["and"].join(clauses))


# --- a stage ----------------------------------------------------------------------------------------------------------


def _stage_facts(row: Mapping[str, Any], program: Program, wanted: Decimal | None) -> Facts:
    rule, rates, reward = program.rule, program.rates, program.reward
    assert isinstance(rule, Stages)
    assert rates is not None
    is_paid = reward is not None and reward.base in row
    columns = ["stage", *(["reward"] if is_paid else [])]
    cells = {name: [row[name]] for name in program.columns if name in row}
    found = score(cells, program, columns=columns).to_pylist()[0]
    stage = found["stage"]
    facts: Facts = {
        "criteria": [
            {
                "column": criterion.column,
                "value": _plain(found[criterion.column]),
                "stage": None if found[criterion.column] is None else _stage(criterion, found[criterion.column]),
            }
            for criterion in rule.criteria
        ],
        "stage": stage,
        "unit": rates.unit,
        "rate": None,
        "reward": None,
        "next_step": None,
        "named_rate": None,
        "standing": {},
    }
    if stage is None:
        facts["missing"] = [name for name in cells if found[name] is None and name != rule.previous]
        return facts
    facts["rate"] = str(rates.steps[stage - 1].rate) if stage else "0"
    used = ["rule.kind", "rule.criteria"] + ["rates.below"] * (not stage)
    before = found.get(rule.previous) or 0
    first_reached = set[int]()
    if reward is not None and is_paid:
        product = _product(found[reward.base], facts["rate"], rates.unit)
        if rule.previous in found:  # without it no bonus is paid
            first_reached.update(range(before + 1, stage + 1))
        bonus = sum(each.points for each in rule.bonuses if each.stage in first_reached)
        is_capped = reward.cap is not None and product + bonus > reward.cap
        facts["reward"] = {
            "base": reward.base,
            "value": _plain(found[reward.base]),
            "product": f"{product:f}",
            "bonus": bonus,
            "is_capped": is_capped,
            "points": found["reward"],
        }
        used += ["reward.base"] + ["reward.rounding"] * (product % 1 != 0) + ["reward.cap"] * is_capped
    n, further = len(rates.steps), FurtherStages(program)
    values = [Fraction(found[name]) for name in further.columns]
    targets: list[tuple[str, Facts, list[tuple[int, int]]]] = [("next_step", {}, [(stage, n)])] if stage < n else []
    if wanted is not None:
        facts["named_rate"] = {"wanted": str(wanted), "is_paid": Decimal(facts["rate"]) >= wanted}
        runs = paying_runs(rates, wanted, stage - 1)
        if runs and not facts["named_rate"]["is_paid"]:
            targets.append(("named_rate", facts["named_rate"], runs))
    for key, begun, runs in targets:
        target = runs[0][0] + 1
        further_up = range(max(before, stage) + 1, target + 1)
        first_reached.update(further_up)
        facts[key] = begun | {
            "stage": target,
            "rate": str(rates.steps[target - 1].rate),
            "bonus": sum(each.points for each in rule.bonuses if each.stage in further_up),
            "further": {
                name: _least(partial(further.fixed, values, i), rates, runs) for i, name in enumerate(further.columns)
            },
        }
    once = [bonus for bonus in rule.bonuses if bonus.stage in first_reached]
    used += ["rule.previous"] * bool(once)
    shown = {stage: None, **{facts[key]["stage"]: None for key, *_ in targets}}
    standing = {f"rates.stage[{number}]": rates.steps[number - 1].standing for number in shown if number}
    standing |= {f"rule.bonuses[{bonus.stage}]": bonus.standing for bonus in once}
    standing |= {key: program.standing.get(key) for key in used}
    facts["standing"] = {key: value for key, value in standing.items() if value is not None}
    return facts


def _stage(criterion: Criterion, value: Any) -> int:
    """The stage that one column reaches by itself; 0 for none."""
    return max((entry.stage for entry in criterion.minimums if Fraction(value) >= Fraction(entry.minimum)), default=0)


def _stage_lines(facts: Facts, program: Program, lang: Lang) -> Iterator[str]:
    words, reward, unit = WORDS[lang], facts["reward"], facts["unit"]
    if facts["stage"] is None:
        for name in facts["missing"]:
            yield words["missing"].format(name=_name(name, lang))
        return
    rate = _percent(facts["rate"], unit)
    yield words["paid" if reward else "rated"].format(rate=rate, points=reward and Count(reward["points"]))
    for criterion in facts["criteria"]:
        yield words["on_stage" if criterion["stage"] else "on_no_stage"].format(
            name=_name(criterion["column"], lang),
            amount=_count(criterion["value"], criterion["column"], lang),
            stage=criterion["stage"],
        )
    yield words["stage" if facts["stage"] else "no_stage"].format(stage=facts["stage"], rate=rate)
    if reward:
        if reward["bonus"]:
            yield words["bonus"].format(bonus=Count(reward["bonus"]))
        yield _reward_line("stage_reward" if reward["bonus"] else "reward", reward, program, rate, lang)
    for key, sentence in (("next_step", "next_stage"), ("named_rate", "named_stage")):
        target = facts[key]
        if target and "stage" in target:
            wanted = _percent(target["wanted"], unit) if "wanted" in target else ""
            yield words[sentence].format(
                stage=target["stage"],
                rate=_percent(target["rate"], unit),
                wanted=wanted,
                once=words["once"].format(bonus=Count(target["bonus"])) if target["bonus"] else "",
            )
            for column, number in target["further"].items():
                more = "none" if number is None else "more"
                clause = words[more].format(number=None if number is None else _count(number, column, lang))
                yield words["further"].format(name=_name(column, lang), clauses=clause)
        elif key == "next_step":
            yield words["no_next_stage"]
        elif target:
            which = "named_paid" if target["is_paid"] else "named_no_stage"
            yield words[which].format(wanted=_percent(target["wanted"], unit))
    yield from _reconstructed(facts, lang)


# --- events -----------------------------------------------------------------------------------------------------------


def _event_facts(row: Mapping[str, Any], rule: PerEvent, program: Program, month: str | None) -> Facts:
    cells = {name: [row[name]] for name in program.columns if name in row}
    found = score(cells, program, columns=("reward", "friend_reward"), month=month, any_month=True).to_pylist()[0]
    amounts = {column: each for column, *each in rule.amounts(month)}
    in_campaign = {campaign.column: campaign.standing for campaign in rule.campaigns_of(month)}
    events, standing = [], {"rule.kind": program.standing.get("rule.kind")}
    for event in rule.events:
        referrer, friend = amounts[event.column]
        events.append({"column": event.column, "count": found[event.column], "referrer": referrer, "friend": friend})
        if event.column in in_campaign:
            standing[f"rule.campaigns[{event.column}]"] = in_campaign[event.column]
        else:
            standing[f"rule.events[{event.column}]"] = event.standing
    return {
        "events": events,
        "reward": found["reward"],
        "friend_reward": found["friend_reward"] if rule.pays_friends else None,
        "standing": {key: value for key, value in standing.items() if value is not None},
    }


def _event_lines(facts: Facts, lang: Lang) -> Iterator[str]:
    words = WORDS[lang]
    if facts["reward"] is None:
        yield words["unpaid"]
        for event in facts["events"]:
            if event["count"] is None:
                yield words["missing"].format(name=_name(event["column"], lang))
        return
    yield words["referrer_paid"].format(points=Count(facts["reward"]))
    if facts["friend_reward"] is not None:
        yield words["friend_paid"].format(points=Count(facts["friend_reward"]))
    for event in facts["events"]:
        clauses = [
            words[f"to_{side}"].format(each=Count(event[side]), points=f"{event['count'] * event[side]:,}")
            for side in ("referrer", "friend")
            if event[side]
        ]
        yield words["event"].format(
            name=_name(event["column"], lang),
            amount=_count(event["count"], event["column"], lang),
            clauses="".join(clauses) or words["to_nobody"],
        )
    yield from _reconstructed(facts, lang)


# --- what they share --------------------------------------------------------------------------------------------------


def _reward_line(sentence: str, reward: Facts, program: Program, rate: str, lang: Lang) -> str:
    words, product = WORDS[lang], Decimal(reward["product"])
    assert program.reward is not None
    cap = words["capped"].format(cap=_number(program.reward.cap))
    return words[sentence].format(
        base=_name(reward["base"], lang),
        value=_count(reward["value"], reward["base"], lang),
        rate=rate,
        product=_number(product),
        rounded=words[program.reward.rounding] if product % 1 else "",
        capped=cap if reward["is_capped"] else "",
        points=Count(reward["points"]),
    )


def unpublished(program: Program, lang: Lang) -> str:
    """What of a program the operator never published and the program fills in, in words; empty if nothing.

    Examples
    --------
    >>> unpublished(Program.load("hapi-tomo"), "en")
    'which stage counts as the one before, what is paid below the table, how points are rounded'
    """
    words, rule = WORDS[lang], program.rule
    divisor = "n - 1" if isinstance(rule, StandardScore) and rule.ddof else "n"
    keys = (key for key, standing in program.standing.items() if standing == "reconstructed")
    what = [words.get(f"{key}.all", words.get(key, key)).format(divisor=divisor) for key in keys]
    kind, first = ("stage", 1) if isinstance(rule, Stages) else ("steps", 0)
    steps = program.rates.steps if program.rates is not None else ()
    for standing, run in groupby(enumerate(steps, first), lambda item: item[1].standing):
        if standing == "reconstructed":
            low, *_, high = [index for index, _ in run] * 2
            what.append(words[f"rates.{kind}" + (".run" if low < high else "")].format(step=low, last=high))
    return words["comma"].join(what)


def _reconstructed(facts: Facts, lang: Lang, divisor: str = "") -> Iterator[str]:
    """The sentence on what the operator never published, if any of it took part."""
    words = WORDS[lang]
    ours = [key for key, standing in facts["standing"].items() if standing == "reconstructed"]
    if ours:
        parts = (key.removesuffix("]").partition("[") for key in ours)
        what = dict.fromkeys(words[key].format(step=_name(index, lang), divisor=divisor) for key, _, index in parts)
        yield words["reconstructed"].format(what=words["comma"].join(what))


_PLACES = {(False, False): "step", (True, False): "lowest", (False, True): "highest", (True, True): "only"}
"""The sentence for a step, by whether it has no threshold of its own, and none above."""


def _bounds(rates: RateTable, step: int | None) -> tuple[Decimal | None, Decimal | None]:
    """The thresholds that the scores on a step lie between."""
    has_low = step is not None and not (step == 0 and rates.below == "first")
    index = -1 if step is None else step
    above = rates.steps[index + 1].threshold if index + 1 < len(rates.steps) else None
    return rates.steps[index].threshold if has_low else None, above


def _shown(score: float, low: Decimal | None, high: Decimal | None) -> str:
    """The score with four decimals, or as many as it takes not to look as if it were on another step."""
    for digits in range(4, 18):
        text = f"{score:.{digits}f}"
        if (low is None or Decimal(text) >= low) and (high is None or Decimal(text) < high):
            return f"{Decimal(text):,f}"
    return repr(score)


def _name(column: str, lang: Lang) -> str:
    return NAMES[lang].get(column, (column, ""))[0]


def _count(value: Any, column: str, lang: Lang) -> str:
    return _number(value) + NAMES[lang].get(column, ("", ""))[1]


def _number(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            value = Decimal(repr(value)).normalize()
        case Fraction():
            return f"{value.numerator:,}" if value.denominator == 1 else str(value)
        case str():
            value = Decimal(value)
    return f"{value:,f}" if isinstance(value, Decimal) else f"{value:,}"


def _rounded(value: float) -> str:
    """With 8 digits, or all of those before the point."""
    return _number(Decimal(f"{value:.8g}" if abs(value) < 10**8 else f"{value:.0f}"))


def _percent(rate: str, unit: str) -> str:
    share = Decimal(rate) if unit == "percent" else Decimal(rate).scaleb(2)
    return f"{share.normalize():,f}%"
