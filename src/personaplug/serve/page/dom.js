// Makes elements; texts are always set as text, so nothing that users wrote is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `on` holds listeners, `style` CSS properties, the rest are attributes (null and false: left out). */
export function h(tag, attributes = {}, ...children) {
  return made(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return made(document.createElementNS(SVG, tag), attributes, children);
}

function made(element, { on = {}, style = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, value);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts new children in the place of all old ones. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let ids = 0;

/** An id that no other element has. */
export const newId = (word) => `${word}-${++ids}`;

/** A labelled field: the control gets an id. */
export function field(label, control, note = "") {
  control.id ||= newId("field");
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, note && h("p", { class: "note" }, note));
}

/** A button. */
export function button(text, click, attributes = {}) {
  return h("button", { type: "button", on: { click }, ...attributes }, text);
}

/** Says something to those who listen and do not see. */
export function say(text) {
  document.getElementById("status").textContent = text;
}

/** Hands bytes to the reader as a file. */
export function download(blob, name) {
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
