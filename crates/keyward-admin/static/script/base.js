  // The base of the script: requests, times, and the key that is shown once.

  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // --- Requests -------------------------------------------------------------------------------------------------
  /** How long an answer may take: the service gives up its own database after 10 s. What only looks can look again sooner. */
  const MAX_ANSWER_SECONDS = 30;
  const MAX_LOOK_SECONDS = 15;
  /** Resolves with {status, url, page}; page is a Document. Rejects, with a sentence that says why, if there is no answer. */
  const request = (method, url, body, headers = {}) =>
    new Promise((resolve, reject) => {
      const xhr = new XMLHttpRequest();
      xhr.open(method, url);
      xhr.responseType = "document";
      const seconds = headers === live ? MAX_LOOK_SECONDS : MAX_ANSWER_SECONDS;
      xhr.timeout = seconds * 1000;
      xhr.setRequestHeader("Keyward-Script", "1");
      for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
      const unreachable = () => reject(new Error("The service could not be reached."));
      xhr.onload = () =>
        xhr.response ? resolve({ status: xhr.status, url: xhr.responseURL, page: xhr.response }) : unreachable();
      xhr.onerror = unreachable;
      xhr.ontimeout = () => reject(new Error(`The service has not answered for ${seconds} seconds.`));
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
        const date = document.createElement("span");
        date.textContent = `${day.format(at)},`;
        date.className = "pair";
        utc.textContent = `(${today ? "" : iso.slice(0, 10) + " "}${iso.slice(11, 16)} UTC)`;
        time.replaceChildren(...(today ? [] : [date, " "]), `${clock.format(at)} `, utc);
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
      noteCopied({ key: "Copied. Store it safely.", env: "Line copied; it contains the key." }[source.id] ?? "Command copied; it contains the key.");
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
