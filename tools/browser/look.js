// look.js opens pages in headless Chromium as readers see them: on a desk and
// on a phone, light and dark. It fails where a page logs an error, asks for
// anything from elsewhere, is wider than the screen, or writes one text over
// another. It saves a picture of each.
//
//	node tools/browser/look.js OUT PAGE.html...
//
// It talks to the browser over a pipe (the DevTools protocol) and needs
// nothing but node and Chromium ($CHROMIUM, or chromium in the path).
"use strict";
const { spawn } = require("node:child_process");
const { mkdirSync, writeFileSync, mkdtempSync, rmSync } = require("node:fs");
const { basename, dirname, join, resolve } = require("node:path");
const { pathToFileURL } = require("node:url");
const { tmpdir } = require("node:os");

const views = [
  { name: "desk", width: 1280, height: 900, scale: 1, mobile: false },
  { name: "phone", width: 390, height: 844, scale: 2, mobile: true },
];

// Browser is a running Chromium; send asks it, on hears from it.
class Browser {
  constructor() {
    this.profile = mkdtempSync(join(tmpdir(), "smelt-look-"));
    this.process = spawn(process.env.CHROMIUM || "chromium", [
      "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars",
      "--no-first-run", "--disable-background-networking", "--disable-component-update", `--user-data-dir=${this.profile}`,
    ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.process.on("error", (e) => { console.error(`look: cannot start Chromium: ${e.message}; install it or set CHROMIUM`); process.exit(1); });
    this.waiting = new Map();
    this.listeners = [];
    this.next = 0;
    let rest = Buffer.alloc(0);
    this.process.stdio[4].on("data", (data) => {
      rest = Buffer.concat([rest, data]);
      for (let end; (end = rest.indexOf(0)) >= 0; rest = rest.subarray(end + 1)) this.receive(JSON.parse(rest.subarray(0, end)));
    });
  }

  receive(message) {
    const asked = this.waiting.get(message.id);
    if (!asked) return this.listeners.forEach((f) => f(message));
    this.waiting.delete(message.id);
    if (message.error) asked.reject(new Error(`${asked.method}: ${message.error.message}`));
    else asked.resolve(message.result);
  }

  send(method, params = {}, sessionId = undefined) {
    const id = ++this.next;
    this.process.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + "\0");
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject, method }));
  }

  async close() {
    const gone = new Promise((done) => this.process.once("exit", done));
    this.send("Browser.close").catch(() => {});
    await gone;
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

// faults is run in the page: what a reader would see wrong.
function faults() {
  const out = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth + 1) out.push(`the page is ${root.scrollWidth} pixels wide on a screen of ${root.clientWidth}`);
  for (const svg of document.querySelectorAll("svg")) {
    if (!svg.getClientRects().length) continue;
    const frame = svg.getBoundingClientRect();
    const where = (svg.closest("figure") || {}).id || "a drawing";
    const texts = [...svg.querySelectorAll("text")].map((t) => ({ t: t.textContent, r: t.getBoundingClientRect() })).filter((x) => x.r.width > 0);
    for (const a of texts) {
      if (a.r.right > frame.right + 6 || a.r.left < frame.left - 6) out.push(`${where}: "${a.t}" leaves the drawing`);
    }
    texts.sort((a, b) => a.r.top - b.r.top);
    for (let i = 0; i < texts.length; i++) {
      for (let j = i + 1; j < texts.length && texts[j].r.top < texts[i].r.bottom; j++) {
        const a = texts[i].r, b = texts[j].r;
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 2 && down > 0.4 * Math.min(a.height, b.height)) out.push(`${where}: "${texts[i].t}" and "${texts[j].t}" overlap`);
      }
    }
  }
  for (const img of document.images) if (!img.complete || !img.naturalWidth) out.push(`image "${img.alt}" is broken`);
  return out.slice(0, 12);
}

