// The model as a column of layers, the gradient flowing up from the loss, with what was measured on its way.

import { NOT_MEASURED, number, rough } from "./data.js";
import { fill, h } from "./dom.js";

const COLUMNS = ["layer", "gradient at its input", "of its weights", "at its output"];

export class Layers {
  constructor() {
    this.frame = h("div", { class: "layers", tabindex: "0", role: "region", "aria-label": "Layers of the model" });
    this.key = h("p", { class: "key muted small" }, "The gradient comes up from the loss: ", sample("right"), "right, ", sample("wrong"), "wrong, ", sample("unknown"), "not measured. Numbers: by backpropagation | measured.");
    this.element = h("div", {}, this.frame, this.key);
  }

  /** Shows what a check measured at the layers, as the server tells it. */
  show({ rows, left_out: leftOut }) {
    const heads = h("tr", {}, h("th", { scope: "col" }, h("span", { class: "unseen" }, "way of the gradient")), COLUMNS.map((name) => h("th", { scope: "col" }, name)));
    fill(this.frame, h("table", {}, h("thead", {}, heads), h("tbody", {}, rows.map(layer))),
      leftOut > 0 && h("p", { class: "muted small" }, `and ${leftOut} more`));
    this.centre();
  }

  /** Scrolls to the place of the error within the frame alone: the page stays where it is. */
  centre() {
    const place = this.frame.querySelector(".place");
    if (place) this.frame.scrollTop = place.offsetTop - this.frame.clientHeight / 2;
  }
}

function sample(name) {
  return h("i", { class: `wire ${name}` });
}

function layer(row) {
  const before = colour(row.entering);
  const behind = row.has_rows ? before : colour(row.leaving);
  const parts = row.is_loss ? [before] : [before, row.weights && colour(row.weights), behind].filter(Boolean);
  const wire = h("td", { class: `wires ${row.is_loss ? "end" : ""}` }, h("div", {}, parts.map(sample)));
  const name = h("td", { class: "name", title: row.path, style: `--depth:${row.depth}` }, h("span", {}, row.name), row.is_place && h("span", { class: "badge here" }, "here"));
  return h("tr", { class: row.is_place ? "place" : "" }, wire, name, reading(row.entering), reading(row.weights), reading(row.leaving));
}

function colour(measured) {
  return measured && ["right", "wrong"].includes(measured.word) ? measured.word : "unknown";
}

/** One cell: the word, how far the two derivatives are apart, and the two. */
function reading(measured) {
  if (!measured) return h("td", { class: "muted" }, "–");
  const { word, difference, analytic, numeric } = measured;
  // Backpropagation lets nothing through here, which is known without a measurement.
  const isZero = number(analytic) === 0;
  if (word === NOT_MEASURED) return h("td", { class: "muted" }, word, isZero && h("small", {}, "0 | –"));
  const isKnown = Number.isFinite(number(difference));
  const numbers = numeric !== undefined && h("small", {}, `${derivative(analytic)} | ${derivative(numeric)}`);
  return h("td", { class: `reading ${word}` }, h("span", { class: "word" }, word), isKnown && h("span", { class: "number" }, rough(difference)), numbers);
}

/** What JSON has no number for comes as a word; null was not measured. */
function derivative(value) {
  return value !== null && Number.isNaN(number(value)) ? "NaN" : rough(value, 2);
}
