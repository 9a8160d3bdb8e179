// The colours of relative differences, in a light and a dark page, and which of the two this page is.

export const DECADES = [-14, 0];
// Lightness falls (rises in the dark) all the way, so that the order survives without hue. [decade, r, g, b]
const LIGHT = [
  [-14, 236, 244, 247], [-10, 205, 228, 234], [-8, 176, 211, 220], [-6, 150, 192, 204],
  [-5, 232, 166, 92], [-3, 216, 112, 54], [-1.5, 178, 48, 40], [0, 108, 14, 32],
];
const DARK = [
  [-14, 26, 44, 54], [-10, 30, 66, 80], [-8, 36, 92, 110], [-6, 48, 112, 132],
  [-5, 172, 112, 44], [-3, 220, 130, 62], [-1.5, 246, 150, 120], [0, 255, 208, 196],
];
const SHADES = 256;

/** Returns the tables of the present theme. */
export function palette() {
  const isDark = theme() === "dark";
  const ramp = isDark ? DARK : LIGHT;
  const shades = Array.from({ length: SHADES }, (_, i) => shade(ramp, DECADES[0] + (i / (SHADES - 1)) * (DECADES[1] - DECADES[0])));
  const css = getComputedStyle(document.documentElement);
  const named = (name) => css.getPropertyValue(`--${name}`).trim();
  return {
    colours: shades.map(([r, g, b]) => `rgb(${r},${g},${b})`),
    inks: shades.map(([r, g, b]) => (0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#10151c" : "#ffffff")),
    ink: named("ink"),
    muted: named("muted"),
    line: named("line"),
    surface: named("surface"),
    unknown: named("unknown"),
    accent: named("accent"),
    font: `11.5px ${css.fontFamily || "sans-serif"}`,
  };
}

/** Returns which entry of the tables stands for a relative difference. */
export function shadeOf(difference) {
  const decade = Math.log10(Math.max(difference, 1e-300));
  const share = (decade - DECADES[0]) / (DECADES[1] - DECADES[0]);
  return Math.round(Math.min(1, Math.max(0, share)) * (SHADES - 1));
}

function shade(ramp, decade) {
  const above = Math.max(1, ramp.findIndex(([at]) => at >= decade));
  const [low, high] = [ramp[above - 1], ramp[above]];
  const share = (decade - low[0]) / (high[0] - low[0]);
  return [1, 2, 3].map((i) => Math.round(low[i] + share * (high[i] - low[i])));
}

/** Returns "dark" or "light": TensorBoard's own choice where it can be seen, else the system's. */
export function theme() {
  const chosen = host()?.classList.contains("dark-mode");
  const preferred = matchMedia("(prefers-color-scheme: dark)").matches;
  return chosen || (host() === null && preferred) ? "dark" : "light";
}

function host() {
  try {
    return window.parent === window ? null : window.parent.document.body;
  } catch {
    return null; // a notebook may hold the page in a frame of another origin
  }
}

/** Calls back when the theme changes, or how many pixels a canvas needs: a zoom, another screen. */
export function watchTheme(changed) {
  const watchDensity = () => matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`).addEventListener("change", () => {
    changed();
    watchDensity();
  }, { once: true });
  watchDensity();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  const body = host();
  if (body) new MutationObserver(changed).observe(body, { attributes: true, attributeFilter: ["class"] });
}
