// The list of runs, found as one types and renewed while the page is looked at.

const EVERY = 2000;
const HEAD_OF = "/api/runs";

const list = document.querySelector("#list tbody");
const find = document.getElementById("find");
const form = document.getElementById("compare");
const button = document.getElementById("compare-button");
let tag = null;
let asked = null;

/** An element with attributes and children; whatever a run is called is text. */
function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function chosen() {
  return [...form.querySelectorAll("input:checked")].map((box) => box.value);
}

function row(run, checked) {
  const box = html("input", {
    type: "checkbox",
    name: "run",
    value: run.run,
    "aria-label": `Compare ${run.run}`,
  });
  box.checked = checked.has(run.run);
  const { leader } = run;
  const tied = leader && leader.rank_high > 1;
  const figure = (text) => html("td", { class: "figure" }, text);
  return html(
    "tr",
    {},
    html("td", {}, box),
    html(
      "th",
      { scope: "row" },
      html("a", { href: `/runs/${encodeURIComponent(run.run)}/` }, run.run),
      run.name === run.run ? null : html("small", {}, run.name),
      run.note ? html("small", { class: "note" }, run.note) : null,
    ),
    html("td", {}, run.task),
    html("td", {}, html("span", { class: `state ${run.state}` }, run.state)),
    figure(`${run.done} of ${run.trials}`),
    figure(String(run.failed)),
    figure(run.ranked ? String(run.ranked) : "–"),
    html(
      "td",
      {},
      leader ? `${leader.architecture} · ${leader.init}` : "–",
      tied ? html("small", {}, `tied: ranks 1 to ${leader.rank_high}`) : null,
    ),
    figure(leader ? leader.traceability.toFixed(3) : "–"),
    html(
      "td",
      {},
      run.decided ? html("code", {}, run.decided) : "–",
      run.decided
        ? html("small", {}, run.reviewer + (run.stands ? "" : "; the ranking changed since"))
        : null,
    ),
    html("td", {}, html("time", { datetime: run.changed }, run.changed.slice(0, 16).replace("T", " "))),
  );
}

function show(runs) {
  const checked = new Set(chosen());
  const focused = document.activeElement?.value ?? document.activeElement?.href;
  list.replaceChildren(...runs.map((run) => row(run, checked)));
  for (const element of list.querySelectorAll("input, a")) {
    if (focused && (element.value ?? element.href) === focused) element.focus();
  }
  const found = find.value.trim() ? " found" : "";
  document.getElementById("found").textContent =
    `${runs.length} ${runs.length === 1 ? "run" : "runs"}${found}.`;
  follow();
}

/** Comparing takes two. */
function follow() {
  button.disabled = chosen().length !== 2;
}

async function renew() {
  const words = find.value;
  if (words !== asked) tag = null;
  asked = words;
  try {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(`${HEAD_OF}?find=${encodeURIComponent(words)}`, { headers });
    if (answer.status !== 200 || words !== find.value) return;
    tag = answer.headers.get("ETag");
    show(await answer.json());
  } catch {
    document.getElementById("found").textContent = "The server does not answer.";
    tag = null;
  }
}

find.addEventListener("input", renew);
form.addEventListener("change", follow);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const [a, b] = chosen();
  location.href = `/compare?${new URLSearchParams({ a, b })}`;
});
document.getElementById("search").hidden = true;
follow();
setInterval(() => {
  if (!document.hidden) renew();
}, EVERY);
