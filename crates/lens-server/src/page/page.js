// The page of `lens serve`: texts in, rewards out. Whatever is shown is built of text nodes, so that
// no text, of a person or of the server, can become markup or code.
"use strict";

/** Most responses that the server compares. */
const MOST = 64;
/** Training pairs asked for with each response. */
const NEAREST = 3;
/** Characters of a text that are shown with its reward. */
const TEASER = 400;

const $ = (id) => document.getElementById(id);
/** Kept here and nowhere else: gone when the page is. */
let token = "";
let models = [];
let asking = null;

/** An element with a class and children; strings become text. */
function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** An element of a drawing. */
function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A text as it can be seen: characters that show nothing, or turn the order of others, by number. */
function visible(text) {
  const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]/gu;
  return text.replace(hidden, (c) =>
    `\u27e8U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`);
}

/** A quoted text, shortened unless it is to be whole. */
function quote(text, most = Infinity) {
  const characters = Array.from(text);
  const left = characters.length - most;
  const shown = left > 0 ? characters.slice(0, most).join("") : text;
  const made = element("div", "quote", visible(shown));
  made.dir = "auto";
  if (left > 0) made.append(element("span", "hint", ` [${left} more characters]`));
  return made;
}

/** The text of a prompt or response: a string, or the turns of a chat. */
function plain(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return JSON.stringify(content);
  return content.map((turn) => `${turn.role}: ${turn.content}`).join("\n\n");
}

const letter = (i) => (i < 26 ? String.fromCharCode(65 + i) : `${i + 1}`);
const named = (i) => `Response ${letter(i)}`;
const number = (x, digits = 3) => x.toFixed(digits).replace("-", "\u2212");
function percent(p) {
  if (p > 0.999) return "over 99.9%";
  if (p < 0.001) return "under 0.1%";
  return `${(100 * p).toFixed(1)}%`;
}

// What the page says when there is no answer.

function say(text) {
  $("message").textContent = text;
  $("message").hidden = text === "";
}

/** Asks the server; the answer as a value, or an error with the server's own words. */
async function ask(path, options = {}) {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (options.body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const text = await response.text();
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // What is not JSON is told by its status below.
  }
  if (response.ok && value !== null) return value;
  const said = value?.error?.message ?? `status ${response.status}`;
  if (response.status === 401) {
    $("token-field").hidden = false;
    throw new Error(token ? `The token is not accepted (${said}).` : "This server asks for a token.");
  }
  const wait = response.headers.get("Retry-After");
  throw new Error(wait ? `${said}. Try again in ${wait} s.` : `${said}`);
}

// The form.

function fields() {
  return Array.from(document.querySelectorAll("#responses textarea"));
}

/** Numbers the responses anew. */
function numbered() {
  const all = Array.from(document.querySelectorAll(".response"));
  all.forEach((response, i) => {
    const [label, text] = [response.querySelector("label"), response.querySelector("textarea")];
    text.id = `response-${i}`;
    label.htmlFor = text.id;
    label.textContent = named(i);
    const remove = response.querySelector("button");
    remove.hidden = all.length <= 2;
    remove.setAttribute("aria-label", `Remove response ${letter(i)}`);
  });
  $("add").disabled = all.length >= MOST;
}

function addResponse() {
  const text = element("textarea");
  text.rows = 5;
  text.spellcheck = false;
  text.dir = "auto";
  const remove = element("button", "remove", "Remove");
  remove.type = "button";
  const response = element("div", "response", element("div", "", element("label"), remove), text);
  remove.addEventListener("click", () => {
    const at = fields().indexOf(text);
    response.remove();
    numbered();
    changed();
    fields()[Math.max(0, at - 1)].focus();
  });
  $("responses").append(response);
  numbered();
  return text;
}

/** Rewards of texts that are there no more are marked so. */
function changed() {
  $("stale").hidden = false;
  $("results").classList.add("old");
}

