// Lists the operations of /openapi.json, each with its example, to be sent from here. Whatever comes
// from the server is shown as text, never as markup.
"use strict";

const token = document.getElementById("token");
const status = document.getElementById("status");
const routes = document.getElementById("routes");

function headers(json) {
  const all = new Headers();
  if (token.value) all.set("Authorization", "Bearer " + token.value.trim());
  if (json) all.set("Content-Type", "application/json");
  return all;
}

// JSON with indents; other text as it is.
function readable(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function section(path, method, operation) {
  const made = document.getElementById("route").content.cloneNode(true);
  const find = (selector) => made.querySelector(selector);
  find(".method").textContent = method;
  find(".path").textContent = path;
  find(".summary").textContent = operation.summary || "";
  find(".description").textContent = operation.description || "";
  const asked = find(".asked");
  const body = asked.querySelector("textarea");
  const outcome = find(".outcome");
  const answer = find(".answer");
  const send = find(".send");
  const content = operation.requestBody && operation.requestBody.content["application/json"];
  if (content) body.value = JSON.stringify(content.example, null, 2);
  else asked.remove();
  send.addEventListener("click", async () => {
    send.disabled = true;
    outcome.textContent = "waiting";
    const start = performance.now();
    try {
      const request = { method: method.toUpperCase(), headers: headers(content) };
      if (content) request.body = body.value;
      const response = await fetch(path, request);
      const text = await response.text();
      const ms = Math.round(performance.now() - start);
      outcome.textContent = response.status + " " + response.statusText + ", " + ms + " ms";
      answer.textContent = readable(text);
      answer.hidden = false;
    } catch (error) {
      outcome.textContent = "no answer: " + error.message;
    }
    send.disabled = false;
  });
  return made;
}

async function load() {
  status.textContent = "";
  try {
    const response = await fetch("/openapi.json", { headers: headers(false) });
    if (response.status === 401) {
      status.textContent = "This server needs a token.";
      return;
    }
    const described = await response.json();
    routes.replaceChildren();
    for (const [path, operations] of Object.entries(described.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        routes.append(section(path, method, operation));
      }
    }
  } catch (error) {
    status.textContent = "The description could not be loaded: " + error.message;
  }
}

document.getElementById("load").addEventListener("click", load);
load();
