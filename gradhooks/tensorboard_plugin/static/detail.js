// The panel that a cell opens: one variable in one check.

import { ALL, address, difference, exact, fetched, number, plain, rough } from "./data.js";
import { logChart, scatter, strip } from "./charts.js";
import { copyable, fill, h, marked } from "./dom.js";

export class Detail {
  /** opened(run, step, variable) is called for another cell; closed() when the panel goes away. */
  constructor(opened, closed) {
    [this.opened, this.closed] = [opened, closed];
    this.title = h("h2", { tabindex: "-1" });
    this.close = h("button", { type: "button", class: "quiet", "aria-label": "Close the details", onclick: () => this.hide() }, "Close");
    this.steps = h("span", { class: "steps" });
    this.body = h("div", { class: "body" });
    this.element = h("aside", { class: "detail", hidden: true, "aria-label": "Details", onkeydown: (event) => event.key === "Escape" && this.hide() },
      h("header", {}, this.title, this.steps, this.close), this.body);
  }

  hide() {
    this.element.hidden = true;
    this.closed();
  }

  /** Fetches and shows what the check of a step found out about a variable. */
  async show(run, step, variable, term) {
    this.request = { run, step, variable, term };
    const mine = this.request;
    const name = variable === ALL ? "all variables together" : variable;
    this.title.textContent = name;
    this.showSteps(run, step, variable);
    this.element.hidden = false;
    if (!this.element.contains(document.activeElement)) this.title.focus();
    try {
      const found = await fetched("./check", { id: run.id, step, variable });
      // Somebody may have opened another cell in the meantime.
      if (mine === this.request) this.fill(found);
    } catch (error) {
      if (mine === this.request) fill(this.body, h("p", { class: "notice error", role: "alert" }, error.message));
    }
  }

  /** Where the check stands in the run, with buttons to its neighbours. */
  showSteps(run, step, variable) {
    const column = run.checks.findIndex((check) => check.step === step);
    const to = (by, label, sign) => {
      const check = run.checks[column + by];
      return h("button", { type: "button", class: "quiet", "aria-label": label, disabled: !check, onclick: () => this.opened(run, check.step, variable) }, sign);
    };
    fill(this.steps, to(-1, "Check before", "‹"), h("span", { class: "muted" }, `step ${step}`), to(1, "Check after", "›"));
  }

  fill(found) {
    const { run, step, variable, term } = this.request;
    // The server's order, the worst first, holds within what fails and what does not.
    const own = [...found.comparisons].sort((a, b) => rank(a, term) - rank(b, term));
    const measured = own.filter((comparison) => comparison.term !== "trained");
    const received = own.filter((comparison) => comparison.term === "trained");
    const tables = [measured.length > 0 && comparisons(measured, found), received.length > 0 && receivedTable(received)];
    if (!measured.some(isFailed) && received.some(isFailed)) tables.reverse();
    fill(this.body,
      this.findings(found),
      found.error && h("p", { class: "notice error" }, found.error),
      own.length === 0 && !found.error && h("p", { class: "notice" }, "Nothing of this variable was sampled in this check."),
      found.advice.length > 0 && advice(found.advice),
      ...tables,
      this.charts(found, run, step, variable, term),
      h("section", {}, h("h3", {}, "Reproduce"), copyable(found.reproduction), h("p", { class: "muted small" }, found.reproduction.startsWith("gradhooks.replay(") ? "with what was saved there; " : "with the same weights and batch; ", found.circumstances),
        h("p", { class: "small" }, h("a", { href: address("./report", { id: run.id, step }), download: "" }, "The whole report as JSON"))),
      found.notes.length > 0 && h("section", {}, h("h3", {}, "Notes"), h("ul", {}, found.notes.map((note) => h("li", {}, note)))));
    this.body.scrollTop = 0;
  }

  findings({ diagnosis, answer, verdict, reason }) {
    const head = h("p", { class: "verdict" }, h("span", { class: `badge ${verdict.toLowerCase()}` }, verdict), h("span", { class: "muted" }, `the whole check: ${reason}`));
    const own = diagnosis && h("p", { class: "notice diagnosis" }, diagnosis.is_place && h("span", { class: "badge here" }, "here"), marked(diagnosis.sentence));
    const isElsewhere = answer && answer.variable && answer.variable !== this.request.variable;
    const place = answer && h("p", { class: "notice diagnosis" }, h("strong", {}, answer.title), ": ", marked(answer.sentence), " ", isElsewhere && this.link(answer.variable));
    return [head, place, own];
  }

  link(variable) {
    const { run, step } = this.request;
    return h("button", { type: "button", class: "link", onclick: () => this.opened(run, step, variable) }, variable === ALL ? "all variables together" : variable);
  }

