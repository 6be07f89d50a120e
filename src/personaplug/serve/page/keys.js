// The key that the server may ask for; it is kept until this tab is closed.

import { key } from "./api.js";
import { button, field, h, newId } from "./dom.js";

/** Asks for a key; `changed` is called when there is another one. */
export function keyDialog(changed) {
  const id = newId("key");
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", placeholder: "pp-…", autofocus: true });
  input.value = key.get();
  const done = (value) => {
    key.set(value.trim());
    dialog.close();
    changed();
  };
  const dialog = h("dialog", { "aria-labelledby": id, on: { close: () => dialog.remove() } },
    h("form", { on: { submit: (e) => { e.preventDefault(); done(input.value); } } },
      h("h2", { id }, "Key"),
      field("API key", input, "Made by `personaplug keys create`. Kept in this tab only, and sent to this server only."),
      h("div", { class: "row" },
        h("button", { class: "main" }, "Use it"),
        key.get() && button("Forget it", () => done("")),
        button("Cancel", () => dialog.close()))));
  document.body.append(dialog);
  dialog.showModal();
}
