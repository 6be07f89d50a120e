// Gives a person texts: one by hand, or a file with a look at it first.

import * as api from "./api.js";
import { readFile } from "./csv.js";
import { button, field, fill, h, say } from "./dom.js";
import { fault, trying } from "./faults.js";
import { fromLocal, line, number, some } from "./format.js";
import { state } from "./state.js";

const CHUNK = 8_000_000; // characters sent at once
const LOOK = 5; // lines shown before sending
const ERRORS = 50; // faults shown
const SCALES = [["0:1", "go from 0 to 1"], ["1:5", "go from 1 to 5"], ["1:10", "go from 1 to 10"], ["0:10", "go from 0 to 10"], ["0:100", "go from 0 to 100"]];

export function addView(user, added) {
  return h("div", { class: "add" }, byHand(user, added), byFile(user, added));
}

function byHand(user, added) {
  const input = h("textarea", { rows: 2 });
  const output = h("textarea", { rows: 3, required: true });
  const at = h("input", { type: "datetime-local", step: 1 });
  const notice = h("div");
  const save = async (event) => {
    event.preventDefault();
    const given = { input: input.value, output: output.value, at: at.value ? fromLocal(at.value) : Math.round(Date.now() / 1000) };
    await trying(notice, async () => {
      const found = await api.add(user, given);
      const words = found.added ? "Added." : "This is there already.";
      fill(notice, h("p", { class: "good" }, words));
      say(words);
      [input.value, output.value, at.value] = ["", "", ""];
      output.focus();
      await state.touched(user);
      added();
    });
  };
  return h("form", { class: "card", on: { submit: save } },
    h("h3", {}, "By hand"),
    field("What they were given", input, "A question, a message, a product: may be empty."),
    field("What they wrote or chose", output),
    field("When", at, "Empty is now."),
    h("button", { class: "main" }, "Add"),
    notice);
}

function byFile(user, added) {
  const file = h("input", { type: "file", accept: ".jsonl,.ndjson,.json,.csv,.tsv", class: "unseen", id: "upload", on: { change: () => { take(file.files[0]); file.value = ""; } } });
  const over = (on) => drop.classList.toggle("over", on);
  const drop = h("label", {
    class: "drop", for: "upload",
    on: {
      dragover: (e) => { e.preventDefault(); over(true); },
      dragleave: () => over(false),
      drop: (e) => { e.preventDefault(); over(false); take(e.dataTransfer.files[0]); },
    },
  }, h("b", {}, "Drop a JSONL or CSV file"), h("span", {}, "or choose one"));
  const look = h("div", { class: "look", "aria-live": "polite" });
  const scale = h("select", {}, SCALES.map(([value, words]) => h("option", { value }, words)));
  let taken = 0; // files so far: only the last one is shown

  async function take(chosen) {
    if (!chosen) return;
    const mine = ++taken;
    fill(look, h("p", { class: "note" }, "Looking at it …"));
    try {
      const found = { ...readFile(chosen.name, await chosen.arrayBuffer(), scale.value.split(":").map(Number)), scale: scale.value };
      if (!found.lines.length) throw new Error(`${chosen.name}: there is nothing in the file`);
      const checked = await sendLines(user, found, true);
      if (mine !== taken) return;
      fill(look, preview(chosen.name, found, checked, () => send(found)));
    } catch (error) {
      if (mine === taken) fill(look, fault(error, () => take(chosen)));
    }
  }

  async function send(found) {
    await trying(look, async () => {
      const done = await sendLines(user, found, false);
      const words = `${some(done.added, "text")} added${done.known ? `, ${number(done.known)} there already` : ""}${done.failed ? `, ${number(done.failed)} left out` : ""}.`;
      fill(look, h("p", { class: "good" }, words));
      say(words);
      await state.touched(user);
      added();
    });
  }

  return h("div", { class: "card" },
    h("h3", {}, "From a file"),
    file, drop,
    field("Ratings in the file", scale),
    h("p", { class: "note" }, "One text a line, or a table: ", h("code", {}, "output"), " (what they wrote), and as you have them ",
      h("code", {}, "input"), ", ", h("code", {}, "at"), ", ", h("code", {}, "rating"), ", ", h("code", {}, "id"), ". Other columns are kept beside."),
    look);
}

/** What the server makes of lines, all pieces together; faults have the file's own line numbers. */
async function sendLines(user, found, check) {
  const sum = { added: 0, known: 0, failed: 0, errors: [] };
  for (const [start, end] of pieces(found.lines)) {
    const fix = ({ line: n, message }) => ({ line: found.numbers[start + n - 1], message: message.replace(/^line \d+: (behaviour '[^']*' of user '[^']*': )?/, "") });
    try {
      const done = await api.addLines(user, found.lines.slice(start, end).join("\n"), check, found.scale);
      for (const word of ["added", "known", "failed"]) sum[word] += done[word];
      sum.errors.push(...done.errors.map(fix));
    } catch (error) {
      const n = Number(/^line (\d+)$/.exec(error.param ?? "")?.[1]);
      if (!n || error.code === "rating_scale") throw error; // of all the file, and not of one line
      sum.failed += end - start; // not one line of the piece is good; the server names the first
      sum.errors.push(fix({ line: n, message: error.message }));
    }
  }
  return sum;
}

function* pieces(lines) {
  let [start, size] = [0, 0];
  for (let i = 0; i < lines.length; i++) {
    size += lines[i].length;
    if (size > CHUNK) {
      yield [start, i + 1];
      [start, size] = [i + 1, 0];
    }
  }
  if (start < lines.length) yield [start, lines.length];
}

function preview(name, found, checked, send) {
  const bad = new Map(checked.errors.map((e) => [e.line, e.message]));
  const good = found.lines
    .map((text, i) => ({ number: found.numbers[i], text }))
    .filter(({ number }) => !bad.has(number))
    .slice(0, LOOK);
  const anything = checked.added + checked.known > 0;
  return [
    h("p", {}, h("b", {}, name), ": ", some(checked.added, "new text"),
      checked.known > 0 && `, ${number(checked.known)} there already`, checked.failed > 0 && `, ${some(checked.failed, "bad line")}`, "."),
    bad.size > 0 && h("ul", { class: "bad-lines", "aria-label": "Bad lines" },
      [...bad].slice(0, ERRORS).map(([n, message]) => h("li", {}, h("b", {}, `${capital(found.what)} ${n}`), ` ${message}`)),
      checked.failed > Math.min(bad.size, ERRORS) && h("li", { class: "soft" }, `and ${number(checked.failed - Math.min(bad.size, ERRORS))} more`)),
    anything && h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The first good lines" },
      h("table", {},
        h("thead", {}, h("tr", {}, [capital(found.what), "Given", "Wrote", "When"].map((word) => h("th", { scope: "col" }, word)))),
        h("tbody", {}, good.map(({ number, text }) => row(number, JSON.parse(text)))))),
    h("div", { class: "row" },
      anything
        ? button(checked.added ? `Add ${some(checked.added, "text")}` : "Nothing is new", send, { class: "main", disabled: !checked.added })
        : h("p", { class: "soft" }, "No line is good; mend the file and drop it again.")),
  ];
}

const row = (n, b) => h("tr", {}, h("td", {}, String(n)), h("td", { class: "given" }, line(b.input ?? "", 60)), h("td", {}, line(b.output, 80)), h("td", { class: "soft" }, String(b.at ?? "–")));

const capital = (word) => word[0].toUpperCase() + word.slice(1);