const model = () => models.find((m) => m.id === $("model").value) ?? models[0];

function described() {
  const chosen = model();
  const about = chosen?.lens ?? {};
  const parts = [];
  if (chosen) parts.push(`Reward model ${chosen.id}`);
  if (about.pairs) parts.push(`trained on ${about.pairs.toLocaleString("en")} pairs of ${about.trained_on}`);
  if (about.encoder) parts.push(`on embeddings of ${about.encoder}`);
  if (parts.length) $("about").textContent = visible(`${parts.join(", ")}.`);
  $("nearest-field").hidden = !about.nearest;
}

async function loadModels() {
  const { data } = await ask("v1/models");
  models = data;
  const before = $("model").value;
  $("model").replaceChildren(...models.map((m) => new Option(visible(m.id), m.id)));
  if (models.some((m) => m.id === before)) $("model").value = before;
  $("model-field").hidden = models.length < 2;
  described();
}

// The results.

/** A bar from 0 to the reward, with a line of one standard deviation of the ensemble to both sides. */
function bar(result, low, high) {
  const x = (value) => (100 * (value - low)) / (high - low);
  const [from, to] = [Math.min(0, result.reward), Math.max(0, result.reward)];
  const [left, right] = [result.reward - result.deviation, result.reward + result.deviation];
  const line = (a, b, y, z, name) => drawn("line", { x1: x(a), x2: x(b), y1: y, y2: z, class: name });
  const title = drawn("title", {}, `reward ${number(result.reward)}, ensemble deviation ${number(result.deviation)}`);
  return drawn(
    "svg",
    { viewBox: "0 0 100 24", preserveAspectRatio: "none", role: "img" },
    title,
    drawn("rect", { x: x(from), width: Math.max(x(to) - x(from), 0.2), y: 5, height: 14, class: "bar" }),
    line(0, 0, 0, 24, "zero"),
    line(left, right, 12, 12, "whisker"),
    line(left, left, 8, 16, "whisker"),
    line(right, right, 8, 16, "whisker"),
  );
}

function facts(result) {
  const rows = [
    ["normalised", number(result.normalised, 2)],
    ["ensemble deviation", number(result.deviation)],
  ];
  if (result.novelty) {
    const { distance, threshold } = result.novelty;
    rows.push(["distance from the training data", `${number(distance, 2)} (usual up to ${number(threshold, 2)})`]);
  }
  if (result.tokens !== undefined) {
    rows.push(["tokens", `${result.tokens}${result.truncated ? ", the beginning left out" : ""}`]);
  }
  const one = ([key, value]) => element("div", "", element("dt", "", key), element("dd", "", value));
  return element("dl", "facts", ...rows.map(one));
}

function pairs(nearest) {
  const one = (hit) => element(
    "div",
    "pair",
    element("p", "", `Nearest to its ${hit.side} response, cosine ${number(hit.cosine)}`),
    element("h4", "", "Prompt"), quote(plain(hit.prompt)),
    element("h4", "", "Chosen"), quote(plain(hit.chosen)),
    element("h4", "", "Rejected"), quote(plain(hit.rejected)),
  );
  return element("details", "", element("summary", "", "Nearest training pairs"), ...nearest.map(one));
}

function card(result, text, best, low, high) {
  const heading = element("header", "", element("h3", "", named(result.index)));
  if (best) heading.append(element("span", "badge win", "preferred"));
  if (result.novelty?.out_of_distribution) {
    heading.append(element("span", "badge far", "unlike the training data"));
  }
  heading.append(element("span", "reward", number(result.reward)));
  const made = element("li", best ? "card best" : "card", heading, bar(result, low, high), facts(result));
  made.append(quote(text, TEASER));
  if (result.nearest?.length) made.append(pairs(result.nearest));
  return made;
}

