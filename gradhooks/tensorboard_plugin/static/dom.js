// Elements without markup: every text goes through textContent, since names of runs and layers come from files.

const SVG = "http://www.w3.org/2000/svg";

/** Returns an element; properties that begin with "on" are listeners, the others attributes; false and null are left out. */
export function h(tag, properties = {}, ...children) {
  return assembled(document.createElement(tag), properties, children);
}

/** Returns an SVG element, likewise. */
export function s(tag, properties = {}, ...children) {
  return assembled(document.createElementNS(SVG, tag), properties, children);
}

function assembled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts children in place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter(Boolean));
}

/** Returns text in which what stands between backticks is set as code. */
export function marked(text) {
  return text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));
}

/** Returns a line of Python with a button that copies it. */
export function copyable(line) {
  const button = h("button", { type: "button", class: "quiet", "aria-label": "Copy the line of Python" }, "Copy");
  button.addEventListener("click", async () => {
    const isCopied = await copied(line);
    button.textContent = isCopied ? "Copied" : "Select and copy";
    setTimeout(() => (button.textContent = "Copy"), 1600);
  });
  return h("div", { class: "code" }, h("code", { tabindex: "0" }, line), button);
}

async function copied(line) {
  try {
    await navigator.clipboard.writeText(line);
    return true;
  } catch {
    return copiedBySelection(line);
  }
}

// The clipboard is closed to pages that come over plain HTTP from another machine.
function copiedBySelection(line) {
  const area = h("textarea", { class: "unseen" });
  area.value = line;
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  return isCopied;
}
