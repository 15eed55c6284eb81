"use strict";
// The page: fields in, answers, chart and tables out. What the answers are is decided in exact.js.

const { lang, words, fields, programs: given } = JSON.parse(document.getElementById("data").textContent);
const programs = given.map((data) => new Program(data));

// --- elements ---------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

// A text whose places are filled with elements or text.
function pieces(text, values) {
  return text.split(/(\{\w+\})/).map((part) => (part[0] === "{" ? values[part.slice(1, -1)] : part));
}

// The sign of what nobody published.
function mark(standing) {
  if (standing !== "reconstructed") return "";
  return element("sup", { class: "ours", title: words.ours }, "†", element("span", { class: "visually-hidden" }, words.ours));
}

function table(caption, head, rows) {
  const cell = (content, i, scope) => element(scope && (i === 0 || scope === "col") ? "th" : "td",
    { class: i === 0 ? "text" : null, scope: scope === "col" || i === 0 ? scope : null }, ...[content].flat());
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    element("table", { class: "data" },
      element("caption", { class: "visually-hidden" }, caption),
      element("thead", {}, element("tr", {}, ...head.map((content, i) => cell(content, i, "col")))),
      element("tbody", {}, ...rows.map(({ cells, isHere = false }) =>
        element("tr", isHere ? { class: "here", "aria-current": "true" } : {},
          ...cells.map((content, i) => cell(content, i, "row")))))));
}

// --- fields -----------------------------------------------------------------------------------------------------------

const UNKNOWN = { value: null, problem: "" };

