// Reads what people drop: JSON lines, a JSON array, or a table. A file is read right, or refused in one line.

const KNOWN = new Set(["user", "id", "at", "input", "output", "rating"]);
const SEPARATORS = [",", ";", "\t", "|"];
const NONE = "\u001f"; // separates nothing: the lines of a table with one column are its cells
const QUOTES = "put a text that holds the separator, a quote or a line break in double quotes";
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?$/i;

/** How other kinds of file begin, what they are, and the way out. */
const OTHER_KINDS = [
  ["\u001f\u008b", "compressed by gzip; unpack it"],
  ["PK\u0003\u0004", "an Excel workbook or a zip archive; save the sheet as CSV UTF-8, or unpack it"],
  ["\u00d0\u00cf\u0011\u00e0", "an old Excel file; save the sheet as CSV UTF-8"],
  ["PAR1", "Parquet; bring it in with: personaplug ingest FILE"],
  ["BZh", "compressed by bzip2; unpack it"],
  ["%PDF-", "a PDF; save its texts as CSV UTF-8"],
  ["SQLite format 3", "a database; save its rows as CSV UTF-8"],
];

/**
 * A file as lines of JSON for the server.
 *
 * `content` is text or bytes, `scale` the ratings' worst and best, for example [1, 5]. Returns `{lines, numbers, what}`:
 * the n-th line stands in line `numbers[n]` of the file. Throws an Error in one line.
 */
export function readFile(name, content, scale = [0, 1]) {
  const body = decoded(name, content).replace(/^\uFEFF/, "");
  const first = /^\s*(.*)/.exec(body)[1];
  const read = isTable(name, first) ? fromTable(body) : first.startsWith("[") ? fromArray(body) : fromLines(name, body);
  for (const [i, line] of read.lines.entries()) checkRating(line, `${capital(read.what)} ${read.numbers[i]}`, scale);
  return read;
}

/** Bytes as text: UTF-8, or what their byte order mark says. Other encodings cannot be distinguished and are refused. */
function decoded(name, content) {
  const isText = typeof content === "string"; // decoded by somebody else, with marks where bytes were no text
  const bytes = isText ? null : new Uint8Array(content);
  const start = isText ? content : String.fromCharCode(...bytes.subarray(0, 16));
  const begins = (magic) => start.startsWith(isText ? magic.replace(/[\u0080-\uffff]/g, "\uFFFD") : magic);
  const kind = OTHER_KINDS.find(([magic]) => begins(magic));
  if (kind) throw new Error(`${name}: this is ${kind[1]}`);
  const { text, whole } = isText ? { text: content, whole: false } : fromBytes(bytes);
  const bad = text.search(whole ? /\0/ : /[\uFFFD\0]/);
  if (bad >= 0) {
    const line = text.slice(0, bad).split(/\r\n|\n|\r/).length;
    throw new Error(text[bad] === "\0"
      ? `${name}: line ${line} holds NUL; this is no text file, or a damaged one`
      : `${name}: line ${line} is not UTF-8; save the file as UTF-8 (in Excel: CSV UTF-8)`);
  }
  return text;
}

function fromBytes(bytes) {
  const marks = [["utf-16le", [0xff, 0xfe]], ["utf-16be", [0xfe, 0xff]]];
  const marked = marks.find(([, mark]) => mark.every((byte, i) => bytes[i] === byte))?.[0];
  const start = bytes.subarray(0, 4096);
  const zeros = [0, 1].map((odd) => start.filter((byte, i) => i % 2 === odd && byte === 0).length / (start.length / 2));
  const bare = zeros[1] > 0.4 && !zeros[0] ? "utf-16le" : zeros[0] > 0.4 && !zeros[1] ? "utf-16be" : "utf-8";
  const read = (fatal) => new TextDecoder(marked ?? bare, { ignoreBOM: true, fatal }).decode(bytes);
  try {
    return { text: read(true), whole: true };
  } catch {
    return { text: read(false), whole: false }; // with marks where bytes were no text
  }
}

