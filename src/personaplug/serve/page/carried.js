// The behaviours that carried a persona, as bars; each opens.

import { button, h, newId } from "./dom.js";
import { ago, line, percent } from "./format.js";
import { opened } from "./behaviour.js";

/**
 * Bars of behaviours with their shares.
 *
 * @param user whose they are.
 * @param found what /explain gave: `data`, `total`.
 * @param again asks the same question again.
 */
export function carried(user, found, again) {
  const most = found.data[0]?.weight ?? 1;
  const rest = 1 - found.data.reduce((sum, b) => sum + b.weight, 0);
  return [
    h("ol", { class: "bars" }, found.data.map((b) => bar(user, b, most, again))),
    found.total > found.data.length &&
      h("p", { class: "note" }, `The other ${found.total - found.data.length} share ${percent(Math.max(0, rest))}.`),
  ];
}

function bar(user, behaviour, most, again) {
  const id = newId("behaviour");
  const place = h("div", { id, hidden: true });
  const text = h("span", { class: "bar-text" }, line(behaviour.output || behaviour.input));
  const toggle = h("button", {
    type: "button", class: "bar", "aria-expanded": "false", "aria-controls": id, on: { click: () => open() },
  },
    h("span", { class: "bar-share" }, percent(behaviour.weight)),
    h("span", { class: "bar-track", "aria-hidden": "true" },
      h("i", { style: { width: `${(100 * behaviour.weight) / most}%` } })),
    text,
    h("span", { class: "bar-age" }, ago(behaviour.at)));
  const item = h("li", {}, toggle, place);

  const askAgain = (words) => button(words, again, { class: "small main" });
  const changed = (now) => {
    item.classList.add("changed");
    if (now) text.textContent = line(now.output || now.input);
    else item.classList.add("gone");
    place.querySelector(".opened").append(h("div", { class: "row" }, now ? "Corrected." : "", askAgain("Ask again")));
  };
  const open = () => {
    place.hidden = !place.hidden;
    toggle.setAttribute("aria-expanded", String(!place.hidden));
    if (!place.childElementCount) place.append(opened(user, behaviour, changed, [button("Ask again", again, { class: "small" })]));
  };
  return item;
}
