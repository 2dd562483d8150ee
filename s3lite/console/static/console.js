// The console's only script: uploads with progress, plots, copy buttons, and a question before removals.
"use strict";

for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => {
    if (!window.confirm(form.dataset.confirm)) event.preventDefault();
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

for (const button of document.querySelectorAll("[data-fill]")) {
  button.hidden = false; // without this script it could do nothing
  button.addEventListener("click", () => {
    const text = document.querySelector("textarea[name=text]");
    text.value = button.parentElement.querySelector("pre").textContent;
    text.focus();
  });
}

const drop = document.getElementById("drop");
if (drop) watch(drop);

function watch(zone) {
  const list = document.getElementById("uploads");
  const context = { api: zone.dataset.api, csrf: zone.dataset.csrf, bucket: zone.dataset.bucket, part: Number(zone.dataset.part) };
  const queue = [];
  let running = 0, failed = 0, done = 0;
  const reported = { ok: 0, queued: 0, failed: 0 };

  const add = (file, path) => {
    const row = document.createElement("li");
    const name = document.createElement("span");
    name.textContent = path;
    const bar = document.createElement("progress");
    bar.max = Math.max(file.size, 1);
    bar.value = 0;
    bar.setAttribute("aria-label", `Upload of ${path}`);
    const word = document.createElement("span");
    word.textContent = "waiting";
    row.append(name, bar, word);
    list.append(row);
    queue.push({ file, key: zone.dataset.prefix + path, row, bar, word });
    next();
  };

  const next = () => {
    while (running < 3 && queue.length) {
      const item = queue.shift();
      running += 1;
      item.word.textContent = "uploading";
      upload(context, item).then(
        (callback) => {
          item.bar.value = item.bar.max;
          item.word.textContent = "done";
          done += 1;
          if (callback in reported) reported[callback] += 1;
        },
        (problem) => { item.row.classList.add("failed"); item.word.textContent = "failed"; item.row.title = problem.message; failed += 1; },
      ).finally(() => {
        running -= 1;
        next();
        if (!running && !queue.length && done && !failed) show(told(done, reported));
      });
    }
  };

  document.getElementById("files").addEventListener("change", (event) => {
    for (const file of event.target.files) add(file, file.name);
    event.target.value = "";
  });
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry());
    if (entries.every(Boolean)) entries.forEach((entry) => walk(entry, "", add));
    else for (const file of event.dataTransfer.files) add(file, file.name);
  });
}

// What is said above the list once everything is there.
function told(done, reported) {
  const words = [`Uploaded ${done === 1 ? "1 file" : `${done} files`}.`];
  if (reported.ok) words.push(`The application was told of ${reported.ok !== done ? reported.ok : done === 1 ? "it" : "all"}.`);
  if (reported.queued) words.push(`The application is being told of ${reported.queued}.`);
  if (reported.failed) words.push(`Telling the application failed for ${reported.failed}: see Callbacks.`);
  return words.join(" ");
}

function show(notice) {
  const url = new URL(window.location.href);
  url.searchParams.delete("fault");
  url.searchParams.set("notice", notice);
  window.location.assign(url);
}

function walk(entry, above, add) {
  if (entry.isFile) {
    entry.file((file) => add(file, above + file.name));
    return;
  }
  const reader = entry.createReader();
  const more = () => reader.readEntries((entries) => {
    entries.forEach((each) => walk(each, `${above}${entry.name}/`, add));
    if (entries.length) more();
  });
  more();
}

