  // Forms: checking, sending, and signing in again where the session has ended.

  // --- Forms ------------------------------------------------------------------------------------------------------------
  /** Forms that are under way. */
  let sending = 0;
  const fields = (form) => all("input:not([type=hidden], [data-filter]), select, textarea", form);
  /** Whether somebody has filled in something that would be lost. Where a form only asks, nothing would be. */
  const edited = (form) => form.matches("[data-submit], #edit, #request") && changed(form).length > 0;
  /** The fields that hold something else than the service knows. */
  const changed = (form) =>
    fields(form).filter(
      (field) =>
        "refilled" in form.dataset || field.checked !== field.defaultChecked || field.value !== field.defaultValue,
    );
  function fail(place, words, { kind = "bad", role = "alert" } = {}) {
    one(":scope > [data-failure]", place)?.remove();
    const notice = document.createElement("div");
    notice.className = `notice ${kind}`;
    notice.setAttribute("role", role);
    notice.dataset.failure = "";
    const text = document.createElement("p");
    text.textContent = words;
    notice.append(text);
    place.prepend(notice);
    notice.scrollIntoView({ block: "nearest" });
  }
  /** What an answer says that is no page for this: the service failed, or something in front of it answered in its place. */
  function trouble(answer) {
    const said = one("[data-dialog-body]", answer.page);
    if (!said) return `The service is not available at the moment (${answer.status}). Try again in a moment.`;
    return [`${one("h1", said).textContent}.`, ...all("p", said).map((line) => line.textContent)].join(" ");
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
    return group && tell(one("[name=permissions]", group), place, !one("input:checked", group) && place.dataset.error, false);
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
  /** What a key with the chosen permissions may do. */
  function may(form) {
    for (const row of all("[data-requires]", form)) {
      const boxes = row.dataset.requires.split(",").map((id) => document.getElementById(`permission-${id}`) ?? id);
      const missing = boxes.filter((box) => !box.checked).map((box) => box.labels?.[0].textContent ?? box);
      row.className = missing.length ? "bad" : "good";
      one("[data-reason]", row).textContent = missing.length ? `Needs ${missing.join(", ")}` : row.dataset.labels;
    }
  }
  /** How many permissions are chosen, and what they allow. */
  function count(form) {
    may(form);
    const place = one("[data-chosen]", form);
    const boxes = all("[data-permissions] [name=permissions]", form);
    if (place) place.textContent = `${boxes.filter((box) => box.checked).length} of ${boxes.length} chosen`;
    for (const button of all("[data-group]", form)) {
      const rest = inSight(button.closest("fieldset")).some((box) => !box.checked);
      one("[data-group-word]", button).textContent = rest ? "Choose" : "Remove";
    }
  }
  /** The permissions that the filter leaves. */
  const inSight = (place) => all("[name=permissions]", place).filter((box) => !box.closest("[hidden]"));
  /** Shows the permissions whose words, id or description hold the text. What is chosen stays chosen. */
  function sift(filter) {
    const text = filter.value.trim().toLowerCase();
    const group = filter.closest("[data-permissions]");
    for (const row of all(".check", group)) row.hidden = !row.textContent.toLowerCase().includes(text);
    for (const set of all("fieldset", group)) set.hidden = !one(".check:not([hidden])", set);
    one("[data-none]", group).hidden = inSight(group).length > 0;
  }
  /** Chooses all permissions of a group that are in sight, or none of them if they are all chosen; or only those that read. */
  function choose(button) {
    const form = button.form;
    if ("readOnly" in button.dataset) {
      for (const box of all("[name=permissions]", form)) box.checked = box.value.endsWith(":read");
    } else {
      const boxes = inSight(button.closest("fieldset"));
      const checked = boxes.some((box) => !box.checked);
      for (const box of boxes) box.checked = checked;
    }
    one("[name=permissions]", form).dispatchEvent(new Event("input", { bubbles: true }));
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-group], [data-read-only]");
    if (button) choose(button);
  });
  document.addEventListener("keydown", (event) => {
    // It filters already, and must not send the form.
    if (event.key === "Enter" && event.target.matches?.("[data-filter]")) event.preventDefault();
  });
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-submit], #edit");
    if (!form) return;
    if (event.target.matches("[data-filter]")) sift(event.target);
    // What is mended is wrong no longer; what is not yet filled in is not wrong yet.
    if (event.target.matches("[name=name][aria-invalid]")) checkName(form);
    const place = one("#permissions-error", form);
    if (event.target.matches("[name=permissions]") && place && !place.hidden) checkPermissions(form);
    count(form);
  });
  /** How long nothing is said of a form that is under way, beyond the words on its button. */
  const SLOW_MS = 5000;
  function wait(form) {
    const words = `The service has not answered yet. This waits for up to ${MAX_ANSWER_SECONDS} seconds, and keeps what you filled in.`;
    fail(form, words, { kind: "warn", role: "status" });
  }
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
    const waiting = setTimeout(wait, SLOW_MS, form);
    const sent = new Map(fields(form).map((field) => [field, stateOf(field)]));
    try {
      const answer = await post(form);
      one(":scope > [data-failure]", form)?.remove();
      if (answer.status === 401) return void signIn(answer.page);
      // The form stays, with what was filled in: nothing was done with it.
      if (answer.status >= 500 || answer.status === 400) return void fail(form, trouble(answer));
      if ("swap" in form.dataset) swapMain(answer, form, sent);
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
    } catch (error) {
      // The request may have arrived, and only its answer be lost.
      fail(
        form,
        `${error.message} It is not known whether it has done what you asked for. What you filled in is still here: try ` +
          "again. A form takes effect only once.",
      );
    } finally {
      clearTimeout(waiting);
      sending -= 1;
      button.replaceChildren(...words);
      button.removeAttribute("aria-disabled");
    }
  }
  const stateOf = (field) => (field.matches("[type=checkbox], [type=radio]") ? field.checked : field.value);
  function swapMain(answer, form, sent) {
    const fresh = one("main", answer.page);
    if (!fresh) return void location.assign(answer.url);
    const scroll = scrollY;
    const kept = taken(fresh);
    // What is filled in elsewhere on the page was not sent with this form, and what was filled in since was not either.
    const unsent = all("main form").filter((other) => other !== form && edited(other)).flatMap(changed);
    const later = [...sent].filter(([field, state]) => stateOf(field) !== state).map(([field]) => field);
    const focused = document.activeElement;
    const typing = focused?.matches("input, textarea") && later.includes(focused);
    const selected = typing && [focused.selectionStart, focused.selectionEnd];
    one("main").replaceWith(kept);
    for (const field of [...unsent, ...later]) put(field, document.getElementById(field.id));
    document.title = answer.page.title;
    if (answer.url !== location.href) history.replaceState(null, "", answer.url);
    prepare(kept);
    const goesOn = typing && document.getElementById(focused.id);
    if (goesOn) {
      goesOn.focus({ preventScroll: true });
      if (selected[0] !== null) goesOn.setSelectionRange(...selected);
      scrollTo(0, scroll);
    } else if (form.id === "request") {
      const invalid = one("[aria-invalid=true]", kept);
      (invalid ?? one("#result", kept)).focus({ preventScroll: !invalid });
      if (!invalid && matchMedia("(max-width: 64rem)").matches) one("#result", kept).scrollIntoView();
      else if (!invalid) scrollTo(0, scroll);
    } else {
      scrollTo(0, 0);
      (one("[aria-invalid=true]", kept) ?? kept).focus();
    }
    listen();
  }

  /** Fills in a field of a newer page as it was filled in on an older one. */
  function put(field, fresh) {
    if (!fresh) return;
    if (field.matches("[type=checkbox], [type=radio]")) fresh.checked = field.checked;
    else fresh.value = field.value;
  }
  /** Sends a form that leads to another page, if the service answers. Otherwise this page stays, with what is filled in. */
  async function leave(form, submitter) {
    if (form.hasAttribute("aria-busy")) return;
    const place = form.closest("main, .card") ?? one("main");
    one(":scope > [data-failure]", place)?.remove();
    form.setAttribute("aria-busy", "true");
    try {
      const answer = await request("GET", location.href, null, live);
      if (answer.status === 401 && !form.closest("[data-sign-in-card]")) return void signIn(answer.page);
      if (answer.status >= 500) return void fail(place, trouble(answer));
      // Who signs in has a new cookie by now, and the form's nonce belongs to it.
      renewForm(form, [answer.page]);
    } catch (error) {
      return void fail(place, `${error.message} What you filled in is still here: try again in a moment.`);
    } finally {
      form.removeAttribute("aria-busy");
    }
    if (form.matches(".who form")) drafts.clear();
    form.dataset.sure = "";
    form.requestSubmit(submitter);
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
        const button = one("button[type=submit]", form);
        if (button.getAttribute("aria-disabled") === "true") return;
        button.setAttribute("aria-disabled", "true");
        try {
          const answer = await post(form);
          const again = one("[data-sign-in-card]", answer.page);
          if (again) return void show(again);
          await renew(answer.page);
          asking.close();
        } catch (error) {
          fail(form, `${error.message} Try again.`);
        } finally {
          button.removeAttribute("aria-disabled");
        }
      });
      asking.replaceChildren(fresh);
      one("[name=token]", form).focus();
    };
    asking.addEventListener("close", () => {
      asking.remove();
      asking = null;
      listen();
      refresh();
    });
    asking.showModal();
    show(card);
  }
  /** Gives every form a nonce of the new session. */
  async function renew(page) {
    const pages = [page];
    if (dialog?.open && source) pages.push((await request("GET", source)).page);
    for (const form of all("form")) if (!form.closest("[data-sign-in-card]")) renewForm(form, pages);
  }
  /** Gives a form the nonce that it has on one of these pages. */
  function renewForm(form, pages) {
    const nonce = one("[name=nonce]", form);
    const permission = one("[name=permission]", form)?.value;
    if (!nonce) return;
    for (const from of pages) {
      const same = all("form", from).find(
        (other) =>
          other.getAttribute("action") === form.getAttribute("action") &&
          one("[name=permission]", other)?.value === permission,
      );
      const fresh = same && one("[name=nonce]", same);
      if (fresh) nonce.value = fresh.value;
    }
  }
