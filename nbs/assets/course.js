/* What a page does beside its text: a link past the navigation; a link into a fold opens it, a print opens all, and the questions that a reader has opened are remembered in this browser; nothing is sent. */
(() => {
  "use strict";
  const openTo = id => {
    let at = id && document.getElementById(decodeURIComponent(id));
    if (!at) return;
    for (let fold = at.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    at.scrollIntoView();
  };
  const go = () => openTo(location.hash.slice(1));
  addEventListener("hashchange", go);
  addEventListener("beforeprint", () => document.querySelectorAll("main details").forEach(d => { d.open = true; }));
  document.addEventListener("click", event => {
    const link = event.target.closest && event.target.closest('a[href*="#"]');
    if (link && link.pathname === location.pathname && link.hash === location.hash) openTo(link.hash.slice(1));
  });
  const store = {
    key: "vae_course.opened",
    read() { try { return JSON.parse(localStorage.getItem(this.key)) || {}; } catch { return {}; } },
    write(values) { try { localStorage.setItem(this.key, JSON.stringify(values)); } catch { /* private windows may refuse */ } }
  };
  const remember = () => {
    const page = location.pathname.split("/").pop() || "index.html", opened = store.read();
    const quiz = document.getElementById("check-yourself");
    if (!quiz) return;
    for (const fold of quiz.querySelectorAll("details")) {
      const name = `${page}#${fold.querySelector("summary").textContent.trim().slice(0, 80)}`;
      if (opened[name]) fold.classList.add("visited-fold");
      fold.addEventListener("toggle", () => {
        if (!fold.open) return;
        const now = store.read();
        now[name] = true;
        store.write(now);
        fold.classList.add("visited-fold");
      });
    }
  };
  const skip = () => {                      // past the navigation, with the keyboard
    const main = document.querySelector("main");
    if (!main) return;
    main.tabIndex = -1;
    const link = document.createElement("a");
    Object.assign(link, {className: "skip-link", href: `#${main.id}`, textContent: "Skip to the text"});
    link.addEventListener("click", event => { event.preventDefault(); main.focus(); });
    document.body.prepend(link);
  };
  const start = () => { skip(); remember(); go(); };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start); else start();
})();