async function upload(context, item) {
  const about = { bucket: context.bucket, key: item.key, size: item.file.size, type: item.file.type };
  if (item.file.size <= context.part) {
    const { url } = await call(context, "put", about);
    return (await send(url, item.file, item.file.type, (sent) => { item.bar.value = sent; })).callback;
  }
  const { upload_id, part_bytes } = await call(context, "start", about);
  try {
    const etags = [];
    for (let number = 1, from = 0; from < item.file.size; number += 1, from += part_bytes) {
      const { url } = await call(context, "part", { ...about, upload_id, number });
      const piece = item.file.slice(from, from + part_bytes);
      etags.push((await send(url, piece, "", (sent) => { item.bar.value = from + sent; })).etag);
    }
    return (await call(context, "complete", { ...about, upload_id, etags })).callback;
  } catch (problem) {
    await call(context, "abort", { ...about, upload_id }).catch(() => {});
    throw problem;
  }
}

async function call(context, name, document) {
  const response = await fetch(context.api + name, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF": context.csrf },
    body: JSON.stringify(document),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.problem || `Status ${response.status}`);
  return answer;
}

function send(url, body, type, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    if (type) request.setRequestHeader("Content-Type", type);
    request.upload.addEventListener("progress", (event) => progress(event.loaded));
    request.addEventListener("load", () => {
      const callback = request.getResponseHeader("x-s3lite-callback-status") || "";
      if (request.status === 200) resolve({ etag: request.getResponseHeader("ETag"), callback });
      else if (request.status === 203) resolve({ etag: "", callback: "failed" }); // it is stored all the same
      else reject(new Error(message(request)));
    });
    request.addEventListener("error", () => reject(new Error("The connection broke.")));
    request.send(body);
  });
}

function message(request) {
  const found = request.responseXML && request.responseXML.querySelector("Message");
  return found ? found.textContent : `Status ${request.status}`;
}

// A list that follows what happens: the page is asked for again, and its middle part replaced.
const live = document.querySelector("[data-live]");
if (live) {
  setInterval(async () => {
    if (!live.checked || document.hidden) return;
    const response = await fetch(window.location.href);
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    document.querySelector("[data-part]").replaceWith(page.querySelector("[data-part]"));
  }, 2000);
}

const plots = document.querySelector("[data-figures]");
if (plots) plot(plots);

function plot(section) {
  const shown = 120; // seconds, the newest at the right edge
  const series = [...section.querySelectorAll("[data-plot]")].map((figure) => ({ figure, values: [] }));
  let before = null, at = 0;
  const tick = async () => {
    const response = await fetch(section.dataset.figures, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF": section.dataset.csrf },
      body: "{}",
    });
    const now = await response.json();
    const fault = document.getElementById("plot-fault");
    fault.hidden = response.ok;
    if (!response.ok) { fault.textContent = now.problem; return; }
    const time = performance.now() / 1000;
    if (before) for (const each of series) draw(each, value(each.figure.dataset, now, time - at));
    before = now;
    at = time;
  };
  const value = ({ plot: name, kind }, now, passed) => {
    const grown = Math.max(now[name] - before[name], 0);
    if (kind === "level") return now[name];
    if (kind === "rate") return grown / passed;
    const answers = now.answers - before.answers;
    return answers > 0 ? (1000 * grown) / answers : 0;
  };
  const draw = ({ figure, values }, newest) => {
    values.push(newest);
    if (values.length > shown) values.shift();
    const highest = Math.max(...values);
    const words = figure.dataset.unit === "bytes" ? bytes : (count) => (Number.isInteger(count) ? String(count) : count.toFixed(1));
    const x = (index) => 300 - ((values.length - 1 - index) * 300) / (shown - 1);
    const points = values.map((each, index) => `${x(index)},${76 - (72 * each) / (highest || 1)}`);
    figure.querySelector("polyline").setAttribute("points", points.join(" "));
    figure.querySelector("polygon").setAttribute("points", `${x(0)},76 ${points.join(" ")} 300,76`);
    figure.querySelector("b").textContent = words(newest);
    figure.querySelector(".scale").textContent = highest ? words(highest) : "";
  };
  tick();
  setInterval(() => { if (!document.hidden) tick(); }, 1000);
}

function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < 4) { count /= 1024; unit += 1; }
  return `${count.toFixed(unit ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}
