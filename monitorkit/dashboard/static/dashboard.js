"use strict";
// Keeps the page up to date and runs cycles. What is shown is made by the service: this script only
// asks which parts have changed, and puts them in their place.
(() => {
  const SILENCE = 45000; // milliseconds without a word, after which a connection is dead
  const byId = (id) => document.getElementById(id);
  const storage = "monitorkit.key";
  let key = null;
  let stream = null;
  let waitForKey = null;
  try {
    key = sessionStorage.getItem(storage);
  } catch {
    key = null; // storage is forbidden: the key is kept in this page alone
  }

  const headers = () => (key ? { Authorization: `Bearer ${key}` } : {});

  function request(address, options = {}) {
    return fetch(address, {
      cache: "no-store",
      ...options,
      headers: { ...options.headers, ...headers() },
    });
  }

  // -- API key

  async function refused(response) {
    if (response.status !== 401 && response.status !== 403) return false;
    let reason = "A key is needed.";
    try {
      reason = (await response.json()).detail || reason;
    } catch {
      // an answer of somebody else's, such as a proxy
    }
    byId("key-note").textContent = reason;
    byId("key-form").hidden = false;
    return true;
  }

  // Other characters cannot stand in a header, and are in no key: some come along when it is copied.
  const possible = (text) => /^[\x20-\x7e\xa0-\xff]+$/.test(text);
  if (key && !possible(key)) key = null;

  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = byId("key").value.trim();
    if (given && !possible(given)) {
      byId("key-note").textContent = "It holds a character that no key has; copy it once more.";
      byId("key").select();
      return;
    }
    key = given || null;
    try {
      sessionStorage.setItem(storage, key || "");
    } catch {
      // see above
    }
    byId("key").value = "";
    byId("key-form").hidden = true;
    if (waitForKey) waitForKey();
  });

  // -- what is shown

  function ages(root) {
    for (const time of root.querySelectorAll("time[data-ago]")) {
      if (!time.dataset.written) time.dataset.written = time.textContent;
      const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
      const text = `${time.dataset.written} (${ago(seconds)})`;
      if (time.textContent !== text) time.textContent = text;
    }
  }

  function ago(seconds) {
    const size = Math.abs(seconds);
    const units = [["s", 1, 90], ["min", 60, 5400], ["h", 3600, 129600], ["d", 86400, Infinity]];
    const [unit, length] = units.find(([, , end]) => size < end);
    const count = Math.round(size / length);
    return seconds < 0 ? `in ${count} ${unit}` : `${count} ${unit} ago`;
  }

  // One that does not come ends the connection: "live" would be a lie, and the next one asks again.
  async function part(address) {
    const response = await request(address, { signal: stream.signal });
    if (!response.ok) throw new Error(`status ${response.status}`);
    return response;
  }

  // Older cycles follow no events; behind a key, nobody could put them into the page.
  async function older() {
    for (const section of document.querySelectorAll("[data-once]")) {
      const response = await part(section.dataset.once);
      const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
      replace(section.querySelector(".part"), parsed.body.childNodes);
      delete section.dataset.once;
    }
  }

  async function update(digests) {
    await older();
    for (const section of document.querySelectorAll("[data-fragment]")) {
      const name = section.dataset.fragment;
      const digest = digests[name];
      if (!digest || section.dataset.digest === digest) continue;
      const response = await part(`dashboard/fragments/${name}`);
      const html = await response.text();
      const parsed = new DOMParser().parseFromString(html, "text/html");
      replace(section.querySelector(".part"), parsed.body.childNodes);
      section.dataset.digest = digest;
    }
  }

  // Where the reader is, what has the focus and what was scrolled sideways stays as it was.
  function replace(part, nodes) {
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && [...part.querySelectorAll("a, [tabindex]")].indexOf(focused);
    const address = focused && focused.getAttribute("href");
    const sideways = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    const before = part.offsetHeight;
    const above = part.getBoundingClientRect().bottom < 0;
    part.replaceChildren(...nodes);
    ages(part);
    part.querySelectorAll(".scroll").forEach((box, i) => { box.scrollLeft = sideways[i] || 0; });
    if (above) window.scrollBy(0, part.offsetHeight - before);
    if (focused) {
      const candidates = [...part.querySelectorAll("a, [tabindex]")];
      const again = candidates.find((each) => address && each.getAttribute("href") === address);
      const target = again || candidates[Math.min(place, candidates.length - 1)];
      if (target) target.focus({ preventScroll: true });
    }
  }

  // -- events

  function show(state, text) {
    byId("live").hidden = false;
    byId("live").className = `live ${state}`;
    byId("live").textContent = text;
  }

  function unlessSilent(answer) {
    const quiet = setTimeout(() => stream.abort(), SILENCE);
    return answer.finally(() => clearTimeout(quiet));
  }

  async function listen() {
    stream = new AbortController();
    const response = await request("dashboard/events", { signal: stream.signal });
    if (await refused(response)) {
      show("", "waiting for a key");
      await new Promise((resolve) => { waitForKey = resolve; });
      waitForKey = null;
      return;
    }
    if (!response.ok) throw new Error(`status ${response.status}`);
    byId("run").hidden = false;
    show("on", "live");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (;;) {
      const { value, done } = await unlessSilent(reader.read());
      if (done) return;
      held += value;
      const messages = held.split("\n\n");
      held = messages.pop();
      const data = messages
        .flatMap((message) => message.split("\n"))
        .filter((line) => line.startsWith("data: "))
        .pop(); // older ones are out of date
      if (data) await unlessSilent(update(JSON.parse(data.slice(6))));
    }
  }

  async function keepListening() {
    let pause = 500;
    for (;;) {
      if (document.hidden) {
        show("", "paused");
        await new Promise((resolve) => {
          document.addEventListener("visibilitychange", resolve, { once: true });
        });
        continue;
      }
      const started = Date.now();
      try {
        await listen();
      } catch {
        // the service is gone or busy, or the tab was hidden: tried again below
      }
      if (Date.now() - started > 10000) pause = 500;
      if (!document.hidden) {
        show("", "not connected");
        await new Promise((resolve) => setTimeout(resolve, pause));
        pause = Math.min(pause * 2, 15000);
      }
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden && stream) stream.abort();
  });
  window.addEventListener("pagehide", () => stream && stream.abort());

  // -- a cycle now

  let running = false;

  function tell(text, bad = false) {
    byId("progress").hidden = false;
    byId("progress").className = bad ? "progress bad" : "progress";
    byId("progress").textContent = text;
  }

  async function run() {
    if (running) return;
    running = true;
    byId("run").setAttribute("aria-disabled", "true");
    const started = Date.now();
    const seconds = () => ((Date.now() - started) / 1000).toFixed(1);
    tell("A cycle runs…");
    const clock = setInterval(() => {
      byId("run").textContent = `Running ${Math.round((Date.now() - started) / 1000)} s`;
    }, 1000);
    try {
      const response = await request("monitoring/run", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: "{}",
      });
      if (await refused(response)) {
        tell("The cycle was not run: it needs a key.", true);
      } else {
        const answer = await response.json();
        if (!response.ok) tell(`${answer.title}: ${answer.detail}`, true);
        else if (answer.status === "skipped") tell(`Skipped: ${answer.reason}.`);
        else tell(`Completed in ${seconds()} s: ${outcome(answer.result)}.`);
      }
    } catch (error) {
      tell(`No answer from the service: ${error.message}`, true);
    } finally {
      clearInterval(clock);
      running = false;
      byId("run").textContent = "Run a cycle now";
      byId("run").removeAttribute("aria-disabled");
    }
  }

  function outcome(result) {
    const drifted = result.drifted_features;
    if (!drifted) return "not judged";
    if (!drifted.length) return "no feature drifted";
    return `${drifted.length} of ${result.num_features_evaluated} features drifted`;
  }

  byId("run").addEventListener("click", run);

  ages(document);
  setInterval(() => ages(document), 20000);
  keepListening();
})();
