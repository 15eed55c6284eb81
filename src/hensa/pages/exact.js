"use strict";
// Steps, points and what the next step takes, decided with integers of any size: no floating-point number takes part.

// --- decimals: { digits, places } is digits / 10**places --------------------------------------------------------------

function decimal(text) {
  const [, sign, whole, fraction = ""] = /^(-?)(\d*)(?:\.(\d*))?$/.exec(text);
  return { digits: BigInt(sign + (whole + fraction || "0")), places: fraction.length };
}

function decimalText({ digits, places }) {
  const text = String(digits < 0n ? -digits : digits).padStart(places + 1, "0");
  const whole = text.slice(0, text.length - places).replace(/\B(?=(\d{3})+$)/g, ",");
  return (digits < 0n ? "-" : "") + whole + (places ? "." + text.slice(-places) : "");
}

// 9.10 as 9.1, and 10.0 as 10
function trimmed({ digits, places }) {
  while (places && digits % 10n === 0n) [digits, places] = [digits / 10n, places - 1];
  return { digits, places };
}

function compareDecimals(a, b) {
  const places = Math.max(a.places, b.places);
  const difference = digitsAt(a, places) - digitsAt(b, places);
  return difference > 0n ? 1 : difference < 0n ? -1 : 0;
}

function product(a, b) {
  return { digits: a.digits * b.digits, places: a.places + b.places };
}

function plus(a, whole) {
  return { digits: a.digits + whole * 10n ** BigInt(a.places), places: a.places };
}

function digitsAt(a, places) {
  return a.digits * 10n ** BigInt(places - a.places);
}

function floorOf(numerator, denominator) {
  const quotient = numerator / denominator; // BigInt division rounds towards zero
  return numerator < 0n && quotient * denominator !== numerator ? quotient - 1n : quotient;
}

function rounded(a, rounding) {
  const one = 10n ** BigInt(a.places);
  if (rounding === "half_up") return floorOf(2n * a.digits + one, 2n * one);
  return rounding === "ceil" ? -floorOf(-a.digits, one) : floorOf(a.digits, one);
}

// --- scores -----------------------------------------------------------------------------------------------------------

function integer(hex) {
  return hex[0] === "-" ? -BigInt("0x" + hex.slice(1)) : BigInt("0x" + hex);
}

