// The answer on top: what is wrong, in which line, since when; what holds no longer is folded away.

import { fetched } from "./data.js";
import { fill, h, marked } from "./dom.js";
import { Layers } from "./layers.js";

export class Answers {
  /** opened(run, step, variable) is called for the numbers behind an answer. */
  constructor(opened) {
    this.opened = opened;
    this.cards = new Map(); // identity of a run and key of the answer -> Card
    this.now = h("div", { class: "answers" });
    this.before = h("div", { class: "answers" });
    this.summary = h("summary", {});
    this.earlier = h("details", { class: "earlier" }, this.summary, this.before);
    this.element = h("section", { class: "answers", "aria-label": "What is wrong" }, this.now, this.earlier);
  }

  /** Shows the answers of runs, those of the latest checks first. */
  show(runs) {
    const all = runs.flatMap((run) => run.answers.map((answer) => ({ run, answer })));
    all.sort((a, b) => latest(b) - latest(a));
    const known = this.cards;
    this.cards = new Map();
    const [now, before] = [[], []];
    for (const { run, answer } of all) {
      const identity = JSON.stringify([run.id, answer.key]);
      const card = known.get(identity) ?? new Card(this.opened);
      this.cards.set(identity, card);
      (answer.is_over ? before : now).push(card);
      card.show(run, answer);
    }
    // The first one is open, until somebody closes it.
    if (now[0] !== this.first) now[0]?.open();
    [this.first] = now;
    replace(this.now, now);
    replace(this.before, before);
    this.summary.textContent = `Earlier: ${before.length} ${before.length === 1 ? "place" : "places"} that the latest check does not show`;
    this.earlier.hidden = before.length === 0;
    this.now.hidden = now.length === 0;
    this.element.hidden = all.length === 0;
  }
}

function latest({ run, answer }) {
  return run.checks.find(({ step }) => step === answer.step)?.wall_time ?? 0;
}

/** Leaves alone what is shown already: its scroll and its focus would be lost. */
function replace(element, cards) {
  const elements = cards.map((card) => card.element);
  const isSame = elements.length === element.children.length && elements.every((card, i) => card === element.children[i]);
  if (!isSame) fill(element, elements);
}

class Card {
  constructor(opened) {
    this.opened = opened;
    this.text = h("div", { class: "told" });
    this.evidence = h("ul", { class: "evidence" });
    this.advice = h("ul", { class: "advice", hidden: true });
    this.numbers = h("p", {});
    this.layers = new Layers();
    this.unfolded = h("details", { ontoggle: () => this.unfolded.open && this.fetch() }, h("summary", {}, "The gradient on its way through the model"), this.layers.element);
    this.element = h("article", { class: "answer" }, h("div", { class: "left" }, this.text, this.evidence, this.numbers, this.advice), this.unfolded);
  }

  show(run, answer) {
    [this.run, this.answer] = [run, answer];
    const isSampled = run.checks_written > run.checks.length;
    const standing = `${answer.standing}${isSampled ? ", of those that TensorBoard keeps" : ""}`;
    const open = h("button", { type: "button", class: "link", onclick: () => this.opened(run, answer.step, answer.variable) }, "The numbers behind it");
    this.element.classList.toggle("over", answer.is_over);
    this.unfolded.hidden = !answer.has_layers;
    fill(this.text,
      h("h2", {}, answer.title),
      h("p", { class: "standing" }, h("strong", {}, standing), h("span", { class: "muted name" }, run.run)),
      h("p", { class: "sentence" }, marked(answer.sentence)),
      answer.source && h("p", { class: "source" }, h("code", {}, answer.source)));
    fill(this.numbers, answer.variable && open);
    if (this.request !== this.named()) list(this.evidence, answer.evidence);
    if (this.unfolded.open || !answer.has_layers) this.fetch();
  }

  open() {
    this.unfolded.open = true;
  }

  /** Fetches, once for a check, what it measured at the layers and what to do. */
  async fetch() {
    const mine = this.named();
    if (!this.answer || mine === this.request) return this.layers.centre();
    this.request = mine;
    try {
      const found = await fetched("./layers", { id: this.run.id, step: this.answer.step });
      if (mine !== this.request) return;
      this.layers.show(found);
      list(this.evidence, found.evidence);
      list(this.advice, found.advice);
    } catch (error) {
      if (mine === this.request) list(this.advice, [error.message]);
      this.request = null;
    }
  }

  /** What is asked for: a check of a run. */
  named() {
    return `${this.run?.id} ${this.answer?.step}`;
  }
}

function list(element, lines) {
  element.hidden = lines.length === 0;
  fill(element, lines.map((line) => h("li", {}, marked(line))));
}
