// All runs in one table: which of them to look at.

import { clock, failures, latestFit, rough } from "./data.js";
import { fill, h } from "./dom.js";

const HEADS = ["run", "checks", "latest", "relative difference", "compared", "what is wrong"];

export class RunTable {
  /** opened(id) is called for the run that somebody chooses. */
  constructor(opened) {
    this.opened = opened;
    this.body = h("tbody", {});
    const head = h("thead", {}, h("tr", {}, HEADS.map((name) => h("th", { scope: "col" }, name))));
    this.element = h("section", { class: "all-runs", hidden: true, "aria-label": "All runs" }, h("h2", {}, "All runs"),
      h("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": "Table of all runs" }, h("table", {}, head, this.body)));
  }

  /** Shows the runs that have been read, one a row; a single one has its card alone. */
  show(runs, term) {
    this.element.hidden = runs.length < 2;
    const rows = runs.map((run) => this.row(run, term));
    // Rows that say the same are left alone, with the focus that they may have.
    const told = rows.map((row) => row.outerHTML).join("");
    if (told !== this.told) fill(this.body, rows);
    this.told = told;
  }

  row(run, term) {
    const checks = latestFit(run);
    const latest = checks[checks.length - 1];
    const bad = failures(run);
    const state = bad ? "fail" : (latest?.verdict ?? "").toLowerCase();
    const { facts } = run;
    const cells = [
      h("button", { type: "button", class: "link", onclick: () => this.opened(run.id) }, run.run),
      [h("span", { class: `badge ${state}` }, bad ? `${bad} of ${checks.length} failed` : latest?.verdict ?? "–"), run.fits.is_repaired && h("span", { class: "badge pass" }, "repaired")],
      latest ? [`step ${latest.step}`, h("small", {}, clock(latest.wall_time))] : "–",
      largest(run, term),
      facts.level ? `${facts.variables} of ${facts.variables_total} variables` : "–",
      run.answers.find((answer) => !answer.is_over)?.title ?? "–",
    ];
    return h("tr", { class: state === "fail" ? "fail" : "" }, cells.map((content, i) => h(i ? "td" : "th", i ? {} : { scope: "row" }, content)));
  }
}

/** The largest relative difference of the latest fit in a term. */
function largest(run, term) {
  const first = latestFit(run)[0]?.step ?? 0;
  const own = (run.headline[term] ?? []).filter(([step]) => step >= first).map(([, value]) => Number(value)).filter(Number.isFinite);
  return own.length ? rough(Math.max(...own)) : "–";
}

/** Sorts runs so that those with failed checks come first; otherwise they keep their order. */
export function failingFirst(entries) {
  const rank = ({ overview }) => (overview && failures(overview) ? 0 : 1);
  return [...entries].sort((a, b) => rank(a) - rank(b));
}