  charts(found, run, step, variable, term) {
    const size = { width: 330, height: 250 };
    const row = run.variables.indexOf(variable);
    const { codes, levels } = run.terms[term];
    const history = run.checks.map((check, column) => {
      const at = row * run.checks.length + column;
      return { step: check.step, value: difference(levels[at], run.scale), code: codes[at] };
    });
    const told = `Relative difference of ${variable}, ${term}, over the run`;
    const parts = [figure(`${term}: this variable over the run`, logChart(history, run.thresholds[term] ?? [], size, told, step))];
    const scattered = found.points[term] ? term : found.worst_term;
    const points = found.points[scattered].map(([analytic, numeric, ...flags]) => [number(analytic), number(numeric), ...flags]);
    const what = scattered === "trained" ? "norms of the received gradient against backpropagation" : "this variable among all of the check (grey)";
    if (points.length) parts.unshift(figure(`${scattered}: ${what}`, scatter(points, size)));
    return h("section", { class: "figures" }, parts);
  }
}

function figure(caption, chart) {
  return h("figure", {}, h("figcaption", {}, caption), chart);
}

/** What failed comes first, then the term that the page shows. */
function rank(comparison, shown) {
  return (isFailed(comparison) ? 0 : 2) + (comparison.term === shown ? 0 : 1);
}

function isFailed({ verdict }) {
  return verdict === "FAIL";
}

function advice(reasons) {
  const items = reasons.map(({ reason, explanation }) => h("li", {}, h("strong", {}, reason.replaceAll("_", " ")), h("span", {}, explanation),
    // Words of the reports have a page; other advice is all that there is.
    /^[a-z_]+$/.test(reason) && h("span", {}, " (", h("code", {}, `gradhooks explain ${reason}`), ")")));
  return h("section", {}, h("h3", {}, "What it means and what to do"), h("ul", { class: "advice" }, items));
}

function comparisons(measured, { left_out: leftOut }) {
  const rows = measured.map((c) => h("tr", { class: c.verdict.toLowerCase() },
    h("td", {}, ...standing(c)),
    h("td", {}, h("strong", {}, c.term), h("small", {}, c.index || "direction")),
    h("td", { class: "number" }, pair("analytic", exact(c.analytic)), pair("numeric", `${exact(c.numeric)} ± ${rough(c.error)}`),
      pair("gap", rough(c.gap, 2)), pair("allowed", rough(c.allowed, 2))),
    h("td", {}, strip(c, { width: 100, height: 30 })),
    h("td", { class: "number" }, pair("difference", rough(c.relative_difference, 2)), pair("left slope", rough(c.left, 3)), pair("right slope", rough(c.right, 3))),
  ));
  return h("section", {}, h("h3", {}, "Numeric beside analytic"),
    h("p", { class: "key muted small" }, "● numeric with its error bar   ◆ analytic   ▮ allowed   | one-sided slopes"),
    h("div", { class: "scrolled" }, h("table", {}, h("tbody", {}, rows))),
    leftOut > 0 && h("p", { class: "muted small" }, `and ${leftOut} more comparisons`));
}

/**
 * The verdict on a comparison with its reason; what is declared or compares nothing is no open question.
 * Of parameters that were measured together each has the numbers that it would have if it alone made the difference.
 */
function standing({ verdict, reason, pooled }) {
  if (reason === "known") return [h("span", { class: "badge declared" }, reason)];
  if (reason === "declared" || reason === "vacuous") return [h("span", { class: `badge ${reason}` }, reason)];
  const company = pooled > 1 ? `, 1 of ${pooled} measured together` : "";
  return [h("span", { class: `badge ${verdict.toLowerCase()}` }, verdict), h("small", {}, reason.replaceAll("_", " ") + company)];
}

function pair(name, value) {
  return h("div", { class: "pair" }, h("span", {}, name), h("span", {}, value));
}

/** What the optimizer received, held against backpropagation of the same loss; whole gradients of the variable. */
function receivedTable(received) {
  const cells = (c) => [
    ["‖backpropagation‖", exact(c.analytic_norm)], [`‖received‖${c.dtype && `, ${c.dtype}`}`, exact(c.received_norm)],
    ["distance", rough(c.distance, 2)], ["allowed", rough(c.allowed, 2)],
    ["relative difference", rough(c.relative_difference, 2)], ["cosine", plain(c.cosine)], ["ratio", plain(c.ratio)], ["lost to zero", percent(c.zeros)],
  ];
  return h("section", {}, h("h3", {}, "Trained: what the optimizer receives"), received.map((c) => h("div", { class: "received" },
    h("p", {}, ...standing(c)),
    h("dl", {}, cells(c).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))))));
}

function percent(share) {
  const x = number(share);
  return Number.isFinite(x) ? `${Number((100 * x).toPrecision(3))} %` : "–";
}
