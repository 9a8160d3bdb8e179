// Charts in SVG: a run's relative difference, a variable's history, analytic against numeric, one comparison.

import { FAIL, INCONCLUSIVE, number, rough } from "./data.js";
import { s } from "./dom.js";

const ZERO = 1e-18; // has no logarithm; below anything that float64 resolves
const CROWD = 80; // points in a line; more of them hide it

/**
 * Returns a chart of relative differences over steps, logarithmic.
 *
 * points: [{step, value, code}], thresholds: [[step, value]], size: {width, height}, title: text for those who cannot see it
 */
export function logChart(points, thresholds, { width, height }, title, chosen = null) {
  const known = points.filter(({ value }) => Number.isFinite(value));
  const lost = points.filter(({ value, code }) => code === FAIL && !Number.isFinite(value)); // at the top: they have no height
  const limits = thresholds.map(([step, value]) => [step, number(value)]).filter(([, value]) => value > 0);
  const box = { left: 46, right: width - 12, top: 10, bottom: height - 22 };
  const steps = [...[...known, ...lost].map(({ step }) => step), ...limits.map(([step]) => step)];
  const [first, last] = steps.length ? [Math.min(...steps), Math.max(...steps)] : [0, 1];
  const x = scale(first, last > first ? last : first + 1, box.left + 6, box.right - 6);
  const logs = [...known.map(({ value }) => decade(value)), ...limits.map(([, value]) => decade(value))];
  const [low, high] = [Math.floor(Math.min(-8, ...logs) - 0.3), Math.min(0, Math.ceil(Math.max(-4, ...logs) + 0.3))];
  const y = scale(low, high, box.bottom, box.top);
  const at = ({ step, value }) => `${x(step).toFixed(1)},${y(decade(value)).toFixed(1)}`;
  return s("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
    decades(low, high, y, box), stepTicks(first, last, x, box), limit(limits, x, y, box),
    known.length > 1 && s("polyline", { class: "line", points: known.map(at).join(" ") }),
    marked(known).map((point) => dot(x(point.step), y(decade(point.value)), point, chosen)),
    lost.map((point) => dot(x(point.step), box.top + 6, point, chosen)),
    !known.length && !lost.length && s("text", { class: "tick", x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing was measured"));
}

/** The points that get a mark of their own: with many, only what is wrong and where the line begins and ends. */
function marked(points) {
  if (points.length <= CROWD) return points;
  return points.filter(({ code }, i) => code === FAIL || i === 0 || i === points.length - 1);
}

function decade(value) {
  return Math.log10(Math.max(value, ZERO));
}

function scale(from, to, start, end) {
  return (value) => start + ((value - from) / (to - from)) * (end - start);
}

function decades(low, high, y, box) {
  const every = Math.max(1, Math.ceil((high - low) / 5));
  const ticks = [];
  for (let at = Math.ceil(low / every) * every; at <= high; at += every) ticks.push(at);
  return ticks.flatMap((at) => [
    s("line", { class: "rule", x1: box.left, x2: box.right, y1: y(at), y2: y(at) }),
    s("text", { class: "tick", x: box.left - 6, y: y(at) + 4, "text-anchor": "end" }, at === 0 ? "1" : `1e${at}`),
  ]);
}

function stepTicks(first, last, x, box) {
  const room = Math.max(2, Math.floor((box.right - box.left) / 90));
  const raw = Math.max(1, (last - first) / room);
  const size = 10 ** Math.floor(Math.log10(raw));
  const every = Math.max(1, [1, 2, 5, 10].map((factor) => factor * size).find((step) => step >= raw));
  const ticks = [];
  for (let at = Math.ceil(first / every) * every; at <= last; at += every) ticks.push(at);
  return ticks.map((at) => s("text", { class: "tick", x: x(at), y: box.bottom + 16, "text-anchor": "middle" }, String(at)));
}

/** The threshold as a line in steps, since it changes with the precision, the part above it tinted. */
function limit(limits, x, y, box) {
  if (!limits.length) return [];
  const corners = limits.flatMap(([step, value], i) => {
    const level = y(decade(value));
    const before = i === 0 ? box.left : x(step);
    return i === 0 ? [[before, level], [x(step), level]] : [[before, y(decade(limits[i - 1][1]))], [before, level]];
  });
  const path = [...corners, [box.right, y(decade(limits[limits.length - 1][1]))]];
  const told = path.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(" ");
  const [, end] = path[path.length - 1];
  return [
    s("polygon", { class: "above", points: `${box.left},${box.top} ${told} ${box.right},${box.top}` }),
    s("polyline", { class: "threshold", points: told }),
    s("text", { class: "tick threshold-label", x: box.right - 4, y: end - 5, "text-anchor": "end" }, `threshold ${rough(limits[limits.length - 1][1])}`),
  ];
}

function dot(cx, cy, { step, value, code }, chosen) {
  const told = s("title", {}, `step ${step}: ${rough(value, 2)}`);
  const mark = code === FAIL ? cross(cx, cy, 4) : s("circle", { class: code === INCONCLUSIVE ? "dot open" : "dot", cx, cy, r: 3 });
  const ring = step === chosen && s("circle", { class: "ring", cx, cy, r: 7 });
  return s("g", {}, told, mark, ring || null);
}

function cross(x, y, r) {
  return s("path", { class: "cross", d: `M${x - r},${y - r}L${x + r},${y + r}M${x - r},${y + r}L${x + r},${y - r}` });
}

/**
 * Returns a scatter of analytic against numeric derivatives with the line on which they agree.
 *
 * points: [[analytic, numeric, failed, own]]. Derivatives spread over decades and both signs, so that the axes are
 * logarithmic away from zero.
 */
export function scatter(points, { width, height }) {
  const box = { left: 52, right: width - 10, top: 10, bottom: height - 38 };
  const largest = Math.max(0, ...points.flatMap(([a, n]) => [Math.abs(a), Math.abs(n)])) || 1;
  const smallest = largest * 1e-5;
  const bend = (value) => Math.asinh(value / smallest);
  const end = bend(largest) * 1.08;
  const [x, y] = [scale(-end, end, box.left, box.right), scale(-end, end, box.bottom, box.top)];
  const place = ([analytic, numeric]) => [x(bend(numeric)), y(bend(analytic))];
  return s("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told(points) },
    signedTicks(largest, bend, x, y, box),
    s("line", { class: "agreement", x1: box.left, y1: box.bottom, x2: box.right, y2: box.top }),
    s("text", { class: "tick", x: box.left + 40, y: box.bottom - 8 }, "y = x"),
    points.map((point) => mark(place(point), point)),
    s("text", { class: "axis", x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, "numeric"),
    s("text", { class: "axis", x: 0, y: 0, transform: `translate(10 ${(box.top + box.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "analytic"));
}

function told(points) {
  const failed = points.filter(([, , isFailed]) => isFailed).length;
  return `Analytic against numeric derivative: ${points.length} comparisons of the check, ${failed} of them fail`;
}

function mark([x, y], [analytic, numeric, isFailed, isOwn]) {
  const name = isOwn ? "own" : "other";
  const shape = isFailed ? cross(x, y, isOwn ? 4.5 : 3) : s("circle", { cx: x, cy: y, r: isOwn ? 4 : 2.5 });
  shape.classList.add(name);
  return s("g", {}, s("title", {}, `analytic ${rough(analytic, 4)}, numeric ${rough(numeric, 4)}`), shape);
}

function signedTicks(largest, bend, x, y, box) {
  const top = Math.floor(Math.log10(largest));
  const values = [top, top - 2].flatMap((at) => [10 ** at, -(10 ** at)]);
  return [0, ...values].flatMap((value) => [
    s("line", { class: "rule", x1: box.left, x2: box.right, y1: y(bend(value)), y2: y(bend(value)) }),
    s("line", { class: "rule", x1: x(bend(value)), x2: x(bend(value)), y1: box.top, y2: box.bottom }),
    s("text", { class: "tick", x: box.left - 5, y: y(bend(value)) + 4, "text-anchor": "end" }, rough(value, 0)),
    s("text", { class: "tick", x: x(bend(value)), y: box.bottom + 15, "text-anchor": "middle" }, rough(value, 0)),
  ]);
}

/** Returns one comparison as a strip: what was measured, its error bar and one-sided slopes, what is allowed, what is claimed. */
export function strip(comparison, { width, height }) {
  const [analytic, numeric] = [number(comparison.analytic), number(comparison.numeric)];
  if (![analytic, numeric].every(Number.isFinite)) return s("svg", { width, height, "aria-hidden": "true" });
  const [error, allowed] = [number(comparison.error), number(comparison.allowed)].map((v) => (Number.isFinite(v) ? v : 0));
  const reach = Math.max(Math.abs(analytic - numeric), error, allowed) * 1.15 || Math.abs(numeric) || 1;
  const x = scale(numeric - reach, numeric + reach, 5, width - 5);
  const middle = height / 2;
  const bar = (from, to, name, half) => s("rect", { class: name, x: x(from), y: middle - half, width: Math.max(1, x(to) - x(from)), height: 2 * half });
  const sides = [comparison.left, comparison.right].map(number).filter((v) => Math.abs(v - numeric) <= reach);
  return s("svg", { class: "strip", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    s("title", {}, "dot and bar: numeric with its error; thin strokes: one-sided slopes; band: allowed; diamond: analytic"),
    s("line", { class: "rule", x1: 2, x2: width - 2, y1: middle, y2: middle }),
    bar(numeric - allowed, numeric + allowed, "allowed", 7),
    sides.map((slope) => s("line", { class: "side", x1: x(slope), x2: x(slope), y1: middle - 5, y2: middle + 5 })),
    bar(numeric - error, numeric + error, "error", 1.5),
    s("circle", { class: "numeric", cx: x(numeric), cy: middle, r: 3.2 }),
    s("path", { class: comparison.verdict === "FAIL" ? "analytic failed" : "analytic", d: diamond(x(analytic), middle, 5) }));
}

function diamond(x, y, r) {
  return `M${x},${y - r}L${x + r},${y}L${x},${y + r}L${x - r},${y}Z`;
}