// look opens one page in one view and returns what is wrong with it.
async function look(browser, url, view, scheme, picture) {
  const wrong = [];
  const { browserContextId } = await browser.send("Target.createBrowserContext");
  const { targetId } = await browser.send("Target.createTarget", { url: "about:blank", browserContextId });
  const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: true });
  const send = (method, params) => browser.send(method, params, sessionId);
  const loaded = new Promise((done) => {
    browser.listeners = [({ method, params, sessionId: from }) => {
      if (from !== sessionId) return;
      if (method === "Page.loadEventFired") done();
      if (method === "Runtime.exceptionThrown") wrong.push(`exception: ${params.exceptionDetails.exception?.description || params.exceptionDetails.text}`);
      if (method === "Runtime.consoleAPICalled" && params.type === "error") wrong.push(`console: ${params.args.map((a) => a.value).join(" ")}`);
      if (method === "Log.entryAdded" && params.entry.level === "error") wrong.push(`log: ${params.entry.text}`);
      if (method === "Network.requestWillBeSent" && params.request.url !== url && !params.request.url.startsWith("data:")) wrong.push(`asks for ${params.request.url}`);
    }];
  });
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await send(`${domain}.enable`);
  await send("Emulation.setDeviceMetricsOverride", { width: view.width, height: view.height, deviceScaleFactor: view.scale, mobile: view.mobile });
  await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  await send("Page.navigate", { url });
  await loaded;
  const { cssContentSize: size } = await send("Page.getLayoutMetrics");
  const { data } = await send("Page.captureScreenshot", {
    format: "png", captureBeyondViewport: true,
    clip: { x: 0, y: 0, width: view.width, height: Math.min(size.height, 15000 / view.scale), scale: 1 },
  });
  writeFileSync(picture, Buffer.from(data, "base64"));
  // Point at a mark and press the head of a table, as a reader would.
  const { result } = await send("Runtime.evaluate", { returnByValue: true, awaitPromise: true, expression: `(async () => {
    await new Promise(requestAnimationFrame);
    const mark = [...document.querySelectorAll("[data-tip]")].find((e) => e.getClientRects().length);
    if (mark) {
      mark.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 20, clientY: 20 }));
      const tip = document.getElementById("tip");
      if (tip && (tip.hidden || tip.textContent !== mark.getAttribute("data-tip"))) return ["pointing at a mark shows no tip"];
      document.body.dispatchEvent(new PointerEvent("pointermove", { bubbles: true }));
    }
    const head = document.querySelector("thead th.n button");
    if (head) {
      head.click(); head.click();
      if (!head.closest("th").hasAttribute("aria-sort")) return ["a table does not sort"];
    }
    return (${faults})();
  })()` });
  wrong.push(...result.value);
  await browser.send("Target.disposeBrowserContext", { browserContextId });
  return wrong;
}

async function main([out, ...pages]) {
  if (!pages.length) {
    console.error("usage: node look.js OUT PAGE.html...");
    process.exit(2);
  }
  mkdirSync(out, { recursive: true });
  const browser = new Browser();
  let failed = false;
  for (const page of pages) {
    const stem = basename(dirname(resolve(page))) + "-" + basename(page).replace(/\.\w+$/, "");
    for (const view of views) {
      for (const scheme of ["light", "dark"]) {
        const picture = join(out, `${stem}-${view.name}-${scheme}.png`);
        const wrong = await look(browser, pathToFileURL(resolve(page)).href, view, scheme, picture);
        console.log(`${wrong.length ? "BAD " : "ok  "} ${page} ${view.name} ${scheme} -> ${picture}`);
        for (const w of wrong) console.log(`     ${w}`);
        failed ||= wrong.length > 0;
      }
    }
  }
  await browser.close();
  process.exit(failed ? 1 : 0);
}

main(process.argv.slice(2)).catch((e) => {
  console.error(`look: ${e.message}`);
  process.exit(1);
});
