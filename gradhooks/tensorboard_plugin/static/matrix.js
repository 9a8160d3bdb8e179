// The matrix as a part of the page: scrolling, pointer and keys around what the painter draws.

import { ALL, FAIL, INCONCLUSIVE, TERMS, VERDICTS, VERDICT_NAMES, difference, isNeverCompared, matcher, rough, soFar } from "./data.js";
import { palette } from "./colours.js";
import { h } from "./dom.js";
import { paint } from "./painter.js";

const HEADER = 26;
const TALLEST = 520;
// Where everything is to be seen at once: a row of a pixel for seven hundred variables.
const TALLEST_COMPACT = 720;
// The column beside the names: what all checks together have found out.
const SO_FAR = 44;
let numbered = 0;

export class Matrix {
  /** opened(row, column) is called for the cell that somebody chooses. */
  constructor(opened) {
    this.opened = opened;
    this.rows = [];
    this.cursor = null;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.spacer = h("div", { class: "spacer" });
    const help = `matrix-help-${(numbered += 1)}`;
    this.view = h("div", {
      class: "matrix", tabindex: "0", role: "application", "aria-describedby": help,
      onscroll: () => this.paint(), onkeydown: (event) => this.key(event), onclick: (event) => this.click(event),
      onmousemove: (event) => this.hover(event), onmouseleave: () => this.leave(), onfocus: () => this.focus(), onblur: () => this.leave(),
    }, this.canvas, this.spacer);
    this.tip = h("div", { class: "tip", hidden: true });
    this.live = h("div", { class: "unseen", "aria-live": "polite" });
    this.nothing = h("p", { class: "muted nothing", hidden: true });
    const told = "Arrow keys move over variables and checks, Home and End to the first and last check, Enter opens a cell.";
    this.element = h("div", { class: "matrix-frame" }, this.view, this.tip, this.live, this.nothing, h("p", { class: "unseen", id: help }, told));
  }

  /** Shows a run in a term; settings: {term, query, problems, never, compact}. */
  show(run, settings) {
    const isNew = !this.run;
    const wasAtEnd = isNew || this.view.scrollLeft + this.view.clientWidth >= this.view.scrollWidth - 2;
    this.run = run;
    this.settings = settings;
    this.palette = palette();
    this.rows = chosenRows(run, settings);
    this.soFar = this.rows.map((row) => soFar(run, settings.term, row));
    this.keepCursor();
    this.view.setAttribute("aria-label", `Gradients of ${run.run}, ${settings.term}: ${this.rows.length} variables by ${run.checks.length} checks`);
    const isCompared = run.terms[settings.term].codes.some((code) => code > 0);
    this.nothing.textContent = isCompared ? emptyFilter(run, settings) : TERMS.find(({ name }) => name === settings.term).nothing;
    this.nothing.hidden = isCompared && this.rows.length > 0;
    this.view.hidden = !this.nothing.hidden;
    if (this.view.hidden) return;
    this.layOut();
    // The latest check is what people come for.
    if (wasAtEnd) this.view.scrollLeft = this.view.scrollWidth;
    this.paint();
  }

  keepCursor() {
    if (!this.cursor) return;
    this.cursor.row = Math.max(0, Math.min(this.cursor.row, this.rows.length - 1));
    this.cursor.column = Math.max(0, Math.min(this.cursor.column, this.run.checks.length - 1));
  }

  layOut() {
    const width = this.element.clientWidth;
    const columns = Math.max(1, this.run.checks.length);
    this.gutter = Math.round(Math.min(240, Math.max(120, width * 0.3))) + SO_FAR;
    const share = (width - this.gutter - 14) / columns;
    const tallest = this.settings.compact ? TALLEST_COMPACT : TALLEST;
    this.cell = this.settings.compact
      ? { width: Math.max(2, Math.min(24, share)), height: Math.max(1, Math.min(12, (tallest - HEADER) / Math.max(1, this.rows.length))) }
      : { width: Math.max(14, Math.min(72, Math.floor(share))), height: 20 };
    const height = HEADER + this.rows.length * this.cell.height;
    this.spacer.style.width = `${this.gutter + columns * this.cell.width}px`;
    this.spacer.style.height = `${height}px`;
    const hasScrollbar = this.gutter + columns * this.cell.width > width;
    this.view.style.height = `${Math.min(height, tallest) + (hasScrollbar ? 14 : 2)}px`;
    const [w, t] = [this.view.clientWidth, this.view.clientHeight];
    const density = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(w * density);
    this.canvas.height = Math.round(t * density);
    this.canvas.style.width = `${w}px`;
    this.canvas.style.height = `${t}px`;
    this.canvas.style.marginBottom = `${-t}px`;
    this.canvas.dataset.geometry = JSON.stringify({ gutter: this.gutter, header: HEADER, ...this.cell });
  }

  paint() {
    if (!this.run || !this.rows.length) return;
    const density = window.devicePixelRatio || 1;
    const context = this.canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    paint(context, {
      width: this.view.clientWidth, height: this.view.clientHeight, gutter: this.gutter, names: this.gutter - SO_FAR, header: HEADER, cell: this.cell,
      scroll: { x: this.view.scrollLeft, y: this.view.scrollTop }, run: this.run, term: this.settings.term, rows: this.rows, soFar: this.soFar,
      cursor: this.cursor, palette: this.palette,
    });
  }

