// Reads what people drop: JSON lines, a JSON array, or a table with commas.

const KNOWN = new Set(["user", "id", "at", "input", "output", "rating"]);

/**
 * A file as lines of JSON for the server.
 *
 * Returns `{lines, numbers, what}`: the n-th line stands in line `numbers[n]` of the file. Throws an Error in one line.
 */
export function readFile(name, text) {
  const body = text.replace(/^\uFEFF/, "");
  if (/\.(csv|tsv)$/i.test(name)) return fromTable(body, /\.tsv$/i.test(name) ? "\t" : null);
  if (body.trimStart().startsWith("[")) return fromArray(body);
  if (!/\.(jsonl|ndjson|json|txt)$/i.test(name) && !body.trimStart().startsWith("{")) {
    throw new Error(`${name}: expected a .jsonl or a .csv file`);
  }
  const found = { lines: [], numbers: [], what: "line" };
  for (const [i, line] of body.split("\n").entries()) {
    if (!line.trim()) continue;
    found.lines.push(line.trim());
    found.numbers.push(i + 1);
  }
  return found;
}

function fromArray(body) {
  let items;
  try {
    items = JSON.parse(body);
  } catch (error) {
    throw new Error(`The file begins like a JSON array and is none: ${error.message}`);
  }
  return { lines: items.map((item) => JSON.stringify(item)), numbers: items.map((_, i) => i + 1), what: "item" };
}

function fromTable(body, given) {
  const head = body.slice(0, body.indexOf("\n") + 1 || undefined);
  const separator = given ?? [",", ";", "\t"].sort((a, b) => head.split(b).length - head.split(a).length)[0];
  const rows = parseTable(body, separator);
  const columns = rows.shift()?.cells.map((c) => c.trim()) ?? [];
  if (!columns.includes("output")) {
    throw new Error(`The table has no column "output"; its first line names: ${columns.join(", ") || "nothing"}`);
  }
  return {
    lines: rows.map(({ cells }) => JSON.stringify(record(columns, cells))),
    numbers: rows.map(({ number }) => number),
    what: "line",
  };
}

/** A row as a behaviour; columns of other names become fields. What is no number is left for the server to name. */
function record(columns, cells) {
  const made = {};
  for (const [i, column] of columns.entries()) {
    const cell = cells[i] ?? "";
    const asNumber = cell.trim() !== "" && Number.isFinite(Number(cell)) ? Number(cell) : cell;
    if (column === "input" || column === "output") made[column] = cell;
    else if (cell.trim() === "") continue;
    else if (column === "at" || column === "rating") made[column] = asNumber;
    else if (KNOWN.has(column)) made[column] = cell;
    else if (column) (made.fields ??= {})[column] = cell;
  }
  return made;
}

/** Rows of a table (RFC 4180) with the line each begins in; quoted cells may hold line breaks. */
export function parseTable(body, separator) {
  const rows = [];
  let [cells, cell, quoted, number, start] = [[], "", false, 1, 1];
  const endRow = () => {
    cells.push(cell);
    if (cells.length > 1 || cells[0].trim()) rows.push({ cells, number: start });
    [cells, cell] = [[], ""];
  };
  for (let i = 0; i < body.length; i++) {
    const c = body[i];
    if (c === "\n") number++;
    if (quoted) {
      if (c !== '"') cell += c;
      else if (body[i + 1] === '"') cell += body[++i];
      else quoted = false;
    } else if (c === '"' && cell === "") quoted = true;
    else if (c === separator) [cells, cell] = [[...cells, cell], ""];
    else if (c === "\n") {
      endRow();
      start = number;
    } else if (c !== "\r") cell += c;
  }
  if (cell !== "" || cells.length) endRow();
  return rows;
}
