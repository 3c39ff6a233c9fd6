// Refreshes the status page, and adds keys. The page works without it.
"use strict";
(() => {
  const every = 30000;
  const live = document.getElementById("live");
  const stale = document.getElementById("stale");
  const controls = document.getElementById("controls");
  let paused = false, busy = false, good = Date.now();

  // What the reader is at must survive the replacement: focus, what is typed, and scroll.
  const replace = (fresh) => {
    const old = document.getElementById("main");
    const at = document.activeElement;
    const path = [];
    for (let e = at; old.contains(e) && e !== old; e = e.parentNode) path.unshift([...e.parentNode.children].indexOf(e));
    const inside = old.contains(at) && at !== old;
    const fields = [...old.querySelectorAll("input[id], select[id]")].map((f) => [f.id, f.value]);
    const selection = inside && at.selectionStart !== undefined ? [at.selectionStart, at.selectionEnd] : null;
    const scrolled = [...old.querySelectorAll(".scroll")].map((s) => s.scrollLeft);
    const x = scrollX, y = scrollY;
    old.innerHTML = fresh.innerHTML;
    for (const [id, value] of fields) {
      const field = document.getElementById(id);
      if (field && field.value !== value) field.value = value;
    }
    [...old.querySelectorAll(".scroll")].forEach((s, i) => { s.scrollLeft = scrolled[i] || 0; });
    if (inside) {
      const again = at.id && document.getElementById(at.id) || path.reduce((e, i) => e && e.children[i], old);
      if (again) {
        again.focus({ preventScroll: true });
        if (selection && again.setSelectionRange) again.setSelectionRange(...selection);
      } else {
        old.focus({ preventScroll: true });
      }
    }
    scrollTo(x, y);
  };

  const verdict = (root) => {
    const found = root.querySelector(".verdict");
    return found ? found.textContent : "";
  };

  const refresh = async (asked) => {
    if (busy) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(20000) });
      const text = await answer.text();
      const page = new DOMParser().parseFromString(text, "text/html");
      const fresh = page.getElementById("main");
      if (!fresh) throw new Error(answer.status + " " + text.slice(0, 200));
      const before = verdict(document);
      replace(fresh);
      document.title = page.title;
      good = Date.now();
      stale.hidden = true;
      const now = verdict(document);
      if (asked || now !== before) live.textContent = "Refreshed. " + now;
    } catch (err) {
      const age = Math.round((Date.now() - good) / 1000);
      stale.textContent = "This page could not be refreshed. What it shows is " + age + " s old: " + err.message;
      stale.hidden = false;
    } finally {
      busy = false;
    }
  };

  const button = (id, text, pressed) => {
    const b = document.createElement("button");
    b.type = "button";
    b.id = id;
    b.textContent = text;
    b.addEventListener("click", pressed);
    controls.append(b);
    return b;
  };
  const pause = button("pause", "Pause refresh", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume refresh" : "Pause refresh";
    live.textContent = paused ? "Refresh is paused." : "The page refreshes every 30 seconds.";
  });
  button("refresh", "Refresh", () => refresh(true));

  const help = document.createElement("dialog");
  help.setAttribute("aria-labelledby", "help-title");
  help.innerHTML = "<h2 id=help-title>Keys</h2><ul><li><kbd>/</kbd> search</li><li><kbd>r</kbd> refresh</li><li><kbd>p</kbd> pause or resume</li>" +
    "<li><kbd>n</kbd> <kbd>b</kbd> next and previous page</li><li><kbd>?</kbd> these keys</li></ul>" +
    "<p><label><input type=checkbox id=keys checked> Use these keys</label></p><form method=dialog><button>Close</button></form>";
  document.body.append(help);
  button("help", "Keys", () => help.showModal());

  const go = (id) => {
    const link = document.getElementById(id);
    if (link) link.click();
  };
  const keys = {
    "/": () => { const q = document.getElementById("q"); if (q) q.focus(); },
    r: () => refresh(true), p: () => pause.click(), n: () => go("next"), b: () => go("prev"), "?": () => help.showModal(),
  };
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || help.open || e.target.closest("input, select, textarea, [contenteditable]")) return;
    if (!document.getElementById("keys").checked || !keys[e.key]) return;
    e.preventDefault();
    keys[e.key]();
  });
  setInterval(() => { if (!paused && !document.hidden && !help.open) refresh(false); }, every);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !paused && Date.now() - good > every) refresh(false);
  });
})();
