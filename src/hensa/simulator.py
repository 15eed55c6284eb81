"""A page for members: type your numbers, and see score, step, rate and points, and what the next step takes.

The page is made from a population and programs alone; no row of a member is in it. Its arithmetic is that of `tiers`:
for some integers D, N, c and a, which are computed here,

    D · score = Σ √N · (c + Σ a·x)

over a few N, of which the first is 1 and no ratio of two is the square of a rational. So whole numbers or decimals x
give a whole number before each root, and integers decide whether a score reaches a threshold, ties included.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any, TypeAlias

from hensa.counts import Count
from hensa.errors import DataError
from hensa.explanation import NAMES, WORDS, unpublished
from hensa.moments import Exact, Moments
from hensa.next_step import Further
from hensa.page import LANGS, Lang, data_island, render
from hensa.population import Population
from hensa.program import PerEvent, Program, Stages, StandardScore
from hensa.scoring import score
from hensa.tiers import Tiers

__all__ = ["simulator_page"]

Data: TypeAlias = dict[str, Any]

_WORDS: dict[str, dict[str, str]] = {
    "en": {
        "title": "What is my rate?",
        "lead": "Type your numbers and see your score, your rate and your points, and what the next step takes.",
        "compared": "You are compared with {count:member}. Their mean and standard deviation are in this page, but "
        "nothing about any one of them, and nothing that you type leaves it.",
        "your_numbers": "Your numbers",
        "no_script": "This page needs JavaScript to compute.",
        "ours": "not published; filled in by us",
        "comma": ", ",
        "whole": "A whole number.",
        "any_number": "A number; decimals too.",
        "not_a_number": "“{typed}” is not a number. Use digits, such as 1500 or 1,500.",
        "not_whole": "“{typed}” is not whole. Type a whole number.",
        "negative": "“{typed}” is below 0. Type 0 or more.",
        "too_large": "“{typed}” is too large. Type at most 15 digits.",
        "too_fine": "“{typed}” has too many decimals. Type at most 15.",
        "all_alike": "There are no scores: {names}: the same for all members.",
        "waiting": "Still to type: {names}.",
        "mending": "Still to mend: {names}.",
        "rate": "Rate",
        "points": "Points",
        "step": "Step",
        "stage": "Stage",
        "score": "Score",
        "at_score": "score {score}",
        "off_table": "none",
        "no_base": "{name}: type them too, and see your points.",
        "sum": "{name}: {base} × {rate} = {product}{rounded}{capped}.",
        "sum_with_bonus": "{name}: {base} × {rate} = {product}{rounded}, and {bonus} points once for the stages that "
        "you reach for the first time{capped}.",
        "floor": ", rounded down",
        "half_up": ", rounded half up",
        "ceil": ", rounded up",
        "capped": ", at most {cap}",
        "gain": "That is {gap} points more than under {name}.",
        "lose": "That is {gap} points less than under {name}.",
        "same": "That is as many points as under {name}.",
        "to_next_step": "What the next step takes",
        "to_next_stage": "What the next stage takes",
        "next_step": "Step {step} starts at a score of {threshold} and pays {rate}. All else being equal, any one of "
        "these reaches it:",
        "next_stage": "Stage {step} pays {rate}{once}. Each of these alone reaches it, or a higher one:",
        "next_once": ", and {bonus} points once when it is first reached",
        "no_next_step": "You are on the highest step.",
        "no_next_stage": "You are on the highest stage.",
        "stage_more": "{name}: {number} more, {total} in all.",
        "step_more": "{name}: {clauses}.",
        "no_number": "{name}: no number reaches it.",
        "falls": "{name}: more does not raise your score.",
        "try": "Try it",
        "try_label": "{name}: try {number} more",
        "how": "How your score comes about",
        "how_caption": "Your numbers among those of all members",
        "counted": "Counted",
        "you_have": "You have",
        "mean": "Mean",
        "sd": "Standard deviation",
        "standard_score": "Standard score",
        "weight": "Weight",
        "single": "Your score is this standard score: {score}.",
        "average": "Your score is the mean of these standard scores: {score}.",
        "weighted": "Your score is the mean of these standard scores with their weights: {score}.",
        "rates": "The rate table",
        "nearby": "The steps around yours",
        "stages": "All stages, and what reaches them",
        "from": "Score from",
        "any": "any",
        "once": "Points once",
        "you": "you",
        "here": "you are here",
        "chart": "The rate of every score, as a line of steps.",
        "chart_you": " You are at a score of {score}, which pays {rate}.",
        "published": "published",
        "ours_key": "not published; filled in by us †",
        "said": "{name}: your rate is {rate}.",
        "said_points": "{name}: your rate is {rate}, your points {points}.",
        "dates": "In force from {first} to {last}.",
        "from_date": "In force from {first}.",
        "until_date": "In force until {last}.",
    },
    "ja": {
        "title": "わたしのポイント率は？",
        "lead": "ご自身の数を入力すると、スコア、ポイント率、付与ポイントと、次のステップに必要な数がわかります。",
        "compared": "集計対象の{count}人と比べています。このページにあるのは全員の平均と標準偏差だけで、"
        "個々の会員のデータはありません。入力した数がこのページの外に送られることもありません。",
        "your_numbers": "ご自身の数",
        "no_script": "計算にはJavaScriptが必要です。",
        "ours": "公表されておらず、当方で補ったもの",
        "comma": "、",
        "whole": "整数で入力してください。",
        "any_number": "数値で入力してください（小数も可）。",
        "not_a_number": "「{typed}」は数として読めません。1500や1,500のように数字で入力してください。",
        "not_whole": "「{typed}」は整数ではありません。整数で入力してください。",
        "negative": "「{typed}」は0より小さい数です。0以上で入力してください。",
        "too_large": "「{typed}」は大きすぎます。15桁以内で入力してください。",
        "too_fine": "「{typed}」は小数点以下が長すぎます。15桁以内で入力してください。",
        "all_alike": "{names}は全員が同じ値なので、スコアはありません。",
        "waiting": "{names}を入力してください。",
        "mending": "{names}の入力を直してください。",
        "rate": "ポイント率",
        "points": "付与ポイント",
        "step": "ステップ",
        "stage": "ステージ",
        "score": "スコア",
        "at_score": "スコア{score}",
        "off_table": "なし",
        "no_base": "{name}も入力すると、付与ポイントがわかります。",
        "sum": "{name}{base} × {rate} = {product}{rounded}{capped}",
        "sum_with_bonus": "{name}{base} × {rate} = {product}{rounded}に、初めて届いたステージのボーナス{bonus}ポイント"
        "（1回限り）を加えます{capped}",
        "floor": "（端数切り捨て）",
        "half_up": "（端数四捨五入）",
        "ceil": "（端数切り上げ）",
        "capped": "（上限{cap}）",
        "gain": "「{name}」より{gap}ポイント多くなります。",
        "lose": "「{name}」より{gap}ポイント少なくなります。",
        "same": "「{name}」と同じポイントです。",
        "to_next_step": "次のステップに必要な数",
        "to_next_stage": "次のステージに必要な数",
        "next_step": "ステップ{step}はスコア{threshold}以上で、ポイント率は{rate}です。"
        "ほかの数値が同じ場合、次のどれか一つで届きます。",
        "next_stage": "ステージ{step}のポイント率は{rate}{once}です。"
        "次のどれか一つで、このステージかそれより上に届きます。",
        "next_once": "、初めて届いたときのボーナスは{bonus}ポイント（1回限り）",
        "no_next_step": "一番上のステップです。",
        "no_next_stage": "一番上のステージです。",
        "stage_more": "{name}：あと{number}（合わせて{total}）",
        "step_more": "{name}：{clauses}",
        "no_number": "{name}：いくつ増えても届きません",
        "falls": "{name}：増えてもスコアは上がりません",
        "try": "試す",
        "try_label": "{name}をあと{number}増やして試す",
        "how": "スコアの内訳",
        "how_caption": "全員の数とご自身の数",
        "counted": "項目",
        "you_have": "ご自身",
        "mean": "平均",
        "sd": "標準偏差",
        "standard_score": "偏差値",
        "weight": "重み",
        "single": "スコアはこの偏差値で、{score}です。",
        "average": "スコアはこれらの偏差値の平均で、{score}です。",
        "weighted": "スコアはこれらの偏差値の加重平均で、{score}です。",
        "rates": "ポイント率の表",
        "nearby": "前後のステップ",
        "stages": "すべてのステージとその条件",
        "from": "スコア",
        "any": "すべて",
        "once": "1回のみ",
        "you": "現在地",
        "here": "現在地",
        "chart": "スコアごとのポイント率を階段状の線で示した図。",
        "chart_you": "現在地はスコア{score}、ポイント率{rate}です。",
        "published": "公表されたもの",
        "ours_key": "公表されておらず、当方で補ったもの†",
        "said": "{name}：ポイント率は{rate}です。",
        "said_points": "{name}：ポイント率は{rate}、付与ポイントは{points}ポイントです。",
        "dates": "{first}から{last}まで有効です。",
        "from_date": "{first}から有効です。",
        "until_date": "{last}まで有効です。",
    },
}
"""The words of the page, by language."""

_CLAUSES = ("fixed", "own", "same", "fixed_none", "own_none", "and")
"""What `explain` says too of how many more the next step takes."""

_HINTS: dict[str, dict[str, str]] = {
    "en": {
        "new_referrals": "Friends who registered in the previous month.",
        "ad_users": "Friends, of all to date, who used an ad in the previous month.",
        "friend_points": "Your friends' points that turned valid this month. Pending points, and points from games, "
        "surveys and bonuses, do not count.",
        "cumulative_referrals": "Friends registered to date.",
        "own_points": "Your own points that turned valid this month.",
        "stage_before": "The highest in any month before; 0 for none. Left empty, no points paid once are counted.",
    },
    "ja": {
        "new_referrals": "前月に登録したお友達の人数です。",
        "ad_users": "これまでのお友達のうち、前月に広告を利用した人数です。",
        "friend_points": "お友達が当月に有効となったポイントです。"
        "判定中のポイントと、ゲーム、アンケート、ボーナスのポイントは含みません。",
        "cumulative_referrals": "これまでに登録したお友達の人数です。",
        "own_points": "ご自身が当月に有効となったポイントです。",
        "stage_before": "これまでの月で一番高いステージです。なければ0です。"
        "空欄のときは、1回限りのポイントを含みません。",
    },
}
"""What the columns of the built-in programs count."""


def simulator_page(program: Program, population: Population, beside: Sequence[Program] = (), lang: Lang = "en") -> str:
    """A page for members: type your numbers, and see score, step, rate and points, and what the next step takes.

    Its arithmetic is exact: step, rate, points and what the next step takes, with the mean and SD held fixed and with
    the member's own effect on them, are those of `explain`, ties included. The page holds the programs and the moments
    of the population, and no row; it needs no network. A population of very few rows says much about each of them,
    though.

    Parameters
    ----------
    program : Program
        The rules, of standard scores.
    population : Population
        What members are scored against; of one cohort, if there are cohorts.
    beside : sequence of Program
        Further programs, of standard scores over measures of the population or of stages, shown beside the first.
    lang : {"en", "ja"}
        Language of the page.

    Returns
    -------
    str
        One HTML file, of some 50 kB.

    Raises
    ------
    DataError
        As for `score`: the population lacks a measure, is empty, or has no SD; a program of another kind.
    HensaError
        The extra "report" is not installed.

    Examples
    --------
    >>> import hensa
    >>> program = hensa.Program.load("hapitas-friend")
    >>> population = hensa.population({"new_referrals": [10] * 99 + [5000], "ad_users": [7] * 100}, program)
    >>> page = simulator_page(program, population, beside=[hensa.Program.load("hapi-tomo")])
    >>> "<title>What is my rate?</title>" in page
    True
    """
    if lang not in LANGS:
        raise DataError(f'lang is {lang!r}; it must be "en" or "ja".')
    if not isinstance(program.rule, StandardScore):
        raise DataError(
            f"Program {program.name!r} has no standard scores to simulate; it may be shown beside one that has."
        )
    words, programs = _WORDS[lang], [program, *beside]
    data = {
        "words": words | {"clauses": {key: WORDS[lang][key] for key in _CLAUSES}},
        "fields": list(_fields(programs, population, lang)),
        "programs": [_program_data(each, population, lang) for each in programs],
    }
    return render(
        "simulator.html",
        lang,
        words["title"],
        scripts=[_script("exact.js"), _script("simulator.js")],
        page=words,
        compared=words["compared"].format(count=Count(population.count)),
        island=data_island("data", data),
    )


def _script(name: str) -> str:
    return Path(__file__).with_name("pages").joinpath(name).read_text(encoding="utf-8")


def _fields(programs: list[Program], population: Population, lang: Lang) -> Iterator[Data]:
    """The columns that the programs read, each once."""
    words = _WORDS[lang]
    for name in dict.fromkeys(name for program in programs for name in program.columns):
        label, unit = NAMES[lang].get(name, (name, ""))
        is_whole, is_signed, is_previous = name in NAMES[lang], True, False
        if name in population.measures:
            state = population[name].state
            is_whole = isinstance(state, Exact) and state.sum.denominator == state.sum_of_squares.denominator == 1
        for program in programs:
            rule, reward = program.rule, program.reward
            columns = rule.criteria if isinstance(rule, Stages) else program.measures
            is_signed &= all(column.negative == "allow" for column in columns if column.column == name)
            is_signed &= reward is None or reward.base != name or reward.negative == "allow"
            is_previous |= isinstance(rule, Stages) and rule.previous == name
        hint = _HINTS[lang].get(name) or words["whole" if is_whole else "any_number"]
        is_whole, is_signed = is_whole or is_previous, is_signed and not is_previous and name not in NAMES[lang]
        yield {"name": name, "label": label, "unit": unit, "hint": hint, "whole": is_whole, "signed": is_signed}


def _program_data(program: Program, population: Population, lang: Lang) -> Data:
    """What the page needs to know of a program; decimals are text, as they are exact."""
    if isinstance(program.rule, PerEvent):
        raise DataError(f"Program {program.name!r} has neither scores nor stages to simulate.")
    rates, reward, ours = program.rate_table, program.reward, unpublished(program, lang)
    rule_data = (
        _stage_data(program.rule) if isinstance(program.rule, Stages) else _score_data(program, population, lang)
    )
    return {
        "title": program.short_title(lang),
        "dates": _dates(program, _WORDS[lang]),
        "ours": WORDS[lang]["reconstructed"].format(what=ours) if ours else "",
        "standing": program.standing,
        "unit": rates.unit,
        "below": rates.below,
        "thresholds": [f"{step.threshold:f}" for step in rates.steps],
        "rates": [f"{step.rate:f}" for step in rates.steps],
        "standings": [step.standing for step in rates.steps],
        "reward": reward
        and {
            "base": reward.base,
            "rounding": reward.rounding,
            "cap": None if reward.cap is None else str(reward.cap),
        },
        **rule_data,
    }


def _dates(program: Program, words: dict[str, str]) -> str:
    first, last = program.effective_from, program.effective_until
    if first is None and last is None:
        return ""
    return words["until_date" if first is None else "from_date" if last is None else "dates"].format(
        first=first, last=last
    )


def _stage_data(rule: Stages) -> Data:
    return {
        "kind": "stage",
        "columns": [
            {
                "name": criterion.column,
                "minimums": [(entry.stage, f"{entry.minimum:f}", entry.standing) for entry in criterion.minimums],
            }
            for criterion in rule.criteria
        ],
        "bonuses": [(bonus.stage, str(bonus.points), bonus.standing) for bonus in rule.bonuses],
        "previous": rule.previous,
        "score": None,
        "unscored": [],
    }


def _score_data(program: Program, population: Population, lang: Lang) -> Data:
    rule = program.rule
    assert isinstance(rule, StandardScore)
    # Refuses a population that cannot be scored against; the score is null where a constant measure makes it so.
    row = score({name: [0] for name in program.columns}, program, population, columns=["score"])
    further = Further(program, population)
    tiers = further.tiers
    alone = [
        [rule.scale if i == j else Fraction(0) for j in range(len(rule.measures))] for i in range(len(rule.measures))
    ]
    is_constant = [not variance for variance in further.variances]
    weights = [*zip(rule.measures, tiers.weights, strict=True)]
    return {
        "kind": "standard-score",
        "columns": [
            {
                "name": measure.column,
                "weight": str(measure.weight),
                "mean": f"{moments.mean:,.8g}",
                "sd": f"{moments.sd:,.8g}",
                "constant": constant,
                "falls": weight <= 0,
                "score": _form(tiers, own),
                "rest": _form(tiers, [other if measure is not each else Fraction(0) for each, other in weights]),
                "own": _own(moments, weight),
            }
            for (measure, weight), moments, own, constant in zip(
                weights, further.moments, alone, is_constant, strict=True
            )
        ],
        "count": f"{population.count:x}",
        "ddof": f"{rule.ddof:x}",
        "alike": rule.constant == "centre",
        "score": _form(tiers, tiers.weights),
        "unscored": [
            NAMES[lang].get(measure.column, (measure.column, ""))[0]
            for measure, constant in zip(rule.measures, is_constant, strict=True)
            if constant and row["score"].null_count
        ],
    }


def _own(moments: Moments, weight: Fraction) -> Data:
    """The weight of a measure and its sums, of which a member's own number is a part, as integers in base 16.

    With S = Σx and P = nΣx² - S², they are S·u and P·u² for a whole u.
    """
    total, spread = moments.count * moments.mean_exact, moments.count * moments.state.m2(moments.count)
    unit = lcm(total.denominator, spread.denominator)
    return {
        "weight": [f"{weight.numerator:x}", f"{weight.denominator:x}"],
        "unit": f"{unit:x}",
        "sum": f"{int(total * unit):x}",
        "spread": f"{int(spread * unit**2):x}",
        "exact": moments.method == "exact",
    }


def _form(tiers: Tiers, weights: Sequence[Fraction]) -> Data:
    """centre + Σ weight · (x - mean) / SD as the integers of the formula above, in base 16."""
    terms: list[tuple[int, Fraction, list[Fraction]]] = []
    for root in tiers.roots:
        p, q = root.variance.numerator, root.variance.denominator  # 1/√(p/q) = √(pq)/p
        factors = [weight * root.ratios.get(i, Fraction(0)) / p for i, weight in enumerate(weights)]
        constant = -sum((f * mean for f, mean in zip(factors, tiers.means, strict=True)), Fraction(0))
        terms.append((p * q, constant if terms else constant + tiers.centre, factors))
    denominator = lcm(*(number.denominator for _, constant, factors in terms for number in (constant, *factors)))
    return {
        "denominator": f"{denominator:x}",
        "terms": [
            {
                "root": f"{root:x}",
                "constant": f"{int(constant * denominator):x}",
                "factors": [f"{int(factor * denominator):x}" for factor in factors],
            }
            for root, constant, factors in terms
            if root == 1 or any(factors)
        ],
    }