// The decimal that was typed, or what is wrong with it. Wide digits are digits, commas and spaces group thousands,
// and a unit may follow.
function read(field, typed) {
  const plain = typed.normalize("NFKC").trim().replace(/\s*(人|名|ポイント|points?|pt)$/i, "");
  const text = plain.replace(/^[−–]/, "-").replace(/^\+/, "").replaceAll("、", ",");
  if (!text) return UNKNOWN;
  const refuse = (problem) => ({ value: null, problem: fill(problem, { typed: typed.trim(), label: field.label }) });
  if (!/^-?(\d+|\d{1,3}([, '_]\d{3})+)(\.\d*)?$/.test(text)) return refuse(words.not_a_number);
  const value = trimmed(decimal(text.replace(/[, '_]/g, "")));
  if (field.whole && value.places) return refuse(words.not_whole);
  if (!field.signed && value.digits < 0n) return refuse(words.negative);
  if (text.replace(/\..*|\D/g, "").length > 15) return refuse(words.too_large);
  if (value.places > 15) return refuse(words.too_fine);
  return { value, problem: "" };
}

function fieldOf(name) {
  return fields.find((field) => field.name === name);
}

function amount(value, name) {
  return decimalText(value) + fieldOf(name).unit;
}

// --- one program ------------------------------------------------------------------------------------------------------

function percent(program, index) {
  const rate = index < 0 ? decimal("0") : program.rates[index];
  const shifted = program.data.unit === "percent" ? rate : { digits: rate.digits * 100n, places: rate.places };
  return `${decimalText(trimmed(shifted))}%`;
}

function rateOf(program, index) {
  const standing = index < 0 ? program.data.standing["rates.below"] : program.data.standings[index];
  return element("span", {}, percent(program, index), mark(standing));
}

// The number of a step as people are told it: of stages the first is 1, and 0 is none.
function stepText(program, index) {
  if (program.data.kind === "stage") return String(index + 1);
  return index < 0 ? words.off_table : String(index);
}

// What is known of one program: the values of its columns, and what they come to.
function answer(program, known) {
  const { columns, reward, previous, unscored } = program.data;
  const values = columns.map(({ name }) => known.get(name));
  if (unscored.length || values.includes(null)) return { values, found: null };
  const before = previous && known.get(previous) ? Number(known.get(previous).digits) : null;
  const found = program.judge(values, reward && known.get(reward.base), before);
  return { values, found, shown: program.score ? program.shown(values) : null };
}

function card(program, { values, found, shown }, first, number) {
  const { data } = program;
  const head = [element("h2", { id: `program-${number}` }, data.title)];
  if (data.dates) head.push(element("p", {}, data.dates));
  const parts = [];
  if (data.unscored.length) {
    head.push(element("p", {}, fill(words.all_alike, { names: data.unscored.join(words.comma) })));
  } else if (!found) {
    const missing = data.columns.filter((_, i) => values[i] === null).map(({ name }) => name);
    for (const [text, isWrong] of [[words.mending, true], [words.waiting, false]]) {
      const names = missing.filter((name) => problems.has(name) === isWrong).map((name) => fieldOf(name).label);
      if (names.length) head.push(element("p", { class: "waiting" }, fill(text, { names: names.join(words.comma) })));
    }
  } else {
    head.push(figures(program, found, shown), ...explained(program, found, first));
    parts.push(nextStep(program, values, found));
    if (data.score) parts.push(breakdown(program, values, shown));
  }
  if (data.score) {
    parts.push(part(words.rates, element("div", { class: "chart" }), legend(program)));
    if (found) parts.push(part(words.nearby, nearby(program, found)));
  } else {
    parts.push(part(words.stages, stages(program, found)));
  }
  const note = data.ours ? element("p", { class: "note" }, "† ", data.ours) : "";
  return element("section", { "aria-labelledby": `program-${number}` }, ...head,
    element("div", { class: "parts" }, ...parts), note);
}

function part(heading, ...children) {
  return element("div", {}, element("h3", {}, heading), ...children);
}

function figures(program, found, shown) {
  const isStage = program.data.kind === "stage";
  const figure = (name, ...value) => element("div", {}, element("dt", {}, name), element("dd", {}, ...value));
  return element("dl", { class: "tiles" },
    figure(words.rate, rateOf(program, found.index)),
    found.points === null ? null : figure(words.points, decimalText({ digits: found.points, places: 0 })),
    figure(isStage ? words.stage : words.step, stepText(program, found.index),
      isStage ? "" : element("small", {}, fill(words.at_score, shown))));
}

function explained(program, found, first) {
  const { data } = program;
  const lines = [];
  if (found.points === null) {
    if (data.reward) lines.push([fill(words.no_base, { name: fieldOf(data.reward.base).label })]);
  } else {
    const isRounded = found.product.places > 0;
    const isCapped = data.reward.cap !== null && compareDecimals(plus(found.product, found.bonus), decimal(data.reward.cap)) > 0;
    lines.push(pieces(found.bonus ? words.sum_with_bonus : words.sum, {
      name: fieldOf(data.reward.base).label,
      rate: percent(program, found.index),
      base: amount(found.base, data.reward.base),
      product: decimalText(found.product),
      rounded: isRounded ? element("span", {}, words[data.reward.rounding], mark(data.standing["reward.rounding"])) : "",
      bonus: decimalText({ digits: found.bonus, places: 0 }),
      capped: isCapped ? fill(words.capped, { cap: decimalText(decimal(data.reward.cap)) }) : "",
    }));
    if (first && first.points !== null) {
      const gap = found.points - first.points;
      const kind = gap > 0n ? "gain" : gap < 0n ? "lose" : "same";
      const size = decimalText({ digits: gap < 0n ? -gap : gap, places: 0 });
      lines.push([element("strong", { class: kind }, fill(words[kind], { gap: size, name: programs[0].data.title }))]);
    }
  }
  return lines.map((line) => element("p", {}, ...line));
}

function nextStep(program, values, found) {
  const { data } = program;
  const kind = data.kind === "stage" ? "stage" : "step";
  if (!found.next) return part(words[`to_next_${kind}`], element("p", {}, words[`no_next_${kind}`]));
  const { index, further, own, bonus } = found.next;
  const items = data.columns.map(({ name, falls }, i) => {
    const { label } = fieldOf(name);
    if (falls) return element("li", {}, fill(words.falls, { name: label }));
    const number = further[i] === null ? null : amount({ digits: further[i], places: 0 }, name);
    const total = number && amount(plus(values[i], further[i]), name);
    const text = kind === "step" ? fill(words.step_more, { name: label, clauses: clauses(further[i], own[i], name) })
      : fill(number ? words.stage_more : words.no_number, { name: label, number, total });
    return element("li", {}, element("span", {}, text),
      number && element("button", { type: "button", "aria-label": fill(words.try_label, { name: label, number }),
        onclick: () => type(name, decimalText(plus(values[i], further[i]))) }, words.try));
  });
  return part(words[`to_next_${kind}`],
    element("p", {}, ...pieces(words[`next_${kind}`], {
      step: stepText(program, index),
      threshold: decimalText(program.thresholds[index]),
      rate: rateOf(program, index),
      once: bonus ? fill(words.next_once, { bonus: decimalText({ digits: bonus, places: 0 }) }) : "",
    })),
    element("ul", { class: "further" }, ...items));
}

// How many more it takes, as hensa explains it.
function clauses(fixed, own, name) {
  const said = (number, key) => number === null ? words.clauses[`${key}_none`]
    : fill(words.clauses[key], { number: amount({ digits: number, places: 0 }, name) });
  if (own === undefined) return said(fixed, "fixed");
  if (fixed !== null && fixed === own) return said(fixed, "same");
  return [said(fixed, "fixed"), said(own, "own")].join(words.clauses.and);
}

// How the score comes about.
function breakdown(program, values, shown) {
  const { data } = program;
  const { standing } = data;
  const isWeighted = new Set(data.columns.map(({ weight }) => weight)).size > 1;
  const head = [words.counted, words.you_have, words.mean, [words.sd, mark(standing["rule.ddof"])], words.standard_score];
  const rows = data.columns.map(({ name, mean, sd, weight, constant }, i) => ({ cells: [
    fieldOf(name).label, decimalText(values[i]), mean, sd,
    [shown.singles[i], constant ? mark(standing["rule.constant"]) : ""],
    ...(isWeighted ? [weight] : []),
  ] }));
  if (isWeighted) head.push(words.weight);
  return part(words.how,
    table(words.how_caption, head, rows),
    element("p", {}, fill(words[data.columns.length === 1 ? "single" : isWeighted ? "weighted" : "average"], shown)));
}

function here(step, isHere) {
  return isHere ? element("span", { class: "you" }, step, element("strong", {}, words.you)) : step;
}

// The steps around the one that was reached.
function nearby(program, found) {
  const { data } = program;
  const most = program.rates.length;
  const start = Math.max(0, Math.min(found.index - 2, most - 5));
  const rows = [];
  for (let index = start; index < Math.min(start + 5, most); index++) {
    const isHere = index === found.index;
    const isLowest = index === 0 && data.below === "first";
    rows.push({ isHere, cells: [
      here(String(index), isHere),
      isLowest ? words.any : decimalText(program.thresholds[index]),
      rateOf(program, index),
      ...(found.points === null ? [] : [decimalText({ digits: program.pointsAt(index, found.base, found.bonus), places: 0 })]),
    ] });
  }
  return table(words.nearby, [words.step, words.from, words.rate, ...(found.points === null ? [] : [words.points])], rows);
}

function stages(program, found) {
  const { data } = program;
  const hasBonus = data.bonuses.length > 0;
  const rows = program.rates.map((_, index) => {
    const isHere = Boolean(found) && index === found.index;
    const entry = (entries) => entries.find(([stage]) => stage === index + 1);
    const cell = (entries, show) => {
      const one = entry(entries);
      return one ? [show(one[1]), mark(one[2])] : "–";
    };
    return { isHere, cells: [
      here(String(index + 1), isHere),
      ...data.columns.map(({ minimums }) => cell(minimums, (minimum) => decimalText(decimal(minimum)))),
      rateOf(program, index),
      ...(hasBonus ? [cell(data.bonuses, (points) => decimalText(decimal(points)))] : []),
    ] };
  });
  const head = [words.stage, ...data.columns.map(({ name }) => fieldOf(name).label), words.rate];
  return table(words.stages, hasBonus ? [...head, words.once] : head, rows);
}

// --- the chart --------------------------------------------------------------------------------------------------------

// Round numbers that cut a range into about so many parts.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step); tick * step <= high; tick++) found.push(Number((tick * step).toPrecision(12)));
  return found;
}

function chart(program, shown, found, width) {
  const { data } = program;
  const number = (value) => Number(value.digits) / 10 ** value.places;
  const scores = program.thresholds.map(number);
  const rates = program.rates.map((rate) => number(rate) * (data.unit === "percent" ? 1 : 100));
  const [first, last] = [scores[0], scores.at(-1)];
  const margin = (last - first || 2) * 0.06;
  const [low, high] = [first - margin, last + margin];
  const top = Math.max(...rates, 0) * 1.12 || 1;
  const bottom = Math.min(...rates, 0);
  const box = { left: 48, right: width - 12, top: 14, bottom: 250 };
  const x = (score) => box.left + (box.right - box.left) * (score - low) / (high - low);
  const y = (rate) => box.bottom - (box.bottom - box.top) * (rate - bottom) / (top - bottom);
  const line = (x1, y1, x2, y2, kind) => element("svg:line", { x1, y1, x2, y2, class: kind });
  const text = (at, down, anchor, kind, content) =>
    element("svg:text", { x: at, y: down, "text-anchor": anchor, class: kind }, content);
  const label = (value) => value.toLocaleString("en", { maximumSignificantDigits: 12 });
  const drawn = [];
  for (const tick of ticks(bottom, top, 6)) {
    drawn.push(line(box.left, y(tick), box.right, y(tick), "grid"));
    drawn.push(text(box.left - 6, y(tick) + 4, "end", "tick", `${label(tick)}%`));
  }
  for (const tick of ticks(low, high, Math.max(2, width / 70))) {
    drawn.push(line(x(tick), box.bottom, x(tick), box.bottom + 5, "axis"));
    drawn.push(text(x(tick), box.bottom + 20, "middle", "tick", label(tick)));
  }
  drawn.push(line(box.left, box.bottom, box.right, box.bottom, "axis"));
  drawn.push(text((box.left + box.right) / 2, box.bottom + 40, "middle", "tick", words.score));
  // Steps of one standing in a row are one path; the riser belongs to the step it leads to.
  const runs = [];
  const begin = data.below === "first" ? rates[0] : 0;
  let path = `M${x(low)},${y(begin)}H${x(first)}`;
  let kind = data.below === "first" ? data.standings[0] : data.standing["rates.below"];
  rates.forEach((rate, index) => {
    if (data.standings[index] !== kind) {
      runs.push([path, kind]);
      path = `M${x(scores[index])},${y(index ? rates[index - 1] : begin)}`;
      kind = data.standings[index];
    }
    path += `V${y(rate)}H${x(scores[index + 1] ?? high)}`;
  });
  runs.push([path, kind]);
  for (const [d, standing] of runs) {
    drawn.push(element("svg:path", { d, class: standing === "reconstructed" ? "steps ours" : "steps" }));
  }
  let description = words.chart;
  if (found) {
    const score = Number(shown.score.replaceAll(",", ""));
    const side = score < low ? -1 : score > high ? 1 : 0;
    const at = side < 0 ? box.left : side > 0 ? box.right : x(score);
    const rate = y(found.index < 0 ? 0 : rates[found.index]);
    const isLeft = at < box.left + 110; // else the place up to the left is free where rates rise
    const you = side < 0 ? `← ${words.here}` : side > 0 ? `${words.here} →` : words.here;
    drawn.push(line(at, rate, at, box.bottom, "drop"));
    drawn.push(element("svg:circle", { cx: at, cy: rate, r: 6, class: "dot" }));
    drawn.push(text(at + (isLeft ? -4 : -8), rate - (isLeft ? 14 : 8), isLeft ? "start" : "end", "here", you));
    description += fill(words.chart_you, { score: shown.score, rate: percent(program, found.index) });
  }
  return element("svg:svg", { viewBox: `0 0 ${width} 300`, width, height: 300, role: "img", "aria-label": description }, ...drawn);
}

function legend(program) {
  const { standings } = program.data;
  if (!standings.includes("reconstructed")) return "";
  const entry = (kind, name) => element("li", {}, element("span", { class: kind }), name);
  return element("ul", { class: "legend" }, entry("line", words.published), entry("line ours", words.ours_key));
}

// --- the page ---------------------------------------------------------------------------------------------------------

const inputs = new Map();
const problems = new Map(); // what is wrong with what was typed, by the name of the field
const answers = document.getElementById("answers");
const spoken = document.getElementById("status");
let saying = 0;

function type(name, text) {
  inputs.get(name).value = text;
  show();
  inputs.get(name).focus();
}

function show() {
  const known = new Map();
  for (const field of fields) {
    const input = inputs.get(field.name);
    const { value, problem } = read(field, input.value);
    known.set(field.name, value);
    if (problem) problems.set(field.name, problem);
    else problems.delete(field.name);
    input.setAttribute("aria-invalid", problem ? "true" : "false");
    document.getElementById(`problem-${field.name}`).textContent = problem;
  }
  const found = programs.map((program) => answer(program, known));
  answers.replaceChildren(...programs.map((program, i) => card(program, found[i], i ? found[0].found : null, i)));
  programs.forEach((program, i) => {
    const host = answers.children[i].querySelector(".chart");
    if (host) host.append(chart(program, found[i].shown, found[i].found, Math.max(280, host.clientWidth)));
  });
  // Said once the typing pauses.
  clearTimeout(saying);
  saying = setTimeout(() => { spoken.textContent = programs.map((program, i) => said(program, found[i])).join(" "); }, 700);
}

function said(program, { found }) {
  if (!found) return "";
  const rate = percent(program, found.index);
  const points = found.points === null ? "" : decimalText({ digits: found.points, places: 0 });
  return fill(points ? words.said_points : words.said, { name: program.data.title, rate, points });
}

for (const field of fields) {
  const [hint, problem] = [`hint-${field.name}`, `problem-${field.name}`];
  const input = element("input", {
    id: field.name, type: "text", inputmode: field.whole && !field.signed ? "numeric" : "text", autocomplete: "off",
    "aria-describedby": `${hint} ${problem}`, oninput: show });
  inputs.set(field.name, input);
  document.getElementById("fields").append(element("div", { class: "field" },
    element("label", { for: field.name }, field.label),
    input,
    element("p", { class: "hint", id: hint }, field.hint),
    element("p", { class: "problem", id: problem, role: "alert" })));
}
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; show(); } });
show();
