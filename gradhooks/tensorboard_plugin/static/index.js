// The page: what is chosen, which runs there are, and keeping both up to date.

import { TERMS, failures, fetched, latestFit, matcher, unpacked } from "./data.js";
import { Answers } from "./answers.js";
import { theme, watchTheme } from "./colours.js";
import { Detail } from "./detail.js";
import { fill, h } from "./dom.js";
import { Failures } from "./failures.js";
import { legend } from "./legend.js";
import { RunCard } from "./runs.js";
import { RunTable, failingFirst } from "./table.js";

const POLL = 5000; // milliseconds; TensorBoard itself looks for new data as often
const EXAMPLE = 'check = gradhooks.GradientCheck(x, y, log_dir="logs")\nmodel.fit(x, y, epochs=5, callbacks=[check])';

class Page {
  constructor() {
    this.settings = { term: TERMS[0].name, query: "", problems: false, never: false, compact: false };
    this.series = new Map(); // id -> {id, run, revision, card, overview, error}
    this.hidden = new Set();
    this.isSought = matcher("");
    this.opener = null;
    this.build();
  }

  build() {
    const open = (run, step, variable) => this.open(run, step, variable);
    this.answers = new Answers(open);
    this.failures = new Failures(open);
    this.detail = new Detail(open, () => this.opener?.focus());
    this.table = new RunTable((id) => this.series.get(id).card.element.scrollIntoView({ behavior: "smooth" }));
    this.cards = h("div", { class: "runs" });
    this.key = h("div", {});
    this.summary = h("button", { type: "button", class: "summary", onclick: () => this.failures.element.scrollIntoView({ behavior: "smooth" }) });
    this.status = h("span", { class: "status muted", role: "status" });
    this.chosenRuns = h("fieldset", {});
    this.sidebar = h("nav", { class: "filter", "aria-label": "Runs" }, this.chosenRuns);
    this.list = h("div", { class: "list" });
    this.toolbar = h("div", { class: "toolbar" }, this.termSwitch(), this.variableFilter(),
      this.checkbox("problems", "only problems", "Only variables with a FAIL or INCONCLUSIVE cell"), this.checkbox("never", "never compared", "Only variables of which no check of the latest fit has measured anything, of those checks that TensorBoard keeps"), this.checkbox("compact", "fit all", "The whole matrix at once, without letters where they do not fit"));
    this.main = h("main", {}, this.answers.element, this.table.element, this.toolbar, this.key, this.cards, this.failures.element);
    this.empty = emptyState();
    const reload = h("button", { type: "button", id: "reload", onclick: () => this.refresh(true) }, "Reload");
    const header = h("header", { class: "top" }, h("h1", {}, "Gradient Check"), this.summary, h("span", { class: "space" }), this.status, reload);
    this.layout = h("div", { class: "layout" }, this.sidebar, this.main);
    document.body.append(header, this.layout, this.empty, this.detail.element);
    this.buildSidebar();
    this.paintTheme();
    watchTheme(() => this.paintTheme());
  }

  termSwitch() {
    const options = TERMS.map(({ name: term, meaning }) => {
      const radio = h("input", { type: "radio", name: "term", value: term, checked: term === this.settings.term, onchange: () => this.set({ term }) });
      return h("label", { title: meaning }, radio, h("span", {}, term));
    });
    return h("div", { class: "switch", role: "radiogroup", "aria-label": "Which gradient" }, options);
  }

  variableFilter() {
    const typed = (event) => this.set({ query: event.target.value });
    const title = "A pattern as in expect, such as encoder_*_norm, or a regular expression, such as kernel$|bias$";
    return h("input", { type: "search", class: "query", placeholder: "filter variables: * or regex", "aria-label": "Filter variables", title, oninput: typed });
  }

  checkbox(name, text, title) {
    const box = h("input", { type: "checkbox", name, onchange: (event) => this.set({ [name]: event.target.checked }) });
    return h("label", { class: "check", title }, box, text);
  }

  buildSidebar() {
    const typed = (event) => {
      this.isSought = matcher(event.target.value);
      this.listRuns();
      this.draw();
    };
    this.chosenRuns.append(h("legend", {}, "Runs"), h("input", { type: "search", placeholder: "filter runs: * or regex", "aria-label": "Filter runs", oninput: typed }), this.list);
  }

  /** Changes what is chosen and draws what follows from it. */
  set(change) {
    Object.assign(this.settings, change);
    this.draw();
    if (change.term && !this.detail.element.hidden) {
      const { run, step, variable } = this.detail.request;
      this.detail.show(run, step, variable, change.term);
    }
  }

  open(run, step, variable) {
    if (this.detail.element.hidden) this.opener = document.activeElement;
    this.detail.show(run, step, variable, this.settings.term);
  }

  paintTheme() {
    document.documentElement.dataset.theme = theme();
    fill(this.key, legend());
    this.draw();
  }

  /** Asks which runs there are, and for those that have changed. */
  async refresh(isForced = false) {
    if (this.isRefreshing) return;
    this.isRefreshing = true;
    try {
      const { series } = await fetched("./runs");
      const isChanged = this.keep(series);
      const stale = series.filter(({ id, revision }) => isForced || this.series.get(id).revision !== revision);
      for (const each of stale) {
        if (!this.series.get(each.id).overview) this.status.textContent = `reading ${each.run} …`;
        await this.load(each);
      }
      if (isChanged || stale.length) {
        this.listRuns();
        this.draw();
        if (stale.length) this.measure();
      }
      this.status.textContent = `as of ${new Date().toLocaleTimeString()}`;
    } catch (error) {
      this.status.textContent = `${error.message}; trying again`;
    } finally {
      this.isRefreshing = false;
    }
  }