/** One sentence: which wins, over which, and by how much. */
function verdict(answer, order) {
  const [first, second] = order;
  const gap = answer.results[first].reward - answer.results[second].reward;
  const p = answer.wins[first][second];
  if (gap === 0) return `${named(first)} and ${named(second)} have the same reward: neither is preferred.`;
  const than = order.length > 2 ? `the next best, ${named(second)},` : named(second);
  return `${named(first)} wins: preferred to ${than} with a probability of ${percent(p)}, by ${number(gap)} of reward.`;
}

/** Who would be preferred to whom. */
function matrix(wins) {
  const cells = (row, i) => row.map((p, j) => element("td", "", i === j ? "\u2013" : percent(p)));
  const head = element("tr", "", element("th"), ...wins.map((_, j) => scoped(named(j), "col")));
  const rows = wins.map((row, i) => element("tr", "", scoped(named(i), "row"), ...cells(row, i)));
  const told = "Probability that the response of the row is preferred to that of the column";
  const caption = element("caption", "", element("span", "", told));
  return element("table", "", caption, element("thead", "", head), element("tbody", "", ...rows));
}

function scoped(text, scope) {
  const made = element("th", "", text);
  made.scope = scope;
  return made;
}

function show(answer, texts) {
  const { results, wins } = answer;
  const ends = results.flatMap((r) => [r.reward - r.deviation, r.reward + r.deviation]);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const room = 0.02 * (high - low) || 1;
  const order = results.map((_, i) => i).sort((a, b) => results[b].reward - results[a].reward || a - b);
  $("verdict").textContent = verdict(answer, order);
  const tied = results[order[0]].reward === results[order[1]].reward;
  const cards = results.map((r, i) =>
    card(r, texts[i], !tied && i === answer.best, low - room, high + room));
  $("cards").replaceChildren(...cards);
  $("table").hidden = results.length < 3;
  $("table").replaceChildren(...(results.length < 3 ? [] : [matrix(wins)]));
  $("table").tabIndex = 0;
  $("legend").textContent = "Bars begin at a reward of 0, and the thin line is one standard deviation of the "
    + "ensemble to either side. Rewards have no unit: only differences between responses to one prompt mean "
    + "anything. Normalised is in standard deviations of the training responses' rewards."
    + (results.some((r) => r.novelty) ? " A response unlike the training data has a reward to be doubted." : "");
  $("results").hidden = false;
  $("results").classList.remove("old");
  $("stale").hidden = true;
}

async function compare() {
  const texts = fields().map((field) => field.value);
  const empty = texts.findIndex((text) => text.trim() === "");
  if (empty >= 0) {
    say(`${named(empty)} is empty.`);
    fields()[empty].focus();
    return;
  }
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  say("");
  token = $("token").value.trim();
  $("score").setAttribute("aria-disabled", "true");
  $("score").textContent = "Comparing\u2026";
  try {
    if (!models.length) await loadModels();
    const chosen = model();
    const body = { prompt: $("prompt").value, responses: texts };
    if (chosen) body.model = chosen.id;
    if (chosen?.lens?.nearest && $("nearest").checked) body.nearest = NEAREST;
    const answer = await ask("v1/reward", { method: "POST", body: JSON.stringify(body), signal: mine.signal });
    show(answer, texts);
    $("results").scrollIntoView({ block: "nearest" });
  } catch (error) {
    if (error.name === "AbortError") return;
    say(visible(error.message));
    if (!$("token-field").hidden && !models.length) $("token").focus();
  } finally {
    if (asking === mine) {
      asking = null;
      $("score").removeAttribute("aria-disabled");
      $("score").textContent = "Compare";
    }
  }
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  compare();
});
$("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) compare();
});
$("form").addEventListener("input", (event) => {
  if (event.target !== $("token")) changed();
});
$("model").addEventListener("change", described);
$("add").addEventListener("click", () => {
  addResponse().focus();
  changed();
});
addResponse();
addResponse();
loadModels().catch((error) => say(visible(error.message)));
