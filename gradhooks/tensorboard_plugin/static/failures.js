// The list of failed checks, newest first, each with the line that shows the failure again.

import { clock } from "./data.js";
import { copyable, fill, h, marked } from "./dom.js";

const SHOWN = 12;
const KINDS = { fail: "FAIL", error: "not carried out", unreadable: "unreadable" };

export class Failures {
  /** opened(run, step, variable) is called for a finding that somebody wants to see. */
  constructor(opened) {
    this.opened = opened;
    this.most = SHOWN;
    this.element = h("section", { class: "failures", id: "failures", "aria-label": "Failures", tabindex: "-1" });
  }

  /** Shows the failures of runs. */
  show(runs) {
    this.runs = runs;
    const all = runs.flatMap((run) => run.failures.map((failure) => ({ run, failure })));
    all.sort((a, b) => b.failure.wall_time - a.failure.wall_time || b.failure.step - a.failure.step);
    const rest = all.length - this.most;
    fill(this.element,
      h("h2", {}, "Failures", h("span", { class: "count" }, String(all.length))),
      all.length ? h("ol", {}, all.slice(0, this.most).map((each) => this.entry(each))) : h("p", { class: "muted" }, "No check of the runs shown has failed."),
      rest > 0 && h("button", { type: "button", class: "quiet", onclick: () => this.showMore() }, `Show ${Math.min(rest, SHOWN)} older of ${rest}`));
  }

  showMore() {
    this.most += SHOWN;
    this.show(this.runs);
  }

  entry({ run, failure }) {
    const head = [
      h("span", { class: `badge ${failure.kind}` }, KINDS[failure.kind]),
      h("strong", {}, `step ${failure.step}`),
      isEarlier(run, failure) && h("span", { class: "badge" }, "earlier fit"),
      failure.made_in && h("span", {}, failure.made_in),
      h("span", { class: "muted name" }, run.run),
      h("time", { class: "muted" }, clock(failure.wall_time)),
    ];
    const findings = failure.findings.map((finding) => this.finding(run, failure, finding));
    return h("li", {}, h("div", { class: "head" }, head),
      findings.length ? h("ul", {}, findings, failure.more > 0 && h("li", { class: "muted" }, `and ${failure.more} more variables`)) : h("p", {}, failure.note),
      failure.reproduction && copyable(failure.reproduction));
  }

  finding(run, failure, { variable, place, sentence, is_place: isPlace }) {
    const open = h("button", { type: "button", class: "link", onclick: () => this.opened(run, failure.step, variable) }, place);
    return h("li", {}, open, isPlace && h("span", { class: "badge here" }, "here"), h("span", {}, marked(sentence)));
  }
}

function isEarlier(run, { step }) {
  return run.checks.findIndex((check) => check.step === step) < run.fits.first;
}
