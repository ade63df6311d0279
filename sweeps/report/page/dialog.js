// The one dialog of the page, over everything else, in which a model is shown in depth.

import { html } from "./elements.js";

let opener = null;

/** Shows `content` under `title`; `actions` are {text, act}, each a button that closes it first.
 * Returns whether it still shows that, as a function. */
export function showDialog(title, actions, content) {
  const dialog = document.getElementById("model");
  if (!dialog.open) opener = document.activeElement;
  dialog.onclose = () => opener?.focus();
  const button = (text, act) =>
    html(
      "button",
      {
        type: "button",
        onclick: () => {
          dialog.close();
          act?.();
        },
      },
      text,
    );
  const head = html(
    "div",
    { class: "dialog-head" },
    html("h2", { id: "model-title" }, title),
    html(
      "span",
      { class: "dialog-buttons" },
      actions.map(({ text, act }) => button(text, act)),
      button("Close"),
    ),
  );
  dialog.replaceChildren(head, ...content);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  return () => dialog.open && dialog.firstChild === head;
}
