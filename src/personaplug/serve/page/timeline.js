// A person's behaviours, newest first, a page at a time; each opens.

import * as api from "./api.js";
import { opened } from "./behaviour.js";
import { button, fill, h, newId } from "./dom.js";
import { trying } from "./faults.js";
import { date, line, month, some } from "./format.js";

const PAGE = 40;

export function timeline(user) {
  const months = h("div", { class: "months" });
  const notice = h("div");
  const foot = h("div", { class: "row" });
  const element = h("div", { class: "timeline" }, months, notice, foot);
  let last = null;
  let heading = null;
  let list = null;
  let asked = 0; // how often: only what was asked for last is shown

  async function load() {
    const mine = ++asked;
    await trying(notice, async () => {
      const page = await api.history(user, last, PAGE);
      if (mine !== asked) return;
      if (page.total === 0) fill(months, h("p", { class: "empty" }, "No texts yet: add some by hand or from a file."));
      for (const behaviour of page.data) {
        if (month(behaviour.at) !== heading) {
          heading = month(behaviour.at);
          list = h("ol");
          months.append(h("h3", {}, heading), list);
        }
        list.append(entry(user, behaviour));
      }
      last = page.last_id;
      fill(foot, page.has_more && button(`Show more of ${some(page.total, "text")}`, load, { class: "small" }));
    });
  }

  function reload() {
    [last, heading, list] = [null, null, null];
    fill(months);
    fill(foot);
    return load();
  }

  load();
  return { element, reload };
}

function entry(user, behaviour) {
  const id = newId("entry");
  const place = h("div", { id, hidden: true });
  const texts = h("span", { class: "entry-texts" });
  const toggle = h("button", { type: "button", class: "entry", "aria-expanded": "false", "aria-controls": id, on: { click: () => open() } });
  const item = h("li", {}, toggle, place);

  const draw = (b) => {
    fill(texts, b.input && h("span", { class: "given" }, line(b.input, 140)), h("span", {}, line(b.output || "–", 220)));
    fill(toggle,
      h("span", { class: "entry-when" }, b.at === null ? "–" : date(b.at).replace(/ \d{4}$/, "")),
      texts,
      b.rating !== null && h("span", { class: "tag" }, `rated ${b.rating}`));
  };
  const changed = (now) => {
    if (now) draw(now);
    else {
      item.classList.add("gone");
      toggle.disabled = true;
    }
  };
  const open = () => {
    place.hidden = !place.hidden;
    toggle.setAttribute("aria-expanded", String(!place.hidden));
    if (!place.childElementCount) place.append(opened(user, behaviour, changed));
  };
  draw(behaviour);
  return item;
}
