// The script of all pages: dialogs, copying, local times, live regions. Every page works without it, with links and forms.
//
// It keeps nothing: no storage, no cookie. Markup comes parsed from this service (XMLHttpRequest gives a document), so no
// string becomes markup or code here, which the Content-Security-Policy enforces as well.
"use strict";
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // --- Requests -------------------------------------------------------------------------------------------------
  /** Resolves with {status, url, page}; page is a Document. Rejects where the service cannot be reached. */
  const request = (method, url, body, headers = {}) =>
    new Promise((resolve, reject) => {
      const xhr = new XMLHttpRequest();
      xhr.open(method, url);
      xhr.responseType = "document";
      xhr.timeout = 30000;
      xhr.setRequestHeader("Keyward-Script", "1");
      for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
      xhr.onload = () =>
        xhr.response ? resolve({ status: xhr.status, url: xhr.responseURL, page: xhr.response }) : reject(new Error());
      xhr.onerror = xhr.ontimeout = () => reject(new Error());
      xhr.send(body);
    });
  /** Marks a request that only looks: notices stay for the next page, and it does not keep the session alive. */
  const live = { "Keyward-Live": "1" };
  const post = (form) => request("POST", form.action, new URLSearchParams(new FormData(form)));
  const taken = (node) => localTimes(document.importNode(node, true));

  // --- Times: local, with UTC beside them -------------------------------------------------------------------------
  const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
  const minute = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
  const second = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  function localTimes(root) {
    for (const time of all("time[datetime]", root)) {
      const at = new Date(time.dateTime);
      if (time.dataset.local || Number.isNaN(at.getTime())) continue;
      time.dataset.local = "1";
      const iso = at.toISOString();
      const clock = "seconds" in time.dataset ? second : minute;
      const utc = document.createElement("span");
      utc.className = "utc";
      if ("relative" in time.dataset) {
        time.title = `${day.format(at)}, ${second.format(at)} (${iso.slice(0, 19).replace("T", " ")} UTC)`;
      } else if (time.classList.contains("inline")) {
        const today = at.toDateString() === new Date().toDateString();
        const local = today ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
        utc.textContent = ` (${today ? "" : iso.slice(0, 10) + " "}${iso.slice(11, 16)} UTC)`;
        time.replaceChildren(local, utc);
      } else {
        // The day in UTC is named where it is another one.
        const local = [at.getFullYear(), at.getMonth(), at.getDate()].join();
        const sameDay = local === [at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate()].join();
        const there = iso.slice(sameDay ? 11 : 0, "seconds" in time.dataset ? 19 : 16).replace("T", " ");
        utc.textContent = `${clock.format(at)} (${there} UTC)`;
        time.replaceChildren(`${day.format(at)} `, utc);
      }
    }
    return root;
  }

  // --- The key is shown once ----------------------------------------------------------------------------------------
  const shown = () => one("[data-key-shown]");
  const unsaved = () => shown() && !shown().dataset.copied;
  function forget() {
    for (const secret of all("[data-secret]")) secret.textContent = "";
    for (const holder of all("[data-key-shown]")) {
      if (holder.closest("dialog")) holder.remove();
      else holder.removeAttribute("data-key-shown");
    }
  }
  const noteCopied = (words) => {
    const holder = shown();
    if (!holder) return;
    holder.dataset.copied = "1";
    const place = one("[data-copied]", holder);
    if (place) place.textContent = words;
    const ask = one("[data-ask]", holder);
    if (ask) ask.hidden = true;
  };
  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    const selection = getSelection();
    selection.selectAllChildren(source);
    let done = false;
    try {
      await navigator.clipboard.writeText(source.textContent);
      done = true;
    } catch {
      // Only secure origins have a clipboard; elsewhere the old way may work, and if not the text stays selected.
      done = document.execCommand("copy");
    }
    if (done) {
      noteCopied(source.id === "key" ? "Copied. Store it safely." : "Command copied; it contains the key.");
      for (const other of all("[data-copy]")) other.classList.toggle("done", other === button);
    } else {
      source.focus();
      const place = one("[data-copied]");
      if (place) place.textContent = "Selected: press Ctrl+C or ⌘C to copy it.";
    }
  }
  document.addEventListener("copy", () => {
    const node = getSelection()?.anchorNode;
    const element = node instanceof Element ? node : node?.parentElement;
    if (element?.closest("[data-secret]") || (element && one("[data-secret]", element))) noteCopied("Copied. Store it safely.");
  });
  addEventListener("beforeunload", (event) => {
    if (unsaved() || sending || all("form").some(edited)) event.preventDefault();
  });
  // A page that the browser keeps (for the back button) is kept without the key.
  addEventListener("pagehide", forget);
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });

  /** Closes what holds the key, unless it was not copied: then it asks first. */
  function mayClose(root) {
    const ask = one("[data-ask]", root);
    if (!ask || !unsaved()) return true;
    if (ask.hidden) {
      ask.hidden = false;
      one("[data-ask-stay]", ask).focus();
      ask.scrollIntoView({ block: "nearest" });
    }
    return false;
  }

  // --- Dialogs --------------------------------------------------------------------------------------------------------
  let dialog = null;
  let body = null;
  let announcer = null;
  let source = "";
  /** Where the focus may go after the dialog: ids, best first. What opened it may be gone by then. */
  let returns = [];
  /** What was filled in when a form was closed by Escape or by a click beside it, by the form's address. */
  const drafts = new Map();
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
  async function open(link) {
    if (link.hasAttribute("aria-busy")) return;
    link.setAttribute("aria-busy", "true");
    let answer;
    try {
      answer = await request("GET", link.href, null, live);
    } catch {
      return void fail(one("main"), "The service could not be reached. Nothing was done: try again in a moment.");
    } finally {
      link.removeAttribute("aria-busy");
    }
    one("main > [data-failure]")?.remove();
    const content = one("[data-dialog-body]", answer.page);
    if (answer.status === 401) return void signIn(answer.page);
    if (!content) return void location.assign(link.href);
    returns = after(link);
    source = link.href;
    if (!dialog) makeDialog();
    fill(taken(content));
    restore(drafts.get(source));
    if (!dialog.open) dialog.showModal();
    (one("input[type=text]", dialog) ?? one("[data-close]", dialog) ?? dialog).focus();
  }
  /** Puts back what was filled in before. */
  function restore(draft) {
    const form = one("form", dialog);
    if (!draft || !form) return;
    drafts.delete(source);
    for (const field of fields(form)) {
      if (field.matches("[type=checkbox], [type=radio]")) field.checked = draft.getAll(field.name).includes(field.value);
      else field.value = draft.get(field.name) ?? "";
    }
    count(form);
  }
  function close({ force = false, keep = false } = {}) {
    if (!dialog?.open || (!force && (one("[aria-disabled=true]", dialog) || !mayClose(dialog)))) return;
    const form = one("form", dialog);
    if (keep && form && edited(form)) drafts.set(source, new FormData(form));
    const leave = one("[data-leave]", dialog)?.href;
    forget();
    dialog.close();
    body.replaceChildren();
    announcer.textContent = "";
    // The page of a deleted key has nothing more to show.
    if (leave && new URL(leave).pathname !== location.pathname) return void location.assign(leave);
    const back = () => focusOn(returns);
    back();
    refresh().finally(back);
  }
  /** The ids of an element and of what follows it: the names of the next rows, then what makes a new one. */
  function after(element) {
    const ids = [element.id];
    for (let row = element.closest("tr")?.nextElementSibling; row; row = row.nextElementSibling) {
      ids.push(one("a.name", row)?.id);
    }
    return [...ids, "create"].filter(Boolean);
  }
  function focusOn(ids) {
    const found = ids.map((id) => document.getElementById(id)).find(Boolean) ?? one("main");
    if (!found.contains(document.activeElement) || found === one("main")) found.focus();
  }

  // --- Forms ------------------------------------------------------------------------------------------------------------
  /** Forms that are under way. */
  let sending = 0;
  const fields = (form) => all("input:not([type=hidden]), select, textarea", form);
  /** Whether somebody has filled in something that would be lost. Where a form only asks, nothing would be. */
  const edited = (form) =>
    form.matches("[data-submit], #edit") &&
    ("refilled" in form.dataset ||
      fields(form).some((field) => field.checked !== field.defaultChecked || field.value !== field.defaultValue));
  function fail(place, words) {
    one(":scope > [data-failure]", place)?.remove();
    const notice = document.createElement("div");
    notice.className = "notice bad";
    notice.setAttribute("role", "alert");
    notice.dataset.failure = "";
    const text = document.createElement("p");
    text.textContent = words;
    notice.append(text);
    place.prepend(notice);
    notice.scrollIntoView({ block: "nearest" });
  }
  /** The checks that the service makes too, so that a mistake shows beside its field at once. */
  function check(form) {
    const wrong = [checkName(form), checkPermissions(form)].filter(Boolean);
    wrong[0]?.focus();
    return wrong.length === 0;
  }
  function checkName(form) {
    const name = one("input[name=name]", form);
    return name && tell(name, one("#name-error", form), name.value.trim() === "" && name.dataset.error);
  }
  function checkPermissions(form) {
    const group = one("[data-permissions]", form);
    const place = one("#permissions-error", form);
    return group && tell(one("input", group), place, !one("input:checked", group) && place.dataset.error, false);
  }
  /** Shows or hides what is wrong with a field. Gives the field if something is. */
  function tell(input, place, words, mark = true) {
    place.hidden = !words;
    place.textContent = words || "";
    if (mark) {
      input.setAttribute("aria-describedby", `${words ? place.id + " " : ""}${input.id}-help`);
      words ? input.setAttribute("aria-invalid", "true") : input.removeAttribute("aria-invalid");
    } else {
      const group = input.closest("[role=group]");
      group.setAttribute("aria-describedby", `${words ? place.id + " " : ""}permissions-help`);
    }
    return words ? input : null;
  }
  /** How many permissions are chosen. */
  function count(form) {
    const place = one("[data-chosen]", form);
    const boxes = all("[data-permissions] input", form);
    if (place) place.textContent = `${boxes.filter((box) => box.checked).length} of ${boxes.length} chosen`;
  }
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-submit], #edit");
    if (!form) return;
    // What is mended is wrong no longer; what is not yet filled in is not wrong yet.
    if (event.target.matches("[name=name][aria-invalid]")) checkName(form);
    const place = one("#permissions-error", form);
    if (event.target.matches("[name=permissions]") && place && !place.hidden) checkPermissions(form);
    count(form);
  });
  async function submit(form) {
    const button = one("button[type=submit]", form);
    if (button.getAttribute("aria-disabled") === "true") return;
    if (one("input[name=name]", form)) {
      const name = one("input[name=name]", form);
      name.value = name.value.trim();
    }
    if (!check(form)) return;
    one(":scope > [data-failure]", form)?.remove();
    const words = [...button.childNodes];
    button.setAttribute("aria-disabled", "true");
    if (button.dataset.busy) button.replaceChildren(button.dataset.busy);
    sending += 1;
    try {
      const answer = await post(form);
      if (answer.status === 401) return void signIn(answer.page);
      if ("swap" in form.dataset) swapMain(answer, form);
      else {
        const content = one("[data-dialog-body]", answer.page);
        if (!content) return void location.assign(answer.url);
        const holder = form.closest("[data-dialog-body]");
        const inDialog = form.closest("dialog");
        const fresh = taken(content);
        if (inDialog) fill(fresh);
        else {
          holder.replaceWith(fresh);
          prepare(fresh);
        }
        (one("[aria-invalid=true]", fresh) ?? one("h1", fresh)).focus();
        listen();
      }
    } catch {
      fail(form, "The service could not be reached. What you filled in is still here: try again. A form takes effect only once.");
    } finally {
      sending -= 1;
      button.replaceChildren(...words);
      button.removeAttribute("aria-disabled");
    }
  }
  function swapMain(answer, form) {
    const fresh = one("main", answer.page);
    if (!fresh) return void location.assign(answer.url);
    const scroll = scrollY;
    const kept = taken(fresh);
    one("main").replaceWith(kept);
    document.title = answer.page.title;
    if (answer.url !== location.href) history.replaceState(null, "", answer.url);
    prepare(kept);
    if (form.action.endsWith("/explain")) {
      const invalid = one("[aria-invalid=true]", kept);
      (invalid ?? one("#result", kept)).focus({ preventScroll: !invalid });
      if (!invalid && innerWidth < 1024) one("#result", kept).scrollIntoView();
      else if (!invalid) scrollTo(0, scroll);
    } else {
      scrollTo(0, 0);
      (one("[aria-invalid=true]", kept) ?? kept).focus();
    }
    listen();
  }

  // --- The session has ended: sign in again, and nothing that was filled in is lost ---------------------------------------
  let asking = null;
  function signIn(page) {
    if (asking) return;
    const card = page && one("[data-sign-in-card]", page);
    if (!card) return void location.reload();
    asking = document.createElement("dialog");
    asking.setAttribute("aria-labelledby", "sign-in-title");
    document.body.append(asking);
    const show = (from) => {
      const fresh = taken(from);
      const heading = one("h1", fresh);
      heading.id = "sign-in-title";
      heading.textContent = "Your session has ended";
      const form = one("form", fresh);
      one("[name=next]", form).value = location.pathname + location.search;
      form.addEventListener("submit", async (event) => {
        event.preventDefault();
        event.stopPropagation();
        try {
          const answer = await post(form);
          const again = one("[data-sign-in-card]", answer.page);
          if (again) return void show(again);
          await renew(answer.page);
          asking.close();
        } catch {
          fail(form, "The service could not be reached. Try again.");
        }
      });
      asking.replaceChildren(fresh);
      one("[name=token]", form).focus();
    };
    asking.addEventListener("close", () => {
      asking.remove();
      asking = null;
      listen();
    });
    asking.showModal();
    show(card);
  }
  /** Gives every form a nonce of the new session. */
  async function renew(page) {
    const pages = [page];
    if (dialog?.open && source) pages.push((await request("GET", source)).page);
    for (const form of all("form")) {
      const nonce = one("[name=nonce]", form);
      const action = form.getAttribute("action");
      if (!nonce || form.closest("[data-sign-in-card]")) continue;
      for (const from of pages) {
        const same = all("form", from).find(
          (other) =>
            other.getAttribute("action") === action &&
            one("[name=permission]", other)?.value === one("[name=permission]", form)?.value,
        );
        const fresh = same && one("[name=nonce]", same);
        if (fresh) nonce.value = fresh.value;
      }
    }
  }

  // --- Live regions --------------------------------------------------------------------------------------------------------
  let events = null;
  let listening = "";
  let refreshing = null;
  let again = false;
  /** A region's markup, but for nonces, which are new in each answer. */
  const plain = (region) => region.innerHTML.replace(/name="nonce" value="[^"]*"/g, "");
  function renewRegion(old, fresh) {
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    if (focused?.matches("input, select, textarea")) return;
    // What somebody fills in, and what is under way, stays.
    if (all("form", old).some((form) => edited(form) || one("[aria-disabled=true]", form))) return;
    const region = taken(fresh);
    prepare(region);
    // A receipt that is complete is not asked for again.
    if ("receipt" in old.dataset && !("receipt" in region.dataset)) delete old.dataset.receipt;
    old.className = region.className;
    if (plain(old) === plain(region)) return;
    const next = focused && after(focused);
    old.replaceChildren(...region.childNodes);
    if (focused) focusOn(next);
  }
  /** What the page is about is gone: its place is taken by a message. */
  function gone(page) {
    const message = one("[data-dialog-body]", page);
    if (!message || dialog?.open) return;
    const kept = taken(message);
    kept.removeAttribute("data-dialog-body");
    one("main").replaceChildren(kept);
    document.title = page.title;
    one("h1", kept)?.focus();
  }
  function refresh() {
    // What changed after the page was asked for is not in its answer.
    again = refreshing !== null;
    refreshing ??= (async () => {
      try {
        const regions = all("main [data-live][id]:not([data-src])");
        if (!regions.length) return;
        const answer = await request("GET", location.href, null, live);
        if (answer.status === 401) return void signIn(answer.page);
        if (answer.status === 404) return void gone(answer.page);
        if (answer.status !== 200) return;
        document.title = answer.page.title;
        for (const region of regions) {
          const fresh = answer.page.getElementById(region.id);
          if (fresh && region.isConnected) renewRegion(region, fresh);
        }
      } catch {
        // The event source comes back when the service does, and asks again.
      } finally {
        refreshing = null;
        if (again) refresh();
      }
    })();
    return refreshing;
  }
  async function receipts() {
    for (const region of all("[data-receipt][data-src]")) {
      try {
        const answer = await request("GET", region.dataset.src, null, live);
        const fresh = answer.page.getElementById(region.id);
        if (fresh) renewRegion(region, fresh);
      } catch {
        // As above.
      }
    }
  }
  function listen() {
    const topic = one("main")?.dataset.events;
    const receipt = all("[data-receipt]").map((region) => region.dataset.receipt).at(-1) ?? "";
    const url = topic && !document.hidden ? `/settings/events?topic=${topic}&receipt=${receipt}` : "";
    if (url === listening && events?.readyState !== EventSource.CLOSED) return;
    events?.close();
    listening = url;
    events = url ? new EventSource(url) : null;
    if (!events) return;
    let lost = false;
    events.addEventListener("open", () => {
      if (lost) refresh();
      lost = false;
    });
    events.addEventListener("error", () => (lost = true));
    events.addEventListener("changed", () => refresh());
    events.addEventListener("receipt", () => receipts());
    events.addEventListener("ended", async () => {
      events.close();
      try {
        const answer = await request("GET", location.href, null, live);
        if (answer.status === 401) signIn(answer.page);
      } catch {
        // Nothing is lost: the next thing that is tried asks for it.
      }
    });
  }
  document.addEventListener("visibilitychange", () => {
    listen();
    if (!document.hidden) refresh();
  });

  // --- Search as one types -----------------------------------------------------------------------------------------------------
  let typing = 0;
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-search]");
    if (!form) return;
    clearTimeout(typing);
    typing = setTimeout(() => search(form), 200);
  });
  async function search(form) {
    const url = new URL(form.action);
    for (const [name, value] of new FormData(form)) if (value.trim()) url.searchParams.set(name, value);
    history.replaceState(null, "", url);
    await refreshing;
    await refresh();
  }

  // --- What is clicked and sent ------------------------------------------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const target = event.target.closest("a, button");
    if (!target || event.defaultPrevented) return;
    if (target.matches("a[data-open]")) {
      if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      open(target);
    } else if (target.matches("[data-close]")) {
      if (target.closest("dialog")) {
        event.preventDefault();
        drafts.delete(source);
        close();
      } else if (!mayClose(document)) event.preventDefault();
    } else if (target.matches("[data-copy]")) copy(target);
    else if (target.matches("[data-ask-stay]")) {
      target.closest("[data-ask]").hidden = true;
      one("[data-copy=key]").focus();
    } else if (target.matches("[data-ask-leave]")) {
      const holder = shown();
      if (holder) holder.dataset.copied = "1";
      if (target.closest("dialog")) close({ force: true });
      else location.assign(one("[data-close]").href);
    }
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("form[data-submit], form[data-swap]")) {
      event.preventDefault();
      submit(form);
    } else if (form.matches("form[data-search]")) {
      event.preventDefault();
      clearTimeout(typing);
      search(form);
    }
  });

  function prepare(root) {
    localTimes(root);
    for (const element of all(".needs-script", root)) element.hidden = false;
    // With the script these open a dialog in place: that is a button's work, and a link's without it.
    for (const link of all("a[data-open]", root)) {
      link.setAttribute("role", "button");
      link.setAttribute("aria-haspopup", "dialog");
    }
    for (const link of all("dialog a[data-close]")) link.setAttribute("role", "button");
    for (const form of all("form[data-submit], #edit", root)) count(form);
    for (const frame of all(".table-frame", root)) frames.observe(frame);
  }
  // A frame that scrolls can be scrolled by keyboard; one that does not is no stop on the way.
  const frames = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== " " || !event.target.matches?.("a[role=button]")) return;
    event.preventDefault();
    event.target.click();
  });
  prepare(document);
  listen();
})();