function floorRoot(n) {
  let root = 1n << BigInt((n.toString(16).length + 1) * 2); // above √n; Newton's steps fall to its floor
  for (;;) {
    const next = (root + n / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

// denominator · score = Σ √root · (constant + Σ factors · values), all of them integers. The first root is 1; the others,
// and the ratios of any two, are no squares of rationals, so that 1 and the √root are linearly independent over the
// rationals (Besicovitch 1940): a sum with a factor other than 0 before one of them is no rational number.
class Score {
  constructor({ denominator, terms }) {
    this.denominator = integer(denominator);
    this.terms = terms.map(({ root, constant, factors }) => ({
      root: integer(root), constant: integer(constant), factors: factors.map(integer), floors: new Map(),
    }));
  }

  // Whether more of a value raises the score.
  rises(index) {
    return this.terms.some((term) => term.factors[index] > 0n);
  }

  // The score at some values as (rational + Σ factor · √root) / denominator.
  at(values) {
    const places = Math.max(0, ...values.map((value) => value.places));
    const one = 10n ** BigInt(places);
    const [{ factor: rational }, ...parts] = this.terms.map((term) => ({
      term,
      factor: values.reduce((sum, value, i) => sum + term.factors[i] * digitsAt(value, places), term.constant * one),
    }));
    return { rational, parts: parts.filter((part) => part.factor), denominator: this.denominator * one };
  }

  // 1, 0 or -1: the score, with one more term if there is one, is above, at or below a decimal.
  compare(values, threshold, term = null) {
    const at = this.at(values);
    const { rational, parts, denominator } = term ? joined(at, term) : at;
    const one = 10n ** BigInt(threshold.places);
    const offset = rational * one - threshold.digits * denominator;
    if (!parts.length) return offset > 0n ? 1 : offset < 0n ? -1 : 0;
    for (let bits = 64n; ; bits *= 2n) {
      const [low, high] = enclosed(offset, parts, one, bits);
      if (low > 0n) return 1;
      if (high < 0n) return -1;
    }
  }

  // The nearest decimal with so many places; of two as near, the higher.
  nearest(values, places) {
    const { rational, parts, denominator } = this.at(values);
    const one = 10n ** BigInt(places);
    for (let bits = parts.length ? 64n : 0n; ; bits *= 2n) {
      const [low, high] = enclosed(rational * one, parts, one, bits).map((end) =>
        floorOf(2n * end + (denominator << bits), denominator << (bits + 1n)));
      if (low === high) return { digits: low, places };
    }
  }
}

// A sum as that of `at` with one more term, factor/denominator · √root: that root is a new one, or s/r times another, of r,
// if root · r is the square of s.
function joined({ rational, parts, denominator }, { factor, root, denominator: under }) {
  const terms = [{ term: { root: 1n }, factor: rational }, ...parts];
  const square = (r) => floorRoot(root * r);
  const same = factor ? terms.find(({ term }) => square(term.root) ** 2n === root * term.root) : null;
  const by = under * (same ? same.term.root : 1n);
  const [{ factor: whole }, ...others] = terms.map((each) => ({
    term: each.term, factor: each.factor * by + (each === same ? factor * denominator * square(each.term.root) : 0n) }));
  if (factor && !same) others.push({ term: { root, floors: new Map() }, factor: factor * denominator });
  return { rational: whole, parts: others.filter((part) => part.factor), denominator: denominator * by };
}

// Integers around 2**bits · (offset + one · Σ factor · √root).
function enclosed(offset, parts, one, bits) {
  let low = offset << bits;
  let high = low;
  for (const { term, factor } of parts) {
    if (!term.floors.has(bits)) term.floors.set(bits, floorRoot(term.root << (2n * bits)));
    const floor = term.floors.get(bits);
    const ends = [factor * one * floor, factor * one * (floor + 1n)];
    low += ends[factor > 0n ? 0 : 1];
    high += ends[factor > 0n ? 1 : 0];
  }
  return [low, high];
}

// The smallest whole number from 1 on for which it is true; it is false for 0, stays true once it is, and comes true.
function smallest(isTrue) {
  let high = 1n;
  while (!isTrue(high)) high *= 2n;
  let low = high / 2n;
  while (high - low > 1n) {
    const middle = (low + high) / 2n;
    if (isTrue(middle)) high = middle;
    else low = middle;
  }
  return high;
}

// --- a member's own number, which moves the mean and the SD ---------------------------------------------------------

// As hensa/next_step.py proves: with d more, A = nx - S becomes A + (n - 1)d, C = (n - 1)P - A² stays, and the standard
// score becomes L·A/√(A² + C) with L² = (n - 1)(n - ddof)/n, which never falls, nor exceeds L.
class Own {
  constructor({ count, ddof, alike }, { rest, own }) {
    [this.n, this.ddof, this.unit, this.sum, this.spread] = [count, ddof, own.unit, own.sum, own.spread].map(integer);
    [this.weight, this.under] = own.weight.map(integer);
    [this.rest, this.isAlike, this.isExact] = [new Score(rest), alike, own.exact];
  }

  // The smallest number of further units of value i that reaches a threshold; null if none does, undefined if no member
  // of such a population has that value.
  further(values, i, threshold) {
    const { n, ddof, weight, under } = this;
    if (weight <= 0n || n === 1n) return null;
    const one = 10n ** BigInt(values[i].places);
    const a = this.unit * n * values[i].digits - this.sum * one;
    let c = (n - 1n) * this.spread * one * one - a * a;
    if (c < 0n && this.isExact) return undefined;
    if (c < 0n) c = 0n; // the sums of Welford's method are rounded
    const most = (n - 1n) * (n - ddof) * n;
    const side = this.rest.compare(values, threshold, { factor: weight, root: most, denominator: under * n });
    if (side < 0 || (side === 0 && c > 0n)) return null;
    return smallest((more) => {
      const raised = a + (n - 1n) * more * this.unit * one;
      const square = raised * raised + c;
      if (!square && !this.isAlike) return false; // all are alike, and have no score
      const term = square ? { factor: weight * raised, root: most * square, denominator: under * n * square }
        : { factor: 0n, root: 1n, denominator: 1n };
      return this.rest.compare(values, threshold, term) >= 0;
    });
  }
}

// --- programs ---------------------------------------------------------------------------------------------------------

class Program {
  constructor(data) {
    this.data = data;
    this.thresholds = data.thresholds.map(decimal);
    this.rates = data.rates.map(decimal);
    this.score = data.score && new Score(data.score);
    this.singles = data.score && data.columns.map((column) => column.score && new Score(column.score));
    this.owns = data.score && data.columns.map((column) => new Own(data, column));
  }

  // What the values of its columns, a base and the stage before (null: not known) come to: the index of the step (-1: on
  // none), product, bonus and points, and the next step with how many more of each column take one there (null: no
  // number does), how many do when they move the mean and the SD (undefined: no member has that value), and its bonus.
  judge(values, base = null, before = null) {
    const { data } = this;
    const count = data.score ? this.countOf(values) : this.stageOf(values);
    const index = count || data.below === "zero" ? count - 1 : 0;
    const target = index + 1;
    const further = data.score ? this.furtherOf : this.furtherStageOf;
    const next = target < this.rates.length
      ? {
        index: target,
        further: values.map((_, i) => further.call(this, values, i, target)),
        bonus: data.score ? 0n : this.bonusOf(target + 1, Math.max(before ?? 0, count)),
        own: data.score && values.map((_, i) => this.owns[i].further(values, i, this.thresholds[target])),
      } : null;
    if (base === null || !data.reward) return { index, next, base: null, product: null, bonus: 0n, points: null };
    const bonus = before === null ? 0n : this.bonusOf(count, before);
    return { index, next, base, bonus, product: this.productAt(index, base), points: this.pointsAt(index, base, bonus) };
  }

  productAt(index, base) {
    const { digits, places } = product(base, index < 0 ? decimal("0") : this.rates[index]);
    return trimmed({ digits, places: places + (this.data.unit === "percent" ? 2 : 0) });
  }

  pointsAt(index, base, bonus) {
    const { rounding, cap } = this.data.reward;
    const points = rounded(this.productAt(index, base), rounding) + bonus;
    return cap !== null && points > BigInt(cap) ? BigInt(cap) : points;
  }

  // How many thresholds the score reaches.
  countOf(values) {
    let [low, high] = [0, this.thresholds.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.score.compare(values, this.thresholds[middle]) >= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  furtherOf(values, i, target) {
    if (!this.score.rises(i)) return null;
    const raised = (more) => values.map((value, j) => (i === j ? plus(value, more) : value));
    return smallest((more) => this.score.compare(raised(more), this.thresholds[target]) >= 0);
  }

  // The score as a decimal that lies on the step, with at least four places; standard scores with as many.
  shown(values) {
    const count = this.countOf(values);
    for (let places = 4; ; places++) {
      const score = this.score.nearest(values, places);
      const isAbove = count === 0 || compareDecimals(score, this.thresholds[count - 1]) >= 0;
      const isBelow = count === this.thresholds.length || compareDecimals(score, this.thresholds[count]) < 0;
      if (isAbove && isBelow) {
        const singles = this.singles.map((single) => single.nearest(values, places));
        return { score: decimalText(score), singles: singles.map(decimalText) };
      }
    }
  }

  // The highest stage that any column reaches; 0 for none.
  stageOf(values) {
    return Math.max(0, ...this.data.columns.map((column, i) => Math.max(0, ...column.minimums
      .filter(([, minimum]) => compareDecimals(values[i], decimal(minimum)) >= 0).map(([stage]) => stage))));
  }

  furtherStageOf(values, i, target) {
    const entry = this.data.columns[i].minimums.find(([stage]) => stage > target);
    if (!entry) return null;
    const minimum = decimal(entry[1]);
    const places = Math.max(minimum.places, values[i].places);
    return rounded({ digits: digitsAt(minimum, places) - digitsAt(values[i], places), places }, "ceil");
  }

  // The bonuses of all stages above the one before, up to this one.
  bonusOf(stage, before) {
    const bonuses = this.data.bonuses.filter((bonus) => bonus[0] > before && bonus[0] <= stage);
    return bonuses.reduce((sum, bonus) => sum + BigInt(bonus[1]), 0n);
  }
}
