// Erases a person after asking, and shows the receipt.

import * as api from "./api.js";
import { button, download, h, newId } from "./dom.js";
import { trying } from "./faults.js";
import { moment, number, some } from "./format.js";

/** Asks, erases, and hands the receipt to `gone`; `behaviours` is how many there are, or null where that is not known yet. */
export function eraseDialog(user, behaviours, gone) {
  const id = newId("erase");
  const notice = h("div");
  const dialog = h("dialog", { "aria-labelledby": id, on: { close: () => dialog.remove() } },
    h("h2", { id }, `Erase ${user}?`),
    h("p", {}, `${behaviours === null ? "All texts" : some(behaviours, "text")}, all vectors and all personas of ${user} go, from every file of the store. This cannot be undone; export first if you may need them.`),
    notice,
    h("div", { class: "row" },
      button("Keep", () => dialog.close(), { autofocus: true }),
      button("Erase for good", () => trying(notice, async () => {
        const receipt = await api.eraseUser(user);
        dialog.close();
        gone(shown(receipt));
      }), { class: "danger" })));
  document.body.append(dialog);
  dialog.showModal();
}

function shown(receipt) {
  const file = () => download(new Blob([JSON.stringify(receipt, null, 2)], { type: "application/json" }), "receipt.json");
  return h("div", { class: "receipt" },
    h("a", { class: "back", href: "#people" }, "‹ People"),
    h("h2", {}, "Receipt"),
    h("dl", {},
      [["Erased", receipt.user], ["Texts", number(receipt.behaviors)], ["Vectors", number(receipt.vectors)],
        ["Prepared personas", number(receipt.states)], ["Tokens of prompts in memory", number(receipt.prompt_tokens)], ["At", moment(receipt.at)]].map(([word, value]) => [h("dt", {}, word), h("dd", {}, value)])),
    h("p", { class: "note" }, "No byte of their texts, vectors or personas is left in the store's files, nor in the memory of the server that erased them."),
    h("div", { class: "row" }, button("Save the receipt", file, { class: "small" })));
}
