// Starts the page: views behind tabs, each with an address of its own.

import { key } from "./api.js";
import { chatView } from "./chat.js";
import { compareView } from "./compare.js";
import { trying } from "./faults.js";
import { keyDialog } from "./keys.js";
import { peopleView } from "./people.js";
import { reportView } from "./report.js";
import { state } from "./state.js";
import { wireTabs } from "./tabs.js";

const VIEWS = ["chat", "people", "compare", "report"];
const get = (id) => document.getElementById(id);

const notice = get("notice");
let started = false;
const wide = matchMedia("(min-width: 56rem)");
const choose = wireTabs(get("tabs"), (id) => {
  const wanted = `#${id.slice("tab-".length)}`;
  if (location.hash === wanted) route();
  else location.hash = wanted;
});

chatView(get("panel-chat"));
const showPerson = peopleView(get("panel-people"));
compareView(get("panel-compare"));
const openReport = reportView(get("panel-report"));

/** Shows what the address names: `#chat`, `#people/NAME`, ...; `anew`: nothing that was shown holds any longer. */
function route(anew = false) {
  if (!started) { // what is loaded first shows it: a view made before would be made again under the reader's hands
    mark(viewNamed().view);
    return;
  }
  if (location.hash === "#people" && wide.matches && state.user !== null) {
    history.replaceState(null, "", `#people/${encodeURIComponent(state.user)}`); // there is room for list and person
  }
  const { view, rest } = viewNamed();
  const again = get(`panel-${view}`).hidden;
  mark(view);
  document.title = `${view[0].toUpperCase()}${view.slice(1)} · personaplug`;
  if (view === "people") showPerson(decoded(rest), { again, anew });
  if (view === "report") openReport();
}

function mark(view) {
  choose(`tab-${view}`);
  for (const other of VIEWS) get(`panel-${other}`).hidden = other !== view;
}

function viewNamed() {
  const [first, ...rest] = location.hash.slice(1).split("/");
  return { view: VIEWS.includes(first) ? first : VIEWS[0], rest: rest.join("/") };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // an address that somebody typed
  }
}

async function start() {
  get("key").hidden = key.get() === "";
  if (!(await trying(notice, () => state.load()))) return;
  started = true;
  route(true);
}

const askKey = () => {
  get("key").hidden = false;
  keyDialog(start);
};
get("key").addEventListener("click", askKey);
document.addEventListener("need-key", askKey);
window.addEventListener("hashchange", () => route());
mark(viewNamed().view);
start();
