// The view of people: who there is, and one of them opened.

import * as api from "./api.js";
import { avatar } from "./avatar.js";
import { button, fill, h, say } from "./dom.js";
import { trying } from "./faults.js";
import { ago, some } from "./format.js";
import { personView } from "./person.js";
import { state } from "./state.js";
import { loadDemo } from "./welcome.js";

/** Returns what opens a user by name (see `show`); "" shows the list alone. */
export function peopleView(panel) {
  const list = h("ul", { class: "people-list", on: { click: () => { byHand = true; } } });
  const search = h("input", { type: "search", placeholder: "Find", "aria-label": "Find a person", on: { input: () => draw() } });
  const name = h("input", { type: "text", required: true, placeholder: "New person's name", "aria-label": "New person's name", autocomplete: "off", spellcheck: "false" });
  const notice = h("div");
  const more = h("div");
  const demo = h("div", { class: "demo" });
  const person = h("section", { class: "person", "aria-label": "Person", tabindex: "-1" });
  const frame = h("div", { class: "people", on: { click: back } },
    h("nav", { class: "side", "aria-label": "People" },
      search, list, more,
      h("form", { class: "row new", on: { submit: create } }, name, h("button", {}, "Add")),
      demo, notice),
    person);
  let open = null;
  let view = null; // of who is open
  let receipt = null; // of who was just erased
  let byHand = false; // someone was chosen here, so this is where the reader wants to go on

  /** The way back from a receipt: its address is the list's already. */
  function back(event) {
    if (receipt !== null && event.target.closest(".back")) show("");
  }

  async function create(event) {
    event.preventDefault();
    const wanted = name.value.trim();
    if (!wanted) return;
    await trying(notice, async () => {
      await api.createUser(wanted);
      name.value = "";
      await state.loadUsers();
      byHand = true;
      location.hash = `#people/${encodeURIComponent(wanted)}`;
    });
  }

  function draw() {
    const wanted = search.value.toLowerCase();
    const found = state.users.filter((u) => u.id.toLowerCase().includes(wanted));
    search.hidden = state.users.length < 8;
    fill(list, found.map((u) => h("li", {},
      h("a", { href: `#people/${encodeURIComponent(u.id)}`, "aria-current": u.id === open ? "page" : null },
        avatar(u.id),
        h("span", { class: "who" }, h("b", {}, u.id), h("small", {}, some(u.behaviors, "text"), u.last !== null && ` · ${ago(u.last)}`))))));
    fill(more, state.more && h("p", { class: "note" }, "The first ", some(state.users.length, "person", "people"), " by name. ",
      wanted && h("a", { href: `#people/${encodeURIComponent(search.value)}` }, `Open “${search.value}”`)));
    fill(demo, state.users.length === 0 && [
      h("p", { class: "note" }, "Nobody is here yet."),
      button("Try without data", () => trying(notice, loadDemo), { class: "main" }),
    ]);
    if (open === null) {
      fill(person, receipt ?? h("p", { class: "empty" }, state.users.length ? "Choose someone to see what is known of them." : "Add someone, then give them texts: by hand or from a file."));
    }
  }

  /**
   * Opens a user. Who is open already stays as the reader left them, whatever asks for them again: their tab, an opened text.
   *
   * @param again the reader comes back from another view: what is known may have changed there.
   * @param anew nothing that was shown holds any longer.
   */
  function show(user, { again = false, anew = false } = {}) {
    const same = !anew && view !== null && open === (user || null);
    open = user || null;
    receipt = null;
    frame.classList.toggle("open", open !== null);
    draw();
    if (open !== null && state.users.some((u) => u.id === open)) state.choose(open);
    if (same) {
      if (again) view.reload();
      return;
    }
    view = open === null ? null : personView(open, gone);
    if (view === null) return;
    fill(person, view.element);
    if (byHand) person.focus({ preventScroll: true });
    byHand = false;
    window.scrollTo({ top: 0 });
  }

  /** After erasing: the receipt stays in sight. */
  async function gone(shown) {
    [open, view, receipt] = [null, null, shown];
    frame.classList.add("open");
    draw();
    person.focus();
    say("Erased.");
    history.replaceState(null, "", "#people");
    await state.loadUsers();
  }

  state.addEventListener("users", draw);
  fill(panel, frame);
  draw();
  return show;
}
