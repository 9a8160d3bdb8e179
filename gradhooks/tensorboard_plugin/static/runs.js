// One run on the page: how it stands, its relative difference over the steps, and the matrix.

import { ALL, FAIL, TERMS, VERDICTS, failures, latestFit, number, rough } from "./data.js";
import { logChart } from "./charts.js";
import { fill, h } from "./dom.js";
import { Matrix } from "./matrix.js";

export class RunCard {
  /** opened(run, step, variable) is called for a cell that somebody chooses. */
  constructor(opened) {
    this.matrix = new Matrix((row, column) => opened(this.run, this.run.checks[column].step, this.run.variables[row]));
    this.title = h("h2", {});
    this.badge = h("span", { class: "badge" });
    this.facts = h("p", { class: "facts" });
    this.warning = h("p", { class: "notice", hidden: true });
    this.chart = h("figure", {});
    this.body = h("div", {}, this.warning, this.chart, this.matrix.element);
    this.problem = h("p", { class: "notice error", role: "alert", hidden: true });
    this.element = h("article", { class: "run" }, h("header", {}, this.title, this.badge), this.facts, this.problem, this.body);
    new ResizeObserver(() => this.resized()).observe(this.element);
  }

  /** Shows why a run cannot be shown. */
  fail(name, message) {
    this.title.textContent = name;
    this.problem.textContent = message;
    this.problem.hidden = false;
    if (!this.run) this.body.hidden = true;
  }

  /** Shows a run; settings: {term, query, problems, never, compact}. */
  show(run, settings) {
    [this.run, this.settings] = [run, settings];
    this.problem.hidden = true;
    this.body.hidden = false;
    this.title.textContent = run.run;
    this.tellStanding();
    this.draw();
  }

  tellStanding() {
    const { checks, facts, fits } = this.run;
    const bad = failures(this.run);
    const latest = checks[checks.length - 1]?.verdict ?? "";
    const state = bad ? "fail" : latest.toLowerCase();
    this.badge.className = `badge ${state}`;
    this.badge.textContent = bad ? `${bad} of ${latestFit(this.run).length} checks failed` : latest;
    if (fits.is_repaired) this.badge.textContent += ", repaired";
    const told = [counted(this.run.checks_written, "check"), counted(this.run.variables.filter((name) => name !== ALL).length, "variable")];
    if (fits.earlier) told.push(`${counted(fits.earlier, "earlier fit")}${fits.failed ? `, ${fits.failed} with failed checks` : ""}`);
    if (facts.level) {
      told.push(`compared so far: ${facts.variables} of ${facts.variables_total} variables, ${facts.parameters.toLocaleString("en")} of ${facts.parameters_total.toLocaleString("en")} parameters`);
      told.push(`precision ${facts.level}`);
    }
    this.facts.textContent = told.join(" · ");
    this.tellUnreadable(checks);
    const missing = this.run.checks_written - checks.length;
    this.warning.hidden = missing <= 0;
    this.warning.textContent = `The matrix shows ${checks.length} of ${this.run.checks_written} checks: TensorBoard keeps a sample of the reports. `
      + `Start it with --samples_per_plugin=gradhooks=${Math.max(1000, 2 * this.run.checks_written)} to see them all.`;
  }

  tellUnreadable(checks) {
    const unreadable = checks.filter(({ verdict }) => verdict === "UNREADABLE");
    if (!unreadable.length) return;
    this.problem.hidden = false;
    this.problem.textContent = `${counted(unreadable.length, "report")} of ${checks.length} cannot be read: ${unreadable[unreadable.length - 1].reason}.`;
  }

  /** Where the matrix is scrolled to. */
  place() {
    const { scrollLeft, scrollTop } = this.matrix.view;
    return { scrollLeft, scrollTop };
  }

  goTo(place) {
    Object.assign(this.matrix.view, place);
  }

  draw() {
    const { run, settings } = this;
    this.width = this.element.clientWidth;
    this.chart.hidden = !run.terms[settings.term].codes.some((code) => code > 0);
    const width = this.chart.clientWidth || 600;
    const points = headline(run, settings.term);
    const last = points[points.length - 1];
    const title = `Relative difference, ${settings.term}, over ${points.length} checks${last ? `; latest ${rough(last.value)} at step ${last.step}` : ""}`;
    const limits = run.thresholds[settings.term] ?? [];
    fill(this.chart, logChart(points, limits, { width, height: 150 }, title), h("figcaption", {}, `relative difference of the check, ${settings.term}, by step: ${TERMS.find(({ name }) => name === settings.term).meaning}`));
    this.matrix.show(run, settings);
  }

  resized() {
    const width = this.element.clientWidth;
    if (!this.run || !width || width === this.width) return;
    this.width = width;
    this.draw();
  }
}

function counted(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** Returns the checks' relative differences in a term, with a verdict where the report is still kept. */
function headline(run, term) {
  const codes = new Map(run.checks.map((check, column) => [check.step, worst(run, term, column)]));
  return (run.headline[term] ?? []).map(([step, value]) => ({ step, value: number(value), code: codes.get(step) ?? 0 }));
}

/** The worst verdict of a column; only failures are told apart in the line chart. */
function worst(run, term, column) {
  const { codes } = run.terms[term];
  for (let row = 0; row < run.variables.length; row += 1) if (codes[row * run.checks.length + column] === FAIL) return FAIL;
  return VERDICTS.indexOf("pass");
}
