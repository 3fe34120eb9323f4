"use strict";
// What serves every table and every explained word of a page. Nothing here is needed to read it.
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const made = (tag, parts) => Object.assign(document.createElement(tag), parts);

  // --- tables as CSV (RFC 4180) ---

  const said = made("p", { className: "unseen" });
  said.setAttribute("role", "status");
  document.body.append(said);

  const flat = (text) => text.replace(/\u00a0/g, " ").replace(/\s+/g, " ").trim();

  // A number becomes one that programs read. Any other text that a spreadsheet would take for a formula is disarmed.
  const plain = (text) => {
    const typed = text.replace(/\u2212/g, "-");
    if (/^[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?%?$/.test(typed)) return typed.replace(/,/g, "");
    return /^[=+\-@]/.test(typed) ? "'" + typed : typed;
  };

  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);

  // What stands small below a number, such as its interval, gets a column of its own beside it.
  const split = (cell) => {
    const whole = cell.cloneNode(true);
    const notes = [...whole.querySelectorAll("small, details")].map((note) => {
      note.remove();
      const items = [...note.querySelectorAll("li")].map((item) => item.textContent);
      return flat((items.length ? items.join("; ") : note.textContent).replace(/\n/g, "; "));
    });
    return [flat(whole.textContent), notes.join("; ")];
  };

  const csv = (table) => {
    const rows = [...table.rows].map((row) => [...row.cells].map(split));
    const noted = rows[0].map((_, place) => rows.slice(1).some((row) => row[place] && row[place][1]));
    const lines = rows.map((row, line) =>
      row.flatMap(([text, note], place) => {
        const beside = line ? note : `${text} (note)`;
        return noted[place] ? [text, beside] : [text];
      }),
    );
    return lines.map((line) => line.map((text) => quoted(plain(text))).join(",")).join("\r\n") + "\r\n";
  };

  const byHand = (text) => {
    const area = made("textarea", { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };

  const copied = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return byHand(text);
    }
  };

  for (const table of all(".table table")) {
    const caption = table.closest(".table").querySelector("p");
    const button = made("button", { type: "button", className: "copy", textContent: "Copy as CSV" });
    const owner = table.closest("details.strategy")?.querySelector("summary b").textContent;
    button.setAttribute("aria-label", `Copy as CSV: ${flat(caption.textContent)}${owner ? `, ${owner}` : ""}`);
    button.addEventListener("click", async () => {
      const done = await copied(csv(table));
      button.focus();
      said.textContent = "";
      button.textContent = said.textContent = done ? "Copied" : "Copying is not allowed here";
      setTimeout(() => (button.textContent = "Copy as CSV"), 2000);
    });
    caption.after(button);
  }

  // --- links into what is folded ---

  // Not every browser opens what a link leads into.
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target?.closest("details:not([open])")) return;
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);

  // --- explained words ---

  // A click opens them without this script, too, in the middle of the window.
  let shown = null;
  const hide = () => {
    if (shown?.bubble.matches(":popover-open")) shown.bubble.hidePopover();
    shown = null;
  };
  const place = () => {
    const word = shown.button.getBoundingClientRect();
    const { width, height } = shown.bubble.getBoundingClientRect();
    const room = document.documentElement.clientWidth - width - 8;
    const below = word.bottom + 1;
    const fits = below + height < window.innerHeight;
    Object.assign(shown.bubble.style, {
      margin: "0",
      inset: "auto",
      left: `${Math.max(8, Math.min(word.left, room))}px`,
      top: `${fits ? below : Math.max(8, word.top - height - 1)}px`,
    });
  };
  const show = (button) => {
    const bubble = document.getElementById(button.getAttribute("popovertarget"));
    if (!bubble.showPopover) return;
    if (shown?.bubble !== bubble) hide();
    shown = { button, bubble };
    if (!bubble.matches(":popover-open")) bubble.showPopover();
    place();
  };
  const left = (event) => {
    if (event.pointerType !== "mouse" || !shown || document.activeElement === shown.button) return;
    if (![shown.button, shown.bubble].includes(event.relatedTarget)) hide();
  };
  for (const button of all(".tip")) {
    button.addEventListener("click", (event) => {
      event.preventDefault();
      show(button);
    });
    button.addEventListener("focus", () => show(button));
    button.addEventListener("blur", hide);
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show(button));
    button.addEventListener("pointerleave", left);
  }
  for (const bubble of all(".bubble")) bubble.addEventListener("pointerleave", left);
  // The browser itself scrolls a word into view that gets the focus, and its line has to come along.
  const follow = () => {
    if (!shown) return;
    const { top, bottom } = shown.button.getBoundingClientRect();
    if (bottom < 0 || top > window.innerHeight) hide();
    else place();
  };
  addEventListener("scroll", follow, { capture: true, passive: true });
  addEventListener("resize", follow);
  addEventListener("keydown", (event) => event.key === "Escape" && hide());

  // --- paper ---

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open]):not(.noprint)");
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of folded) one.open = false;
  });
})();
