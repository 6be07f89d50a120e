// OpenAI's JavaScript client against a running server: prints what it was given as one JSON object.
import OpenAI from "openai";

const [baseURL, model, bare] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "what is your favourite colour" }];
const ask = { model, messages, user: "ada", max_tokens: 6, temperature: 1, seed: 7 };

const chat = await client.chat.completions.create(ask);
let streamed = "";
let last;
for await (const chunk of await client.chat.completions.create({
  ...ask, stream: true, stream_options: { include_usage: true },
})) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  last = chunk;
}
const several = await client.chat.completions.create({ ...ask, model: bare, n: 2, logprobs: true, top_logprobs: 2 });
const text = await client.completions.create({ model, prompt: "tell me more", max_tokens: 3, user: "ada" });
const vectors = await client.embeddings.create({ model: "hashing", input: ["red", "blue"] });
const models = [];
for await (const each of client.models.list()) models.push(each.id);
const refused = {};
for (const [name, wrong] of Object.entries({
  missing: { ...ask, model: "nothing" },
  conflict: { ...ask, safety_identifier: "bob" },
  wrong: { ...ask, temperature: 9 },
})) {
  try {
    await client.chat.completions.create(wrong);
  } catch (error) {
    refused[name] = [error.constructor.name, error.status, error.param];
  }
}
console.log(JSON.stringify({
  chat, streamed, last, several, text, models, refused,
  width: vectors.data.map((row) => row.embedding.length),
}));
