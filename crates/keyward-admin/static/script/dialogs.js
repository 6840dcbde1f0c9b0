  // Dialogs: opening, closing, and where the focus goes.

  // --- Dialogs --------------------------------------------------------------------------------------------------------
  let dialog = null;
  let body = null;
  let announcer = null;
  let source = "";
  /** Where the focus may go after the dialog: ids, best first. What opened it may be gone by then. */
  let returns = [];
  /**
   * What was filled in when a form was closed by Escape or by a click beside it, or when its page was left. It comes back when
   * the form is opened again in this tab, until it is sent or discarded. Only these fields are kept, none of which is secret.
   */
  const DRAFT_FIELDS = ["name", "permissions", "expires_in"];
  const draftOf = (address) => `keyward-draft:${new URL(address, location.href).pathname}`;
  const drafts = {
    keep(address, form) {
      const filled = [...new FormData(form)].filter(([name]) => DRAFT_FIELDS.includes(name));
      try {
        if (filled.length) sessionStorage.setItem(draftOf(address), new URLSearchParams(filled));
      } catch {
        // The browser keeps nothing: then nothing comes back.
      }
    },
    take(address) {
      try {
        const kept = sessionStorage.getItem(draftOf(address));
        drafts.discard(address);
        return kept && new URLSearchParams(kept);
      } catch {
        return null;
      }
    },
    discard(address) {
      try {
        sessionStorage.removeItem(draftOf(address));
      } catch {
        // As above.
      }
    },
    /** Discards all: whoever signs in next in this tab may be somebody else. */
    clear() {
      try {
        for (const name of Object.keys(sessionStorage)) if (name.startsWith("keyward-draft:")) sessionStorage.removeItem(name);
      } catch {
        // As above.
      }
    },
  };
  addEventListener("pagehide", () => {
    const form = dialog?.open && one("form", dialog);
    if (form && edited(form)) drafts.keep(source, form);
  });
  function makeDialog() {
    dialog = document.createElement("dialog");
    dialog.setAttribute("aria-labelledby", "dialog-title");
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      close({ keep: true });
    });
    // Chromium closes on a second Escape whatever `cancel` says; this comes before it.
    dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      close({ keep: true });
    });
    let pressed = false;
    dialog.addEventListener("pointerdown", (event) => (pressed = event.target === dialog));
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog && pressed) close({ keep: true });
    });
    body = document.createElement("div");
    // Assistive technology reads a live region only if it was there before its text.
    announcer = document.createElement("p");
    announcer.className = "hidden";
    announcer.setAttribute("role", "status");
    announcer.dataset.announcer = "";
    dialog.append(body, announcer);
    document.body.append(dialog);
  }
  function fill(content) {
    body.replaceChildren(content);
    prepare(dialog);
    dialog.scrollTop = 0;
    announcer.textContent = "";
    const receipt = one(".receipt", content);
    if (receipt) setTimeout(() => (announcer.textContent = receipt.textContent.replace(/\s+/g, " ").trim()), 100);
  }
  /** What is opened last opens: the answer for what was asked for before it comes too late. */
  let opening = null;
  async function open(link) {
    if (link.hasAttribute("aria-busy")) return;
    link.setAttribute("aria-busy", "true");
    opening = link;
    let answer;
    try {
      answer = await request("GET", link.href, null, live);
    } catch (error) {
      if (opening === link) fail(one("main"), `${error.message} Nothing was done: try again in a moment.`);
      return;
    } finally {
      link.removeAttribute("aria-busy");
    }
    if (opening !== link) return;
    one("main > [data-failure]")?.remove();
    const content = one("[data-dialog-body]", answer.page);
    if (answer.status === 401) return void signIn(answer.page);
    if (answer.status >= 500) return void fail(one("main"), trouble(answer));
    if (!content) return void location.assign(link.href);
    returns = after(link);
    source = link.href;
    if (!dialog) makeDialog();
    fill(taken(content));
    restore(drafts.take(source));
    if (!dialog.open) dialog.showModal();
    (one("input[type=text]", dialog) ?? one("[data-close]", dialog) ?? dialog).focus();
  }
  /** Puts back what was filled in before. */
  function restore(draft) {
    const form = one("form", dialog);
    if (!draft || !form || "refilled" in form.dataset) return;
    for (const field of fields(form)) {
      if (field.matches("[type=checkbox], [type=radio]")) field.checked = draft.getAll(field.name).includes(field.value);
      else field.value = draft.get(field.name) ?? "";
    }
    count(form);
  }
  function close({ force = false, keep = false } = {}) {
    if (!dialog?.open || (!force && (one("[aria-disabled=true]", dialog) || !mayClose(dialog)))) return;
    const form = one("form", dialog);
    if (keep && form && edited(form)) drafts.keep(source, form);
    const leave = one("[data-leave]", dialog)?.href;
    forget();
    dialog.close();
    body.replaceChildren();
    announcer.textContent = "";
    // The page of a deleted key has nothing more to show.
    if (leave && new URL(leave).pathname !== location.pathname) return void location.assign(leave);
    focusOn(returns);
    refresh().finally(() => {
      // By now somebody may have gone on to something else.
      if (!document.activeElement || document.activeElement === document.body) focusOn(returns);
    });
  }
  /** The ids of an element and of what follows it: the names of the next rows, then what makes a new one. */
  function after(element) {
    const ids = [element.id];
    for (let row = element.closest("tr")?.nextElementSibling; row; row = row.nextElementSibling) {
      ids.push((one("a.name", row) ?? one("a[id], button[id]", row))?.id);
    }
    return [...ids, "create"].filter(Boolean);
  }
  function focusOn(ids) {
    const found = ids.map((id) => document.getElementById(id)).find(Boolean) ?? one("main");
    if (!found.contains(document.activeElement) || found === one("main")) found.focus();
  }
