// What a page that the review server gives can do besides: ask for models in depth, follow a sweep
// that goes on, and record a decision. From disk there is no server, and none of it is shown.

import { html } from "./elements.js";
import { span } from "./words.js";

/** The server's interface for one run. */
export class Review {
  /** `ranking` is which provisional one the page shows; null where it is the report's. */
  constructor(place, ranking) {
    this.place = place;
    this.ranking = ranking;
    /** The tag of the last answer to `live`; without it the next one is whole. */
    this.tag = null;
  }

  /** The interface that the page was told of; null from disk. */
  static ofPage() {
    const told = document.querySelector('meta[name="tracerank-review"]');
    return told?.content ? new Review(told.content, told.dataset.ranking || null) : null;
  }

  async #ask(path, options = {}) {
    const answer = await fetch(`${this.place}${path}`, options);
    const content = answer.status === 304 ? null : await answer.json();
    if (!answer.ok && answer.status !== 304) throw new Error(content.detail ?? answer.statusText);
    return { content, tag: answer.headers.get("ETag") };
  }

  /** One model in depth, as `details` in the page's data has the leading ones. */
  async details(id) {
    return (await this.#ask(`/models/${encodeURIComponent(id)}`)).content;
  }

  /** How far the sweep is; null where nothing has changed since the last time. */
  async live() {
    const headers = this.tag ? { "If-None-Match": this.tag } : {};
    const { content, tag } = await this.#ask("/live", { headers });
    this.tag = tag;
    return content;
  }

  async decisions() {
    return (await this.#ask("/decisions")).content;
  }

  async decide(choice) {
    const headers = { "Content-Type": "application/json" };
    await this.#ask("/decisions", { method: "POST", headers, body: JSON.stringify(choice) });
  }
}

/** The section in which a decision is made, and those that were are listed. */
export class DecisionForm {
  constructor(review, data) {
    this.review = review;
    this.data = data;
    const { models } = data;
    this.list = html("div", { class: "decided" });
    this.told = html("p", { role: "status" });
    this.model = html(
      "select",
      { id: "decide-model", required: true },
      models.model_id.map((id, at) =>
        html(
          "option",
          { value: id },
          `${span(models.rank_low[at], models.rank_high[at])}: ${models.name[at]} (${id})`,
        ),
      ),
    );
    this.reviewer = html("input", {
      id: "decide-reviewer",
      required: true,
      maxlength: 10_000,
      autocomplete: "name",
    });
    this.reason = html("textarea", {
      id: "decide-reason",
      required: true,
      maxlength: 10_000,
      rows: 3,
    });
    const field = (title, control) =>
      html("label", { class: "field", for: control.id }, html("span", {}, title), control);
    this.form = html(
      "form",
      { class: "decide" },
      field("Model (with the ranks that the data allow)", this.model),
      field("Who decides", this.reviewer),
      field("Why", this.reason),
      html("button", { type: "submit" }, "Record the decision"),
      this.told,
    );
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#decide();
    });
    this.element = html(
      "section",
      { "aria-labelledby": "decision", class: "review-only" },
      html("h2", { id: "decision" }, "Decision"),
      html(
        "p",
        {},
        `From the ranking as it was reported, at α = ${data.view.alpha}. A decision is kept with the run, tied to this ranking; later ones are added to it.`,
      ),
      this.list,
      this.form,
    );
    this.renew();
  }

  /** Choose a model in the form, and go to it. */
  choose(id) {
    this.model.value = id;
    this.element.scrollIntoView();
    this.reviewer.focus();
  }

  async renew() {
    try {
      const { decisions, stands } = await this.review.decisions();
      this.list.replaceChildren(...decidedTable(decisions, stands, this.data.models));
    } catch (error) {
      this.list.replaceChildren(html("p", { class: "bad" }, error.message));
    }
  }

  async #decide() {
    const choice = {
      model_id: this.model.value,
      reviewer: this.reviewer.value,
      reason: this.reason.value,
      ranking: this.data.fingerprint,
    };
    try {
      await this.review.decide(choice);
      this.told.textContent = `Recorded: ${choice.model_id}.`;
      this.told.className = "";
      this.reason.value = "";
      await this.renew();
    } catch (error) {
      this.told.textContent = `Not recorded: ${error.message}`;
      this.told.className = "bad";
    }
  }
}

function decidedTable(decisions, stands, models) {
  if (!decisions.length) return [html("p", { class: "quiet" }, "Nothing is decided yet.")];
  const name = (id) => models.name[models.model_id.indexOf(id)] ?? "no longer ranked";
  const rows = decisions.map((each) =>
    html(
      "tr",
      {},
      html("th", { scope: "row" }, name(each.model_id), html("small", {}, each.model_id)),
      html("td", { class: "figure" }, String(each.alpha)),
      html("td", {}, each.reviewer),
      html("td", { class: "reason" }, each.reason),
      html(
        "td",
        {},
        html("time", { datetime: each.time }, each.time.slice(0, 16).replace("T", " ")),
      ),
    ),
  );
  const heads = ["Model", "α", "Who", "Why", "When (UTC)"].map((head) =>
    html("th", { scope: "col" }, head),
  );
  const table = html(
    "table",
    {},
    html("thead", {}, html("tr", {}, heads)),
    html("tbody", {}, rows),
  );
  const told = stands
    ? "The ranking is the one that the last decision was made from."
    : "The ranking has changed since the last decision: look at it again, and decide anew.";
  return [
    html("p", { class: stands ? "" : "bad" }, told),
    html(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Decisions" },
      table,
    ),
  ];
}
