// What the server tells, fetched and unpacked. The page's words come from the server, which knows them anyhow.

import { WORDS } from "./words.js";

export const TERMS = WORDS.terms; // [{name, meaning, nothing}]
export const MEASURED = WORDS.measured; // names of the terms whose derivatives are measured
// A cell holds an index into these.
export const VERDICTS = WORDS.codes.map(({ name }) => name);
export const VERDICT_NAMES = Object.fromEntries(WORDS.codes.map(({ name, told }) => [name, told]));
export const FAIL = VERDICTS.indexOf("fail");
export const INCONCLUSIVE = VERDICTS.indexOf("inconclusive");
export const [UNSAMPLED, VACUOUS] = VERDICTS.keys();
export const ALL = WORDS.everything;
export const NOT_MEASURED = WORDS.notMeasured;

/** Returns the address of a route. */
export function address(route, query = {}) {
  // Relative to this module, so that a path prefix or a notebook's proxy stays in the address.
  const found = new URL(route, import.meta.url);
  for (const [name, value] of Object.entries(query)) found.searchParams.set(name, value);
  return found;
}

/** Returns the JSON that a route answers; throws an Error with the server's words otherwise. */
export async function fetched(route, query = {}) {
  const response = await fetch(address(route, query), { headers: { Accept: "application/json" } });
  const text = await response.text();
  performance.mark(`gradhooks:received:${route}`);
  const answer = parsed(text);
  if (!response.ok || answer.error) throw new Error(answer.error || `TensorBoard answered ${response.status}`);
  return answer;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return { error: "TensorBoard's answer is not JSON" };
  }
}

/** Returns an overview with its cells as arrays of bytes, a row per variable. */
export function unpacked(overview) {
  const terms = {};
  for (const { name } of TERMS) {
    terms[name] = { codes: bytes(overview.terms[name].codes), levels: bytes(overview.terms[name].levels) };
  }
  return { ...overview, terms, labels: labelled(overview.variables) };
}

function bytes(base64) {
  const text = atob(base64);
  const array = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) array[i] = text.charCodeAt(i);
  return array;
}

/** Returns, per variable, its layer and its own name; what all layers have in common is left out. */
function labelled(variables) {
  const parts = variables.map((path) => (path === ALL ? [] : path.split("/")));
  const shared = sharedPrefix(parts.filter((part) => part.length > 1).map((part) => part.slice(0, -1)));
  return parts.map((part, row) => {
    if (variables[row] === ALL) return { layer: "", name: "all variables" };
    const above = part.length > 1 ? part.slice(shared, -1) : [];
    return { layer: above.join("/"), name: part[part.length - 1] };
  });
}

function sharedPrefix(paths) {
  if (!paths.length) return 0;
  // A model of one layer keeps that layer's name.
  let shared = Math.min(...paths.map((path) => path.length)) - 1;
  for (const path of paths) {
    for (let i = 0; i < shared; i += 1) if (path[i] !== paths[0][i]) shared = i;
  }
  return Math.max(0, shared);
}

/**
 * Returns a function of a path: whether it is what somebody asks for.
 *
 * `*` and `?` behind a letter or at the front make a pattern like those of `expect`, which may begin and end at any
 * part of the path; anything else is a regular expression, as in TensorBoard's own filters. Plain text is found always.
 */
export function matcher(typed) {
  const sought = typed.trim();
  if (!sought) return () => true;
  const isPattern = /(^|[^.)\]}\\])[*?]/.test(sought) && !/[\\^$()|+]/.test(sought);
  const expression = compiled(isPattern ? translated(sought) : sought);
  const plain = sought.toLowerCase();
  return (path) => path.toLowerCase().includes(plain) || Boolean(expression?.test(path));
}

/** Returns the regular expression of a pattern; brackets choose a character, as in `fnmatch`. */
function translated(pattern) {
  const parts = pattern.split(/(\*+|\?|\[!?[^\]]+\])/).map((part) => {
    if (part.startsWith("*")) return ".*";
    if (part === "?") return ".";
    if (part.length > 2 && part.startsWith("[") && part.endsWith("]")) return part.replace("[!", "[^");
    return part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  });
  return `(^|/)${parts.join("")}(/|$)`;
}

function compiled(source) {
  try {
    return new RegExp(source, "i");
  } catch {
    return null; // half typed
  }
}

/**
 * Returns what the checks of the latest fit have found out about a variable in a term: {code, level, checks, column}.
 *
 * The worst verdict with the largest difference that led to it, in how many checks it was compared, and in which last.
 */
export function soFar(run, term, row) {
  const { codes, levels } = run.terms[term];
  const found = { code: UNSAMPLED, level: run.scale.unknown, checks: 0, column: -1 };
  for (let column = run.fits.first; column < run.checks.length; column += 1) {
    const at = row * run.checks.length + column;
    if (codes[at] === UNSAMPLED) continue;
    if (codes[at] > VACUOUS) found.checks += 1;
    found.column = column;
    const isLarger = levels[at] !== run.scale.unknown && (found.level === run.scale.unknown || levels[at] > found.level);
    if (codes[at] > found.code || (codes[at] === found.code && isLarger)) found.level = levels[at];
    found.code = Math.max(found.code, codes[at]);
  }
  return found;
}

/** Whether no check of the latest fit has measured anything of a variable; what the optimizer received is not measured. */
export function isNeverCompared(run, row) {
  return MEASURED.every((term) => soFar(run, term, row).code <= VACUOUS);
}

/** Returns the checks of a run's latest fit; those of earlier ones that it goes on from are told apart. */
export function latestFit(run) {
  return run.checks.slice(run.fits.first);
}

/** Returns how many checks of a run's latest fit failed. */
export function failures(run) {
  return latestFit(run).filter(({ verdict }) => verdict === "FAIL").length;
}

/** Returns the relative difference that a level stands for; NaN where unknown. */
export function difference(level, scale) {
  if (level === scale.unknown) return NaN;
  return level === 0 ? 0 : 10 ** (scale.lowest * (1 - level / (scale.unknown - 1)));
}

/** Returns a number from JSON; NaN and infinities come as words. */
export function number(value) {
  return typeof value === "number" ? value : Number(value ?? NaN);
}

/** Returns a number in a few characters. */
export function rough(value, digits = 1) {
  const x = number(value);
  if (Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  return x === 0 ? "0" : x.toExponential(digits).replace("e+0", "").replace("e+", "e");
}

/** Returns a number with the digits that two gradients are compared by. */
export function exact(value) {
  const x = number(value);
  return Number.isFinite(x) ? x.toExponential(8) : rough(x);
}

/** Returns a share near 1, or a cosine, as people read it. */
export function plain(value) {
  const x = number(value);
  if (!Number.isFinite(x)) return rough(x);
  const magnitude = Math.abs(x);
  return magnitude !== 0 && (magnitude < 1e-3 || magnitude >= 1e6) ? x.toExponential(4) : String(Number(x.toPrecision(7)));
}

/** Returns the time of day at which something happened. */
export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
}
