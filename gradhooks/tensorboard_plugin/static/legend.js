// What colours and signs mean, drawn by the painter itself.

import { VERDICTS, VERDICT_NAMES } from "./data.js";
import { DECADES, palette, shadeOf } from "./colours.js";
import { h } from "./dom.js";
import { glyph } from "./painter.js";

const ORDER = ["pass", "fail", "inconclusive", "declared", "vacuous", "unsampled"];
// A typical difference of each verdict, for the colour under its sign.
const TYPICAL = { pass: 1e-9, fail: 1e-1, declared: 1e-2 };
const [BAR, SIDE] = [{ width: 180, height: 10 }, 16];

/** Returns the legend in the colours of the present theme. */
export function legend() {
  const colours = palette();
  const signs = ORDER.map((name) => h("span", { class: "sign" }, sample(name, colours), VERDICT_NAMES[name]));
  const ticks = [-12, -9, -6, -3, 0].map((at) => {
    const share = (at - DECADES[0]) / (DECADES[1] - DECADES[0]);
    return h("span", { style: `left:${(share * 100).toFixed(1)}%` }, at === 0 ? "1" : `1e${at}`);
  });
  return h("div", { class: "legend" }, h("span", { class: "ramp" }, h("span", {}, "relative difference"), h("span", { class: "bar" }, bar(colours), h("span", { class: "ticks" }, ticks))), h("span", { class: "signs" }, signs));
}

function bar(colours) {
  const canvas = sized(BAR.width, BAR.height);
  const context = canvas.getContext("2d");
  for (let x = 0; x < BAR.width; x += 1) {
    const decade = DECADES[0] + (x / (BAR.width - 1)) * (DECADES[1] - DECADES[0]);
    context.fillStyle = colours.colours[shadeOf(10 ** decade)];
    context.fillRect(x, 0, 2, BAR.height); // wider than its step, or a fractional zoom shows seams
  }
  return canvas;
}

function sample(name, colours) {
  const canvas = sized(SIDE, SIDE);
  const context = canvas.getContext("2d");
  const shade = name in TYPICAL ? shadeOf(TYPICAL[name]) : null;
  if (shade !== null || name === "inconclusive") {
    context.fillStyle = shade === null ? colours.unknown : colours.colours[shade];
    context.fillRect(0, 0, SIDE, SIDE);
  }
  glyph(context, VERDICTS.indexOf(name), 0, 0, SIDE, SIDE, shade === null ? colours.ink : colours.inks[shade], colours);
  return canvas;
}

function sized(width, height) {
  const density = window.devicePixelRatio || 1;
  const canvas = h("canvas", { width: Math.round(width * density), height: Math.round(height * density), "aria-hidden": "true" });
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  canvas.getContext("2d").scale(density, density);
  return canvas;
}
