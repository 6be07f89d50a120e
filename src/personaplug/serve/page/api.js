// Everything that is asked of the server, and what goes wrong in one line.

const KEY = "personaplug.key";

/** The server said no; `code` is its word for programs. */
export class ApiError extends Error {
  constructor(message, status = 0, code = null, param = null) {
    super(message);
    Object.assign(this, { status, code, param });
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

const at = (...parts) => `v1/${parts.map(encodeURIComponent).join("/")}`;

async function send(method, address, { body, type = "application/json", signal } = {}) {
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  if (body !== undefined) headers["Content-Type"] = type;
  let response;
  try {
    response = await fetch(address, { method, headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer; see whether `personaplug serve` still runs");
  }
  if (response.ok) return response;
  const told = await response.json().then((data) => data.error, () => null);
  throw new ApiError(told?.message ?? `The server answered ${response.status}`, response.status, told?.code, told?.param);
}

const json = async (method, address, data, signal) =>
  (await send(method, address, { body: data === undefined ? undefined : JSON.stringify(data), signal })).json();

const query = (options) => `?${new URLSearchParams(options)}`;

// -- models and users ---------------------------------------------------------------------------------------------

/** The models that answer; encoders are left out. */
export async function models() {
  const found = await json("GET", "v1/models");
  return found.data.filter((model) => model.personaplug.method);
}

export const users = (after = "", limit = 500) => json("GET", `v1/users${query({ after, limit })}`);
export const user = (name) => json("GET", at("users", name));
export const createUser = (id) => json("POST", "v1/users", { id });
export const eraseUser = (name) => json("DELETE", at("users", name));
export const loadDemo = () => json("POST", "v1/demo");
export const exportUser = async (name) => (await send("GET", `${at("users", name)}/export`)).blob();
export const report = async () => (await send("GET", "v1/report")).text();

// -- histories ----------------------------------------------------------------------------------------------------

export const history = (name, after = null, limit = 50) =>
  json("GET", `${at("users", name, "history")}${query(after === null ? { limit } : { limit, after })}`);
export const behaviour = (name, id) => json("GET", at("users", name, "history", id));
export const correct = (name, id, content) => json("PUT", at("users", name, "history", id), content);
export const remove = (name, id) => json("DELETE", at("users", name, "history", id));
export const add = (name, content) => json("POST", at("users", name, "history"), content);
export const map = (name, model) => json("GET", `${at("users", name)}/map${query(model ? { model } : {})}`);

/** Sends lines of JSON; `check` only asks what would come of it, `scale` is that of the ratings, LOW:HIGH. */
export const addLines = async (name, text, check, scale) =>
  (await send("POST", `${at("users", name, "history")}${query({ check, rating_scale: scale })}`, { body: text, type: "application/x-ndjson" })).json();

// -- answers ------------------------------------------------------------------------------------------------------

export const explain = (name, model, messages, limit) =>
  json("POST", `${at("users", name)}/explain`, { model, messages, limit });
export const feedback = (name, said) => json("POST", `${at("users", name)}/feedback`, said);

/**
 * An answer as it grows. `grown` is called with each piece of text; returns its id, its text, the server's
 * `personaplug` block and the usage.
 */
export async function answer(body, grown, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await send("POST", "v1/chat/completions", { body: JSON.stringify(asked), signal });
  const result = { id: null, text: "", block: null, usage: null, finish: null };
  for await (const chunk of events(response.body)) {
    if (chunk.error) throw new ApiError(chunk.error.message, 0, chunk.error.code);
    result.id ??= chunk.id;
    result.block = chunk.personaplug ?? result.block;
    result.usage = chunk.usage ?? result.usage;
    const choice = chunk.choices[0];
    result.finish = choice?.finish_reason ?? result.finish;
    if (choice?.delta?.content) {
      result.text += choice.delta.content;
      grown(choice.delta.content);
    }
  }
  return result;
}

/** Server-sent events, parsed. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}
