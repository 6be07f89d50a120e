// The view of the bench report: the file that the server was given, inside this page and in its theme.

import * as api from "./api.js";
import { button, fill, h, say } from "./dom.js";
import { fault } from "./faults.js";

const COMMANDS = `personaplug bench experiments/compare/tweets.toml
personaplug report results --out report.html
personaplug serve demo/plug --report report.html`;

/** Returns what shows the report; it is asked for when the view is first opened. */
export function reportView(panel) {
  let loaded = false; // or being loaded

  async function open() {
    if (loaded) return;
    loaded = true;
    fill(panel, h("p", { class: "note" }, "Reading …"));
    try {
      fill(panel, embedded(await api.report()));
    } catch (error) {
      loaded = false;
      fill(panel, error.code === "no_report" ? none() : fault(error, open));
    }
  }
  return open;
}

function none() {
  const copy = button("Copy", async () => {
    await navigator.clipboard.writeText(COMMANDS);
    say("Copied.");
  }, { class: "small" });
  return h("div", { class: "welcome" },
    h("h2", {}, "No report here yet"),
    h("p", {}, "A report shows what personalizing gains, method by method, beside its controls. Make one and give it to the server:"),
    h("pre", { tabindex: "0", "aria-label": "Commands" }, COMMANDS),
    navigator.clipboard && h("div", { class: "row" }, copy)); // a browser has none where the address is no safe one
}

/** The report in a shadow root: its style sheet touches nothing here, and nothing in it can run. */
function embedded(text) {
  // Styles in markup are refused by the policy of this page, so they are read as data and then set by this page itself.
  const plain = text
    .replace(/\sstyle=/g, " data-style=")
    .replace(/<style\b/g, "<script data-sheet")
    .replace(/<\/style\b/g, "</script");
  const source = new DOMParser().parseFromString(plain, "text/html");
  const host = h("div", { class: "report" });
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync([...source.querySelectorAll("[data-sheet]")].map((s) => s.textContent).join("\n").replaceAll(":root", ":host"));
  sheet.insertRule("main { max-width: none; padding: 1rem 0 0; }", sheet.cssRules.length);
  root.adoptedStyleSheets = [sheet];
  const body = document.importNode(source.querySelector("main") ?? source.body, true);
  for (const element of body.querySelectorAll("script, style, link, iframe, object, embed, base, meta, form")) element.remove();
  for (const element of body.querySelectorAll("[data-style]")) element.style.cssText = element.dataset.style;
  root.append(body);
  const dark = [...sheet.cssRules].filter((rule) => rule.media?.mediaText.includes("prefers-color-scheme"));
  const follow = () => {
    for (const rule of dark) rule.media.mediaText = document.documentElement.dataset.theme === "dark" ? "all" : "not all";
  };
  document.addEventListener("theme", follow);
  follow();
  return host;
}