function isTable(name, first) {
  if (/\.(csv|tsv|tab|psv)$/i.test(name) || /^sep=.$/i.test(first.trim())) return true;
  return !/^[[{]/.test(first) && header(first).names.includes("output");
}

function fromLines(name, body) {
  if (!/\.(jsonl|ndjson|json|txt)$/i.test(name) && !body.trimStart().startsWith("{")) {
    throw new Error(`${name}: expected a .jsonl or a .csv file`);
  }
  const read = { lines: [], numbers: [], what: "line" };
  for (const [i, line] of body.split(/\r\n|\n|\r/).entries()) {
    const text = line.trim().replace(/^\uFEFF+|\uFEFF+$/g, "");
    if (!text) continue;
    read.lines.push(text);
    read.numbers.push(i + 1);
  }
  return read;
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

/** One rating beyond the scale says that the others are of another scale too: nothing of the file is taken. */
function checkRating(line, where, [low, high]) {
  if (!line.includes('"rating"')) return;
  let rating;
  try {
    rating = JSON.parse(line)?.rating;
  } catch {
    return; // the server names what is wrong with it
  }
  if (typeof rating === "number" && !(low <= rating && rating <= high)) {
    throw new Error(`${where}: the rating is ${rating}, but the file's ratings are to go from ${low} to ${high}; choose their scale, and drop the file again`);
  }
}

function fromTable(whole) {
  const body = whole.replace(/([\r\n])\uFEFF+/g, "$1"); // of files joined
  const { start, first, separator: given } = firstLine(body);
  if (first && body.includes(`\uFEFF${first}`)) throw new Error("Another file begins in the middle of a line; put a line end between joined files");
  const { separator, names } = header(first, given);
  const at = body.slice(0, start).split(/\r\n|\n|\r/).length;
  if (!names.includes("output")) {
    throw new Error(`The table has no column "output"; its first line names: ${names.join(", ") || "nothing"}`);
  }
  const twice = names.find((column, i) => column && names.indexOf(column) !== i);
  if (twice) throw new Error(`The table has the column "${twice}" twice; rename or remove one`);
  const spaced = names.length > 1 && first.split(separator).length === first.split(`${separator} `).length;
  const rows = parseTable(body.slice(start), separator, at, spaced).slice(1);
  const read = rows.filter(({ cells }) => names.length === 1 || headerCells(cells).join(NONE) !== names.join(NONE));
  const width = first.split(separator).length;
  for (const { cells, number } of read) checkCells(cells, names, width, number, separator);
  return {
    lines: read.map(({ cells }) => JSON.stringify(record(names, cells))),
    numbers: read.map(({ number }) => number),
    what: "line",
  };
}

/** Where the header begins and what it says, and the separator that a line before it names (Excel's `sep=;`). */
function firstLine(body) {
  let separator;
  for (const match of body.matchAll(/([^\r\n]*)(\r\n|\n|\r|$)/g)) {
    const hint = /^sep=(.)$/i.exec(match[1]);
    if (hint && !separator) separator = hint[1];
    else if (match[1].trim()) return { start: match.index, first: match[1], separator };
    else if (match[0] === "") break;
  }
  return { start: body.length, first: "", separator };
}

/** The separator and the names of a header: those among which is `output`, the most of them. */
function header(line, separator) {
  let best = { separator: NONE, names: headerCells([line.trim().replace(/^"|"$/g, "")]) };
  const rank = ({ names }) => 1000 * names.includes("output") + names.length;
  for (const each of separator ? [separator] : SEPARATORS) {
    const names = headerCells(line.split(each).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1")));
    if (names.length > 1 && rank({ names }) > rank(best)) best = { separator: each, names };
  }
  return best;
}

function headerCells(cells) {
  const names = cells.map((cell) => cell.trim().replace(/^\uFEFF/, "")).map((n) => (KNOWN.has(n.toLowerCase()) ? n.toLowerCase() : n));
  while (names.length && !names.at(-1)) names.pop();
  return names;
}

/** A row has a cell for each name; where the header ends in separators, the rows may too. */
function checkCells(cells, names, width, number, separator) {
  if (![names.length, width].includes(cells.length) || cells.slice(names.length).some((cell) => cell.trim())) {
    const by = separator === "\t" ? "tab" : separator;
    throw new Error(`Line ${number} has ${cells.length} cells, but the header names ${names.length} (separator ${by}); ${QUOTES}`);
  }
  const nameless = names.findIndex((n, i) => !n && cells[i].trim() && (i || !/^\d+$/.test(cells[i].trim())));
  if (nameless >= 0) throw new Error(`Line ${number}: column ${nameless + 1} has a text but no name; name it in the header`);
}

/** A row as a behaviour; columns of other names become fields. What is no number is left for the server to name. */
function record(columns, cells) {
  const made = {};
  for (const [i, column] of columns.entries()) {
    const cell = cells[i];
    if (column === "input" || column === "output") made[column] = cell;
    else if (cell.trim() === "") continue;
    else if (column === "at" || column === "rating") made[column] = NUMBER.test(cell.trim()) ? Number(cell) : cell;
    else if (KNOWN.has(column)) made[column] = cell;
    else if (column) (made.fields ??= {})[column] = cell;
  }
  return made;
}

/** Rows of a table (RFC 4180) with the line each begins in; quoted cells may hold line breaks. */
export function parseTable(body, separator, first = 1, spaced = false) {
  const rows = [];
  let [cells, cell, quoted, closed, number, start, opened] = [[], "", false, false, first, first, first];
  const endCell = () => [cells, cell, closed] = [[...cells, cell], "", false];
  const endRow = () => {
    endCell();
    if (cells.some((each) => each.trim())) rows.push({ cells, number: start });
    cells = [];
  };
  for (let i = 0; i < body.length; i++) {
    const c = body[i];
    const ends = c === "\n" || (c === "\r" && body[i + 1] !== "\n");
    if (ends) number++;
    if (quoted) {
      if (c !== '"') cell += c;
      else if (body[i + 1] === '"') cell += body[++i];
      else [quoted, closed] = [false, true];
    } else if (c === separator) endCell();
    else if (ends) {
      endRow();
      start = number;
    } else if (c === "\r") continue;
    else if (closed) throw new Error(`Line ${start}: text goes on after closing quotes; double the quotes inside a text`);
    else if (c === '"' && cell === "") [quoted, opened] = [true, number];
    else if (!(spaced && c === " " && cell === "")) cell += c;
  }
  if (quoted) throw new Error(`Line ${opened}: the quotes that open here never close; ${QUOTES}, and double the quotes inside it`);
  if (cell !== "" || cells.length || closed) endRow();
  return rows;
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);
