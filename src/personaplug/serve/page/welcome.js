// What is shown where nobody is there yet: people to try things with, or one's own.

import * as api from "./api.js";
import { button, fill, h, say } from "./dom.js";
import { trying } from "./faults.js";
import { some } from "./format.js";
import { state } from "./state.js";

export function welcome() {
  const notice = h("div");
  const load = button("Try without data", demo, { class: "main" });

  async function demo() {
    load.disabled = true;
    fill(notice, h("p", { class: "note" }, "Loading …"));
    const good = await trying(notice, loadDemo);
    load.disabled = !good ? false : load.disabled;
  }

  return h("div", { class: "welcome" },
    h("h2", {}, "Nobody is here yet"),
    h("p", {}, "A persona is made of what someone wrote. Load a few people who are ready to be tried, or add your own texts: by hand, or from a JSONL or CSV file."),
    h("div", { class: "row" }, load, h("a", { class: "button", href: "#people" }, "Add my own")),
    notice);
}

/** Loads the demo's people. */
export async function loadDemo() {
  const found = await api.loadDemo();
  await state.loadUsers();
  say(`${some(found.users.length, "person", "people")} loaded.`);
  return found;
}
