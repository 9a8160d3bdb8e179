// The matrix as pixels. Knows no events and no elements but the canvas.

import { FAIL, INCONCLUSIVE, UNSAMPLED, VACUOUS, VERDICTS, difference } from "./data.js";
import { shadeOf } from "./colours.js";

const DECLARED = VERDICTS.indexOf("declared");
// Below this size, in pixels, a sign inside a cell cannot be read and a coarser one stands for it.
const READABLE = 9;
// Pixels from one name to the next where rows are lower than letters, as between the ticks of an axis.
const BETWEEN_NAMES = 13;

/**
 * Draws the part of the matrix that is in view.
 *
 * view: {width, height, gutter, names, header, cell: {width, height}, scroll: {x, y}, run, term, rows, soFar, cursor, palette}
 */
export function paint(context, view) {
  const { palette, width, height } = view;
  context.fillStyle = palette.surface;
  context.fillRect(0, 0, width, height);
  context.font = palette.font;
  context.textBaseline = "middle";
  context.imageSmoothingEnabled = false;
  const seen = inView(view);
  const shades = Array.from({ length: 256 }, (_, level) => shadeOf(difference(level, view.run.scale)));
  cells(context, view, seen, shades);
  if (view.cursor) outline(context, view);
  gutter(context, view, seen);
  soFarColumn(context, view, seen, shades);
  header(context, view, seen);
}

/** Returns the rows and columns in view: {top, bottom, left, right}, the latter of each exclusive. */
function inView({ width, height, gutter: left, header: top, cell, scroll, run, rows }) {
  return {
    top: Math.floor(scroll.y / cell.height),
    bottom: Math.min(rows.length, Math.ceil((scroll.y + height - top) / cell.height)),
    left: Math.floor(scroll.x / cell.width),
    right: Math.min(run.checks.length, Math.ceil((scroll.x + width - left) / cell.width)),
  };
}

function cells(context, view, seen, shades) {
  const { run, term, rows, cell, scroll, palette } = view;
  const { codes, levels } = run.terms[term];
  const isReadable = Math.min(cell.width, cell.height) >= READABLE;
  if (!isReadable) context.drawImage(miniature(view), view.gutter - scroll.x, view.header - scroll.y, run.checks.length * cell.width, rows.length * cell.height);
  const gap = isReadable ? 1 : 0;
  for (let i = seen.top; i < seen.bottom; i += 1) {
    const y = view.header + i * cell.height - scroll.y;
    for (let column = seen.left; column < seen.right; column += 1) {
      const x = view.gutter + column * cell.width - scroll.x;
      const at = rows[i] * run.checks.length + column;
      drawCell(context, view, { code: codes[at], level: levels[at] }, { x, y, width: cell.width - gap, height: cell.height - gap }, shades, isReadable, isReadable);
    }
  }
}

/** Draws one cell; a coloured one gets its ground here, where a miniature has not given it one. */
function drawCell(context, { run, palette }, { code, level }, { x, y, width, height }, shades, isReadable, isColoured) {
  // What could not be decided is no difference: its colour would say that something is wrong.
  const isKnown = level !== run.scale.unknown && code !== INCONCLUSIVE;
  if (isColoured && code !== UNSAMPLED && code !== VACUOUS) {
    context.fillStyle = isKnown ? palette.colours[shades[level]] : palette.unknown;
    context.fillRect(x, y, width, height);
  }
  const sign = isReadable ? glyph : block;
  sign(context, code, x, y, width, height, isKnown ? palette.inks[shades[level]] : palette.ink, palette);
}

/** What all checks together have found out about each variable, beside its name. */
function soFarColumn(context, view, seen, shades) {
  const { cell, scroll, palette } = view;
  const isReadable = cell.height >= READABLE;
  const width = view.gutter - view.names - 12;
  for (let i = seen.top; i < seen.bottom; i += 1) {
    const y = view.header + i * cell.height - scroll.y;
    drawCell(context, view, view.soFar[i], { x: view.names, y, width, height: cell.height - (isReadable ? 1 : 0) }, shades, isReadable, true);
  }
  context.fillStyle = palette.line;
  context.fillRect(view.gutter - 7, view.header, 1, view.height);
}

