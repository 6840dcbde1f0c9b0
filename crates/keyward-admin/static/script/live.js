  // What updates itself, the search, and what is clicked and sent.

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
    // What somebody has folded out stays so.
    for (const fold of all("details[id]", old)) one(`#${fold.id}`, region)?.toggleAttribute("open", fold.open);
    // A receipt that is complete is not asked for again.
    if ("receipt" in old.dataset && !("receipt" in region.dataset)) delete old.dataset.receipt;
    old.className = region.className;
    if (plain(old) === plain(region)) return;
    const next = focused && after(focused);
    renewChildren(old, region);
    prepare(old);
    if (focused) focusOn(next);
  }
  /** Attributes that only the script gives. */
  const OWN_ATTRIBUTES = ["aria-busy", "tabindex"];
  const isSame = (old, fresh) => old.nodeName === fresh.nodeName && old.id === fresh.id;
  /**
   * Makes a node like the one of a newer answer. What is in both stays the node that it was, and keeps the focus, the key or
   * button that somebody presses at that moment, what is selected, and how far it is scrolled.
   */
  function renewNode(old, fresh) {
    if (!(old instanceof Element)) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const name of old.getAttributeNames()) {
      if (!fresh.hasAttribute(name) && !OWN_ATTRIBUTES.includes(name)) old.removeAttribute(name);
    }
    for (const name of fresh.getAttributeNames()) {
      if (old.getAttribute(name) !== fresh.getAttribute(name)) old.setAttribute(name, fresh.getAttribute(name));
    }
    renewChildren(old, fresh);
    if (old.matches("input, select, textarea")) put(fresh, old);
  }
  function renewChildren(old, fresh) {
    const wanted = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
    let place = old.firstChild;
    const dropPlace = () => {
      const following = place.nextSibling;
      place.remove();
      place = following;
    };
    for (const node of [...fresh.childNodes]) {
      // An element without an id is the same only in the same place.
      const known = node.id ? [...old.children].find((child) => isSame(child, node)) : place && isSame(place, node) && place;
      if (known) {
        while (place && place !== known && !wanted.has(place.id)) dropPlace();
        if (place === known) place = known.nextSibling;
        else old.insertBefore(known, place);
        renewNode(known, node);
      } else old.insertBefore(node, place);
    }
    while (place) dropPlace();
  }
  /** What the page is about is gone: its place is taken by a message. */
  function gone(page) {
    const message = one("[data-dialog-body]", page);
    if (!message || dialog?.open || shown()) return;
    // What is filled in stays, and the service says who deleted the key when it is sent.
    const unsent = all("main form").filter(edited);
    if (unsent.some((form) => form.id === "edit") && !one("main > [data-failure]")) {
      fail(
        one("main"),
        "This key does not exist any more: it was deleted. What you filled in is still here: Save offers to create a new key with it.",
      );
    }
    if (unsent.length) return;
    const kept = taken(message);
    kept.removeAttribute("data-dialog-body");
    const main = one("main");
    const focused = main.contains(document.activeElement);
    main.replaceChildren(kept);
    document.title = page.title;
    if (focused) one("h1", kept)?.focus();
  }
  /** Brings the page up to date. Resolves with what went wrong, in words. */
  function refresh() {
    // What changed after the page was asked for is not in its answer.
    again = refreshing !== null;
    const regions = all("main [data-live][id]:not([data-src])");
    if (!regions.length) return Promise.resolve();
    refreshing ??= (async () => {
      try {
        const answer = await request("GET", location.href, null, live);
        if (answer.status === 401) return void signIn(answer.page);
        if (answer.status === 404) return void gone(answer.page);
        if (answer.status !== 200) return trouble(answer);
        one("main > [data-failure]")?.remove();
        document.title = answer.page.title;
        const { revision } = one("main", answer.page).dataset;
        if (revision) one("main").dataset.revision = revision;
        for (const region of regions) {
          const fresh = answer.page.getElementById(region.id);
          if (fresh && region.isConnected) renewRegion(region, fresh);
        }
      } catch (error) {
        // The event source comes back when the service does, and asks again.
        return `${error.message} What is shown here may be out of date.`;
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
  const OUTDATED = "The connection to the service is lost. What is shown here may be out of date.";
  /** Whether the service did not answer, and the time until the page says so: a restart takes less. */
  let lost = false;
  let outdated = 0;
  const away = document.createElement("p");
  away.className = "away";
  away.setAttribute("role", "status");
  document.body.append(away);
  /** A stream says something every 15 s at the latest. After such a silence it hangs, though nothing has closed it. */
  const MAX_SILENCE_MS = 45000;
  let silence = 0;
  function heard() {
    clearTimeout(silence);
    silence = setTimeout(() => {
      lose(0);
      events?.close();
      tryAgain();
    }, MAX_SILENCE_MS);
  }
  function lose(ms) {
    if (!lost) outdated = setTimeout(() => (away.textContent = OUTDATED), ms);
    lost = true;
    document.documentElement.dataset.away = "";
  }
  async function tryAgain() {
    await refresh();
    // Signing in begins to listen by itself.
    if (!asking) listen();
  }
  function listen() {
    const topic = one("main")?.dataset.events;
    const receipt = all("[data-receipt]").map((region) => region.dataset.receipt).at(-1) ?? "";
    const url = topic && !document.hidden ? `${base.pathname}settings/events?topic=${topic}&receipt=${receipt}` : "";
    if (url === listening && events?.readyState !== EventSource.CLOSED) return;
    events?.close();
    clearTimeout(silence);
    listening = url;
    // The service says at once if something has changed since the page was made.
    events = url ? new EventSource(`${url}&since=${one("main").dataset.revision ?? ""}`) : null;
    if (!events) return;
    heard();
    for (const kind of ["open", "alive", "changed", "receipt"]) events.addEventListener(kind, heard);
    events.addEventListener("open", () => {
      delete document.documentElement.dataset.away;
      clearTimeout(outdated);
      away.textContent = "";
      if (lost) refresh();
      lost = false;
    });
    events.addEventListener("error", ({ target }) => {
      lose(3000);
      // Where something else answered in the place of the service, the browser does not try again.
      if (target.readyState === EventSource.CLOSED) setTimeout(() => target === events && tryAgain(), 3000);
    });
    events.addEventListener("changed", () => refresh());
    events.addEventListener("receipt", () => receipts());
    events.addEventListener("ended", async () => {
      events.close();
      clearTimeout(silence);
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
    const words = await refresh();
    if (words) fail(one("main"), words);
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
        drafts.discard(source);
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
    } else if (("away" in document.documentElement.dataset || !events) && leads(target, event)) {
      event.preventDefault();
      follow(target);
    }
  });
  /** Whether a click opens another page of the service in this tab. */
  const leads = (link, event) =>
    link.matches("a[href]:not([href^='#'])") &&
    link.origin === location.origin &&
    !(event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
  /** Opens a page while the service may be away: then this page stays, and says so. */
  async function follow(link) {
    try {
      const answer = await request("GET", link.href, null, live);
      if (answer.status >= 500) return void fail(one("main"), trouble(answer));
    } catch (error) {
      return void fail(one("main"), `${error.message} Try again in a moment.`);
    }
    location.assign(link.href);
  }
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("form[data-submit], form[data-swap]")) {
      event.preventDefault();
      submit(form);
    } else if (form.matches("form[data-search]")) {
      event.preventDefault();
      clearTimeout(typing);
      search(form);
    } else if ("sure" in form.dataset) {
      delete form.dataset.sure;
    } else {
      event.preventDefault();
      leave(form, event.submitter);
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
    for (const part of all(".table-frame, .table-frame > table", root)) frames.observe(part);
  }
  // A frame that scrolls can be scrolled by keyboard; one that does not is no stop on the way. Its table may become wider in it.
  const frames = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const frame = target.closest(".table-frame");
      if (!frame) continue;
      if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
      else frame.removeAttribute("tabindex");
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== " " || !event.target.matches?.("a[role=button]")) return;
    event.preventDefault();
    event.target.click();
  });
  prepare(document);
  listen();
