// One person: what is held of them, their timeline, their map, adding, exporting, erasing.

import * as api from "./api.js";
import { addView } from "./add.js";
import { avatar } from "./avatar.js";
import { button, download, fill, h, newId, say } from "./dom.js";
import { eraseDialog } from "./erase.js";
import { trying } from "./faults.js";
import { ago, date, number } from "./format.js";
import { mapView } from "./map.js";
import { modelName } from "./picker.js";
import { state } from "./state.js";
import { wireTabs } from "./tabs.js";
import { timeline } from "./timeline.js";

/**
 * A person's page: its `element`, and `reload`, which reads what is known again and leaves the chosen tab.
 *
 * @param user their name.
 * @param gone called with the receipt when they were erased.
 */
export function personView(user, gone) {
  const facts = h("div", { class: "facts" });
  const notice = h("div");
  const box = h("div");
  const head = h("header", { class: "person-head" },
    h("a", { class: "back", href: "#people" }, "‹ People"),
    h("div", { class: "person-name" }, avatar(user), h("h2", {}, user)),
    h("div", { class: "row actions" },
      button("Chat", () => { state.choose(user); location.hash = "#chat"; }, { class: "small" }),
      button("Export", exported, { class: "small" }),
      button("Erase …", erase, { class: "small danger" })));

  let known = null;
  let asked = 0; // how often: only what was asked for last is shown
  let chosen = false; // a tab, by the reader: nothing that comes late takes it away

  async function refresh() {
    const mine = ++asked;
    await trying(notice, async () => {
      const found = await api.user(user);
      if (mine !== asked) return;
      if (known === null && found.behaviors === 0 && !chosen) opened(parts[2].id);
      known = found;
      fill(facts, factsOf(known));
    });
  }

  async function exported() {
    await trying(notice, async () => {
      download(await api.exportUser(user), `${user.replace(/[^\w.-]/g, "_")}.zip`);
      say("Exported.");
    });
  }

  function erase() {
    eraseDialog(user, known?.behaviors ?? null, gone);
  }

  const timelinePart = timeline(user);
  const parts = [
    ["Timeline", () => timelinePart.element],
    ["Map", () => mapView(user)],
    ["Add", () => addView(user, () => timelinePart.reload())],
  ].map(([word, make]) => ({ word, make, id: newId("part"), panel: newId("panel") }));
  const list = h("div", { class: "tabs inner", role: "tablist", "aria-label": "What to see of this person" },
    parts.map(({ word, id, panel }) => h("button", { type: "button", role: "tab", id, "aria-controls": panel }, word)));
  const panels = parts.map(({ id, panel }) => h("div", { role: "tabpanel", id: panel, "aria-labelledby": id, hidden: true }));
  const opened = (id) => {
    choose(id);
    const n = parts.findIndex((part) => part.id === id);
    for (const [i, panel] of panels.entries()) panel.hidden = i !== n;
    if (parts[n].word === "Map" || !panels[n].childElementCount) fill(panels[n], parts[n].make()); // a map is of now
  };
  const choose = wireTabs(list, (id) => {
    chosen = true;
    opened(id);
  });
  const onTouched = (event) => {
    if (!box.isConnected) state.removeEventListener("touched", onTouched);
    else if (event.detail === user) refresh();
  };
  state.addEventListener("touched", onTouched);

  fill(box, head, facts, notice, list, panels);
  const reload = () => {
    refresh();
    timelinePart.reload();
    const map = panels[1];
    if (map.hidden) fill(map);
    else fill(map, parts[1].make());
  };

  opened(parts[0].id);
  refresh();
  return { element: box, reload };
}

function factsOf(found) {
  const ready = state.models.filter((m) => found.prepared[m.id]).map((m) => modelName(m.id));
  return h("dl", { class: "tiles" },
    tile("Texts", number(found.behaviors)),
    tile("From", found.first === null ? "–" : date(found.first)),
    tile("To", found.last === null ? "–" : date(found.last), found.last === null ? "" : ago(found.last)),
    tile("Persona", `version ${number(found.version)}`, ready.length ? `ready for ${ready.join(", ")}` : "made at the next question"));
}

const tile = (word, value, note = "") => h("div", {}, h("dt", {}, word), h("dd", {}, value, note && h("small", {}, note)));