  /** Moves the cursor to a cell, brings it into view and says what is there. */
  moveTo(row, column) {
    this.cursor = { row: Math.max(0, Math.min(row, this.rows.length - 1)), column: Math.max(0, Math.min(column, this.run.checks.length - 1)) };
    const { width, height } = this.cell;
    const [x, y] = [this.cursor.column * width, this.cursor.row * height];
    const [across, down] = [this.view.clientWidth - this.gutter, this.view.clientHeight - HEADER];
    this.view.scrollLeft = Math.min(x, Math.max(this.view.scrollLeft, x + width - across));
    this.view.scrollTop = Math.min(y, Math.max(this.view.scrollTop, y + height - down));
    this.paint();
    this.tell(this.cursor);
    this.live.textContent = this.described(this.cursor).join(", ");
  }

  key(event) {
    const at = this.cursor ?? { row: 0, column: this.run.checks.length - 1 };
    const page = Math.max(1, Math.floor((this.view.clientHeight - HEADER) / this.cell.height) - 1);
    const moves = {
      ArrowUp: [at.row - 1, at.column], ArrowDown: [at.row + 1, at.column], ArrowLeft: [at.row, at.column - 1], ArrowRight: [at.row, at.column + 1],
      PageUp: [at.row - page, at.column], PageDown: [at.row + page, at.column], Home: [at.row, 0], End: [at.row, this.run.checks.length - 1],
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) this.moveTo(...moves[event.key]);
    else if (event.key === "Enter" || event.key === " ") this.opened(this.rows[at.row], at.column);
    else if (event.key === "Escape") this.leave();
    else return;
    event.preventDefault();
  }

  focus() {
    // A click has put the cursor somewhere already; keys begin at the latest check.
    if (!this.cursor && this.view.matches(":focus-visible")) this.moveTo(0, this.run.checks.length - 1);
  }

  /** The cell under the pointer, or null; of the column "so far" the latest check that compared the variable. */
  under(event) {
    const box = this.view.getBoundingClientRect();
    const [left, top] = [event.clientX - box.left - this.gutter, event.clientY - box.top - HEADER];
    if (left < -SO_FAR || top < 0) return null;
    const row = Math.floor((top + this.view.scrollTop) / this.cell.height);
    if (row >= this.rows.length) return null;
    const column = left < 0 ? this.soFar[row].column : Math.floor((left + this.view.scrollLeft) / this.cell.width);
    if (left < 0) return { row, column: column < 0 ? this.run.checks.length - 1 : column, isSoFar: true };
    return column < this.run.checks.length ? { row, column } : null;
  }

  click(event) {
    const found = this.under(event);
    if (!found) return;
    this.moveTo(found.row, found.column);
    this.opened(this.rows[found.row], found.column);
  }

  hover(event) {
    const found = this.under(event);
    if (found) this.tell(found);
    else this.leave();
  }

  leave() {
    this.tip.hidden = true;
  }

  /** Shows the tip beside a cell. */
  tell(at) {
    const [first, ...rest] = this.described(at);
    this.tip.replaceChildren(h("strong", {}, first), h("span", {}, rest.join(" · ")));
    this.tip.hidden = false;
    const x = at.isSoFar ? this.gutter + 8 : this.gutter + (at.column + 1) * this.cell.width - this.view.scrollLeft + 8;
    const y = HEADER + at.row * this.cell.height - this.view.scrollTop;
    const room = this.element.clientWidth - this.tip.offsetWidth;
    const beside = x > room ? x - this.cell.width - this.tip.offsetWidth - 16 : x;
    this.tip.style.left = `${Math.max(0, Math.min(beside, room))}px`;
    this.tip.style.top = `${beside < 0 ? y + this.cell.height + 6 : y}px`;
  }

  described({ row, column, isSoFar }) {
    const { run, settings } = this;
    const at = this.rows[row] * run.checks.length + column;
    const { codes, levels } = run.terms[settings.term];
    const verdict = VERDICTS[codes[at]];
    const value = difference(levels[at], run.scale);
    const name = run.variables[this.rows[row]] === ALL ? "all variables together" : run.variables[this.rows[row]];
    if (isSoFar) return [name, ...this.describedSoFar(row)];
    const told = [name, `step ${run.checks[column].step}`, VERDICT_NAMES[verdict]];
    return Number.isNaN(value) ? told : [...told, `relative difference about ${rough(value, 0)}`];
  }

  describedSoFar(row) {
    const { code, level, checks } = this.soFar[row];
    const total = this.run.checks.length - this.run.fits.first;
    if (!checks) return [`so far compared in none of ${total} checks`];
    const value = difference(level, this.run.scale);
    const told = [`so far compared in ${checks} of ${total} checks`, `at worst ${VERDICT_NAMES[VERDICTS[code]]}`];
    return Number.isNaN(value) ? told : [...told, `relative difference about ${rough(value, 0)}`];
  }
}

/** Returns the rows that the filters leave, in model order. */
function chosenRows(run, { term, query, problems, never }) {
  const isSought = matcher(query);
  return [...run.variables.keys()].filter((row) => isSought(run.variables[row])
    && (!problems || hasProblem(run.terms[term].codes, row, run.checks.length))
    && (!never || isNeverCompared(run, row)));
}

function emptyFilter({ facts }, { query, problems, never }) {
  if (query.trim()) return "No variable matches the filters.";
  if (problems && never) return "No variable that was never compared has a problem.";
  const rest = (facts.variables_total ?? 0) - (facts.variables ?? 0);
  if (never && rest > 0) return `Every variable that these reports name has been compared; ${rest} of ${facts.variables_total} are in none of them.`;
  if (never) return "Every variable has been compared.";
  return problems ? "Nothing has failed here, and nothing is undecided." : "No variable matches the filters.";
}

function hasProblem(codes, row, columns) {
  const own = codes.subarray(row * columns, (row + 1) * columns);
  return own.includes(FAIL) || own.includes(INCONCLUSIVE);
}
