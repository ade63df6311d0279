// The same page made anew by the server, put in the place of this one: all but what scripts have
// drawn, which goes on with other data.

const DRAWN = "#controls, #table, #parallel, #scatter, #alpha-chart";

function sectionsOf(page) {
  const found = page.querySelectorAll("main > section:not(.review-only)");
  return new Map([...found].map((section) => [section.getAttribute("aria-labelledby"), section]));
}

/** Whether the page has the sections that `page` has: what scripts draw is made for them. */
export function isAlike(page) {
  return [...sectionsOf(page).keys()].join() === [...sectionsOf(document).keys()].join();
}

/** Puts what is written in `page`, which is alike, into this one; returns the elements put. */
export function renewPage(page) {
  const own = sectionsOf(document);
  return [...sectionsOf(page)].flatMap(([name, section]) => {
    const old = own.get(name);
    old.className = section.className;
    return renewAround(old, document.importNode(section, true));
  });
}

/** Gives `old` the content of `fresh`, but for what is drawn in it, and what stands below that. */
function renewAround(old, fresh) {
  const keeps = (node) => node.matches?.(`${DRAWN}, .below`) || node.querySelector?.(DRAWN);
  const kept = [...old.childNodes].filter(keeps);
  for (const node of [...old.childNodes]) if (!kept.includes(node)) node.remove();
  const put = [];
  for (const node of [...fresh.childNodes]) {
    if (keeps(node)) {
      const same = kept.shift();
      if (!same.matches(DRAWN)) put.push(...renewAround(same, node));
      while (kept[0]?.matches(".below")) kept.shift();
    } else {
      old.insertBefore(node, kept[0] ?? null);
      if (node.nodeType === Node.ELEMENT_NODE) put.push(node);
    }
  }
  return put;
}