/** The whole matrix with a pixel per cell, which the browser enlarges faster than any number of rectangles is drawn. */
function miniature({ run, term, rows, palette }) {
  const { codes, levels } = run.terms[term];
  const columns = run.checks.length;
  const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows.length });
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows.length);
  const unknown = components(palette.unknown);
  const shades = Array.from({ length: 256 }, (_, level) => (level === run.scale.unknown ? unknown : components(palette.colours[shadeOf(difference(level, run.scale))])));
  for (let i = 0, pixel = 0; i < rows.length; i += 1) {
    for (let at = rows[i] * columns, end = at + columns; at < end; at += 1, pixel += 4) {
      if (codes[at] === UNSAMPLED || codes[at] === VACUOUS) continue;
      const shade = codes[at] === INCONCLUSIVE ? unknown : shades[levels[at]];
      image.data[pixel] = shade[0];
      image.data[pixel + 1] = shade[1];
      image.data[pixel + 2] = shade[2];
      image.data[pixel + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Red, green and blue of `rgb(1,2,3)` or `#010203`. */
function components(colour) {
  if (colour.startsWith("#")) return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return colour.match(/\d+/g).map(Number);
}

/** Draws the sign of a verdict into a cell; a legend draws the same. */
export function glyph(context, code, x, y, width, height, ink, palette) {
  const [cx, cy] = [x + width / 2, y + height / 2];
  const r = Math.min(width, height, 16) * 0.26;
  context.lineWidth = 1.6;
  context.strokeStyle = context.fillStyle = code === UNSAMPLED || code === VACUOUS ? palette.muted : ink;
  context.beginPath();
  if (code === FAIL) {
    lines(context, [cx - r, cy - r, cx + r, cy + r], [cx - r, cy + r, cx + r, cy - r]);
    context.lineWidth = 2;
  } else if (code === INCONCLUSIVE) {
    context.moveTo(cx, cy - r * 1.25);
    for (const [dx, dy] of [[1, 0], [0, 1], [-1, 0], [0, -1]]) context.lineTo(cx + dx * r * 1.25, cy + dy * r * 1.25);
  } else if (code === DECLARED) {
    lines(context, [cx - r * 1.3, cy - r * 0.6, cx + r * 1.3, cy - r * 0.6], [cx - r * 1.3, cy + r * 0.6, cx + r * 1.3, cy + r * 0.6]);
  } else if (code === VACUOUS) {
    context.lineWidth = 1.1;
    context.arc(cx, cy, r * 0.62, 0, 2 * Math.PI);
  } else if (code === UNSAMPLED) {
    context.fillRect(cx - 1, cy - 0.5, 2, 1);
  }
  context.stroke();
}

function lines(context, ...segments) {
  for (const [x1, y1, x2, y2] of segments) {
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
  }
}

/** The same in a few pixels: all of the cell, half of it or a line of it in ink. */
function block(context, code, x, y, width, height, ink, palette) {
  context.fillStyle = palette.ink;
  if (code === FAIL) context.fillRect(x, y, Math.max(2, width * 0.62), height);
  else if (code === INCONCLUSIVE) context.fillRect(x, y + height / 2, width, height / 2);
  else if (code === DECLARED) context.fillRect(x, y + height / 2 - 0.5, width, 1);
}

function outline(context, { cursor, cell, scroll, palette, gutter: left, header: top }) {
  const [x, y] = [left + cursor.column * cell.width - scroll.x, top + cursor.row * cell.height - scroll.y];
  context.lineWidth = 2;
  context.strokeStyle = palette.accent;
  context.strokeRect(x, y, Math.max(4, cell.width - 1), Math.max(4, cell.height - 1));
}

function gutter(context, view, seen) {
  const { run, rows, cell, scroll, palette } = view;
  context.fillStyle = palette.surface;
  context.fillRect(0, 0, view.gutter, view.height);
  let last = -Infinity;
  for (let i = seen.top; i < seen.bottom; i += 1) {
    const y = view.header + i * cell.height - scroll.y;
    const { layer, name } = run.labels[rows[i]];
    const isFirst = i === seen.top || run.labels[rows[i - 1]].layer !== layer;
    if (isFirst && i > 0 && cell.height >= READABLE) rule(context, y - 0.5, view);
    if (cell.height >= 11) label(context, view, y + cell.height / 2, isFirst ? layer : "", name);
    else if (isFirst && layer && y - last >= BETWEEN_NAMES) {
      label(context, view, y + 7, layer, "");
      last = y;
    }
  }
}

function rule(context, y, { palette, width }) {
  context.fillStyle = palette.line;
  context.fillRect(0, y - 0.5, width, 1);
}

function label(context, { names: width, palette }, y, layer, name) {
  const own = Math.min(context.measureText(name).width, width * 0.5);
  context.textAlign = "right";
  context.fillStyle = palette.ink;
  if (name) context.fillText(elided(context, name, width * 0.5), width - 10, y);
  context.textAlign = "left";
  context.fillStyle = palette.muted;
  if (layer) context.fillText(elided(context, layer, width - own - 26), 2, y);
}

/** Returns text cut at the front until it fits: the last parts of a path tell layers apart. */
function elided(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (context.measureText(`…${text.slice(middle)}`).width <= width) high = middle;
    else low = middle + 1;
  }
  return `…${text.slice(low)}`;
}

function header(context, view, seen) {
  const { run, cell, scroll, palette } = view;
  context.fillStyle = palette.surface;
  context.fillRect(0, 0, view.width, view.header);
  context.fillStyle = palette.muted;
  context.textAlign = "left";
  context.fillText("so far", view.names - 4, view.header / 2 - 1);
  context.fillText("step", view.names - 16 - context.measureText("step").width, view.header / 2 - 1);
  context.textAlign = "center";
  const widest = Math.max(...run.checks.map((check) => String(check.step).length)) * 7 + 14;
  const every = Math.max(1, Math.ceil(widest / cell.width));
  for (let column = seen.left; column < seen.right; column += 1) {
    const x = view.gutter + (column + 0.5) * cell.width - scroll.x;
    const isBroken = ["ERROR", "UNREADABLE"].includes(run.checks[column].reason.toUpperCase()) || run.checks[column].verdict === "UNREADABLE";
    if (x < view.gutter) continue;
    if (isBroken) mark(context, x, view.header - 4, palette);
    if ((run.checks.length - 1 - column) % every === 0 && x - widest / 2 >= view.gutter - 12) {
      context.fillStyle = palette.muted;
      context.fillText(String(run.checks[column].step), Math.min(x, view.width - widest / 2 + 6), view.header / 2 - 1);
    }
  }
}

/** A triangle above the column of a check that could not be carried out or read. */
function mark(context, x, y, palette) {
  context.fillStyle = palette.ink;
  context.beginPath();
  context.moveTo(x - 4, y - 4);
  context.lineTo(x + 4, y - 4);
  context.lineTo(x, y + 3);
  context.fill();
}
