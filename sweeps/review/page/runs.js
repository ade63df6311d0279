// The list of runs, found as one types and renewed while the page is looked at: as the server writes
// it, put in the place of what is there.

const EVERY = 2000;

const list = document.querySelector("#list tbody");
const find = document.getElementById("find");
const found = document.getElementById("found");
const form = document.getElementById("compare");
const button = document.getElementById("compare-button");
let shown = { words: find.value, tag: null };

function chosen() {
  return [...form.querySelectorAll("input:checked")].map((box) => box.value);
}

/** Comparing takes two. */
function allowComparing() {
  button.disabled = chosen().length !== 2;
}

function show(page) {
  const checked = new Set(chosen());
  const nameOf = (element) => element?.value ?? element?.href;
  const focused = list.contains(document.activeElement) && nameOf(document.activeElement);
  list.replaceChildren(...document.importNode(page.querySelector("#list tbody"), true).children);
  for (const box of list.querySelectorAll("input")) box.checked = checked.has(box.value);
  if (focused) {
    [...list.querySelectorAll("input, a")].find((each) => nameOf(each) === focused)?.focus();
  }
  found.textContent = page.getElementById("found").textContent;
  allowComparing();
}

async function renew() {
  const words = find.value;
  const tag = words === shown.words ? shown.tag : null;
  try {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(`/?${new URLSearchParams({ find: words })}`, { headers });
    if (answer.status === 304 || words !== find.value) return;
    if (!answer.ok) throw new Error(answer.statusText);
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    shown = { words, tag: answer.headers.get("ETag") };
  } catch (error) {
    found.textContent = `Not up to date: ${error.message}`;
    shown.tag = null;
  }
}

find.addEventListener("input", renew);
form.addEventListener("change", allowComparing);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const [a, b] = chosen();
  location.href = `/compare?${new URLSearchParams({ a, b })}`;
});
document.getElementById("search").hidden = true;
button.hidden = false;
allowComparing();
setInterval(() => {
  if (!document.hidden) renew();
}, EVERY);