  /** Takes up new runs and forgets those that are gone; returns whether there were any. */
  keep(series) {
    const known = new Set(series.map(({ id }) => id));
    const gone = [...this.series.keys()].filter((id) => !known.has(id));
    gone.forEach((id) => this.series.delete(id));
    const added = series.filter(({ id }) => !this.series.has(id));
    for (const { id, run } of added) this.series.set(id, { id, run, card: new RunCard((...cell) => this.open(...cell)) });
    this.isEmpty = series.length === 0;
    return gone.length + added.length > 0 || this.isEmpty;
  }

  async load({ id, revision }) {
    const entry = this.series.get(id);
    try {
      const overview = unpacked(await fetched("./overview", { id }));
      Object.assign(entry, { overview, error: null, revision });
    } catch (error) {
      // Asked for again only when there is more of it.
      Object.assign(entry, { error: error.message, revision });
    }
  }

  /** The runs that the filter leaves, those with failed checks first. */
  sought() {
    return failingFirst([...this.series.values()].filter(({ run }) => this.isSought(run)));
  }

  shown() {
    return this.sought().filter(({ id }) => !this.hidden.has(id));
  }

  draw() {
    if (this.isEmpty === undefined) return;
    this.empty.hidden = !this.isEmpty;
    this.layout.hidden = this.isEmpty;
    const shown = this.shown();
    const cards = shown.map(({ card }) => card.element);
    if (cards.length !== this.cards.children.length || cards.some((card, i) => card !== this.cards.children[i])) this.order(shown);
    this.cards.classList.toggle("single", cards.length === 1);
    for (const entry of shown) this.drawRun(entry);
    const runs = shown.filter(({ overview }) => overview).map(({ overview }) => overview);
    this.answers.show(runs);
    this.table.show(runs, this.settings.term);
    this.failures.show(runs);
    this.summarize(runs);
    document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn ?? 0) + 1);
  }

  /** Puts cards in their order; where they are scrolled to, and the focus, stay. */
  order(shown) {
    const { activeElement } = document;
    const places = shown.map(({ card }) => card.place());
    fill(this.cards, shown.map(({ card }) => card.element));
    shown.forEach(({ card }, i) => card.goTo(places[i]));
    if (this.cards.contains(activeElement)) activeElement.focus({ preventScroll: true });
  }

  drawRun({ run, card, overview, error }) {
    if (overview) card.show(overview, this.settings);
    if (error) card.fail(run, error);
  }

  summarize(runs) {
    const checks = runs.reduce((sum, run) => sum + latestFit(run).length, 0);
    const bad = runs.reduce((sum, run) => sum + failures(run), 0);
    this.summary.textContent = bad ? `${bad} of ${checks} checks failed` : `${checks} checks, none failed`;
    this.summary.className = `summary ${bad ? "fail" : "pass"}`;
    this.summary.hidden = checks === 0;
  }

  listRuns() {
    const tail = sharedTail([...this.series.values()].map(({ run }) => run));
    fill(this.list, this.sought().map(({ id, run, overview }) => {
      const toggled = (event) => {
        this.hidden[event.target.checked ? "delete" : "add"](id);
        this.draw();
      };
      const isBad = overview && failures(overview) > 0;
      const box = h("input", { type: "checkbox", checked: !this.hidden.has(id), onchange: toggled });
      return h("label", { class: "check", title: run }, box, h("span", { class: "name" }, run.slice(0, run.length - tail.length)), isBad && h("span", { class: "badge fail", title: "has failed checks" }, "FAIL"),
        overview?.fits.is_repaired && h("span", { class: "badge pass", title: "an earlier fit failed, the latest passes" }, "repaired"));
    }));
  }

  /** Notes how long it took from the arrival of the data until the browser had painted it. */
  measure() {
    requestAnimationFrame(() => setTimeout(() => {
      if (performance.getEntriesByName("gradhooks:received:./overview").length) performance.measure("gradhooks:drawn", "gradhooks:received:./overview");
    }));
  }

  /** Refreshes for as long as somebody can see the page; TensorBoard hides the frame of a tab that is not shown. */
  async poll() {
    if (document.visibilityState === "visible" && document.documentElement.clientWidth > 0) await this.refresh();
    setTimeout(() => this.poll(), POLL);
  }
}

/** Returns what all names of runs end in, such as "/gradcheck"; what tells them apart stands in front of it. */
function sharedTail(names) {
  const [first = ""] = names;
  const tail = first.slice(first.lastIndexOf("/"));
  return names.length > 1 && tail.startsWith("/") && names.every((name) => name.endsWith(tail) && name !== tail) ? tail : "";
}

function emptyState() {
  return h("section", { class: "empty", hidden: true }, h("h2", {}, "No gradient checks yet"),
    h("p", {}, "Pass a callback to fit() with the directory that TensorBoard reads:"), h("pre", {}, h("code", {}, EXAMPLE)),
    h("p", {}, "Then start TensorBoard with ", h("code", {}, "--logdir logs"), ". The first check is made before the first batch; this page looks for it every few seconds."));
}

async function styled() {
  const sheet = h("link", { rel: "stylesheet", href: new URL("./style.css", import.meta.url) });
  const loaded = new Promise((resolve) => ["load", "error"].forEach((event) => sheet.addEventListener(event, resolve)));
  document.head.append(sheet, h("title", {}, "Gradient Check"), h("meta", { name: "viewport", content: "width=device-width" }));
  document.documentElement.lang = "en";
  await loaded; // widths are measured when the first run is drawn
}

/** TensorBoard calls this when the tab is opened. */
export async function render() {
  await styled();
  await new Page().poll();
}
