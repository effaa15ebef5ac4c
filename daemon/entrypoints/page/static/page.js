// The operator page. What comes from a job is hostile text: it goes into textContent and values, never into markup.

const $ = (id) => document.getElementById(id);
const QUIET_LIMIT = 15_000; // ms without a word from the server after which the connection counts as lost
const PAUSES = [500, 1000, 2000, 4000, 8000]; // ms between two tries to connect

const state = { about: null, queue: null, running: [], results: null, failures: null, minutes: [], health: null };
let mine = null; // the path of the job that was submitted here last
let shown = null; // the path of the job in the dialog

// Talking to the server

async function ask(path, body) {
  const options = { cache: "no-store", credentials: "same-origin" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json", "X-Easeld-Page": "1" };
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(answer.error || `The server answered ${response.status}`), { status: response.status });
  return answer;
}

async function act(path, body, said) {
  try {
    const answer = await ask(path, body);
    toast(said);
    return answer;
  } catch (error) {
    toast(error.status ? error.message : "The server cannot be reached");
    return null;
  }
}

async function connect(tries = 0) {
  try {
    state.about = await ask("page/about");
  } catch (error) {
    if (error.status === 401) return logIn();
    return lose(tries, error.status ? error.message : null);
  }
  $("login").hidden = true;
  $("main").hidden = false;
  showAbout();
  const events = new EventSource("page/events");
  let heard = performance.now();
  let failures = tries;
  const watch = setInterval(() => { if (performance.now() - heard > QUIET_LIMIT) end(); }, 1000);
  const end = () => {
    clearInterval(watch);
    events.close();
    lose(failures, null);
  };
  const on = (name, show) => events.addEventListener(name, (event) => {
    heard = performance.now();
    failures = 0;
    say("live", "Live", "good");
    if (show) {
      state[name] = JSON.parse(event.data);
      show(state[name]);
      showMine();
    }
  });
  on("beat");
  on("running", showRunning);
  on("queue", showQueue);
  on("results", showResults);
  on("failures", showFailures);
  on("minutes", showMinutes);
  on("health", showHealth);
  on("trouble", (trouble) => text($("trouble"), trouble));
  events.onerror = end;
}

function lose(tries, reason) {
  say("lost", reason || "Disconnected, trying again…", "bad");
  setTimeout(() => connect(tries + 1), PAUSES[Math.min(tries, PAUSES.length - 1)]);
}

function logIn() {
  say("locked", "Locked", "warn");
  $("main").hidden = true;
  $("login").hidden = false;
  $("login").elements.token.focus();
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = $("login").elements.token;
  if (await act("page/session", { token: token.value }, "Welcome")) {
    token.value = "";
    connect();
  }
});

// Small tools

function say(name, words, kind) {
  document.body.dataset.state = name;
  const pill = $("connection");
  if (pill.textContent !== words) pill.textContent = words;
  pill.className = `pill ${kind}`;
}

function text(element, words) {
  const value = String(words ?? "");
  if (element.textContent !== value) element.textContent = value;
  element.hidden = value === "";
}

function make(name, className, words) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (words !== undefined) element.textContent = words;
  return element;
}

function toast(words) {
  $("toast").replaceChildren(make("p", "", words));
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => $("toast").replaceChildren(), 5000);
}

// Show items as children, each made once: what has the focus or plays stays as it is.
function arrange(parent, items, create, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = new Set(items.map((item) => item.path));
  for (const [key, child] of old) if (!wanted.has(key)) child.remove();
  let next = parent.firstElementChild;
  for (const item of items) {
    let child = old.get(item.path);
    if (!child) {
      child = create(item);
      child.dataset.key = item.path;
    }
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    child.job = item;
    update(child, item);
  }
  const empty = document.querySelector(`.empty[data-for="${parent.id}"]`);
  if (!empty) return;
  empty.textContent = empty.dataset.words; // before, nobody knew whether it is empty
  empty.hidden = items.length > 0;
}

function ago(when) {
  if (!when) return "";
  const seconds = Math.max(0, (Date.now() - Date.parse(when)) / 1000);
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(when).toLocaleDateString();
}

function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

const size = (bytes) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
const legal = (address) => address.startsWith("page/media/") || address.startsWith("https://");

// Jobs that wait and run

const PHASES = { claimed: "Claimed, next on the device", loading: "Loading the model", encoding: "Encoding", uploading: "Uploading" };

function stage(job) {
  if (job.status === "failed") return job.error_message || "Failed";
  if (job.status !== "processing") return job.status;
  const progress = job.progress;
  if (!progress) return "Running";
  if (progress.phase !== "generating") return PHASES[progress.phase] || progress.phase;
  const left = progress.eta_seconds === null ? "" : `, ${duration(progress.eta_seconds)} left`;
  return `Step ${progress.step} of ${progress.steps}${left}`;
}

function createRow(label, path, said) {
  return () => {
    const row = $("row").content.firstElementChild.cloneNode(true);
    const button = row.querySelector("button");
    button.textContent = label;
    button.addEventListener("click", async () => {
      button.disabled = true;
      button.disabled = await act(path, { job: row.job.path }, said) !== null; // else the row will leave soon
    });
    return row;
  };
}

function updateRow(row, job, words) {
  const prompt = row.querySelector(".prompt");
  text(prompt, job.prompt || "(no prompt)");
  prompt.title = job.name;
  text(row.querySelector(".row-state"), words ?? stage(job));
  row.classList.toggle("failed", job.status === "failed");
  row.querySelector("button").setAttribute("aria-label", `${row.querySelector("button").textContent}: ${job.prompt.slice(0, 60)}`);
  const bar = row.querySelector("progress");
  bar.hidden = job.status !== "processing";
  if (job.progress) bar.value = job.progress.percent;
  else bar.removeAttribute("value");
  bar.setAttribute("aria-label", "Steps done");
  const preview = row.querySelector(".preview");
  const serial = job.preview ?? null; // in the memory of this worker; another one may keep it in the bucket
  const elsewhere = legal(job.preview_address ?? "") ? job.preview_address : null;
  const address = serial === null ? elsewhere : `page/preview?job=${encodeURIComponent(job.path)}&step=${Number(serial)}`;
  preview.hidden = address === null;
  if (address !== null && preview.getAttribute("src") !== address) preview.src = address;
}

const createCancel = createRow("Cancel", "page/cancel", "Cancelled");

function showRunning(jobs) {
  arrange($("running"), jobs, createCancel, (row, job) => {
    const where = job.here ? "" : ` · on ${job.worker || "another worker"}`;
    updateRow(row, job, stage(job) + where);
  });
  text($("running-count"), jobs.length || "");
}

// When a queued job begins; nothing of the time where nobody can tell.
function turn(job) {
  const { jobs, pace } = state.queue;
  const before = jobs.findIndex((other) => other.path === job.path);
  const wait = pace === null ? "" : `, begins in about ${duration(pace.first + before * pace.each)}`;
  return `${before ? `${before} before it` : "Next"}${wait}`;
}

function showQueue(queue) {
  arrange($("queue"), queue.jobs, createCancel, (row, job) => updateRow(row, job, `${turn(job)} · queued ${ago(job.created_at)}`));
  text($("queue-count"), queue.depth || "");
  const waiting = queue.depth > 1 && queue.pace !== null;
  text($("queue-wait"), waiting ? `About ${duration(queue.depth * queue.pace.each)} of work at the pace of late` : "");
}

function showFailures(jobs) {
  const types = new Map();
  for (const job of jobs) types.set(job.error_type || "Exception", (types.get(job.error_type || "Exception") || 0) + 1);
  $("failure-types").replaceChildren(...[...types].map(([name, count]) => make("span", "", `${name} × ${count}`)));
  const create = createRow("Retry", "page/retry", "Queued again");
  arrange($("failures"), jobs, create, (row, job) => {
    updateRow(row, job, `${job.error_type || "Exception"}: ${job.error_message || "no reason given"} · ${ago(job.finished_at)}`);
  });
  text($("failures-count"), jobs.length || "");
}

// Results

function picture(job, address, whole) {
  if (!address || !legal(address)) return make("div", "gone", "The media are elsewhere");
  const element = make(job.kind === "video" ? "video" : "img");
  element.addEventListener("error", () => element.replaceWith(make("div", "gone", "The file is gone")), { once: true });
  if (job.kind === "video") {
    Object.assign(element, { controls: true, muted: true, loop: true, playsInline: true, preload: "metadata" });
    element.setAttribute("aria-label", job.prompt.slice(0, 200));
  } else {
    element.alt = job.prompt.slice(0, 200);
    if (!whole) element.loading = "lazy";
  }
  element.src = address;
  return element;
}

function fillFrame(frame, job) {
  if (frame.dataset.of === job.media.join()) return;
  frame.dataset.of = job.media.join();
  const first = picture(job, job.media[0], false);
  if (first.tagName === "IMG") {
    const button = make("button");
    button.type = "button";
    button.setAttribute("aria-label", `Details: ${job.prompt.slice(0, 60)}`);
    button.addEventListener("click", () => showDetails(frame.parentElement.job || job));
    button.append(first);
    frame.replaceChildren(button);
  } else frame.replaceChildren(first);
  if (job.media.length > 1) frame.append(make("span", "badge", String(job.media.length)));
}

function createTile() {
  const tile = $("tile").content.firstElementChild.cloneNode(true);
  tile.querySelector(".tile-details").addEventListener("click", () => showDetails(tile.job));
  tile.querySelector(".tile-again").addEventListener("click", () => again(tile.job));
  return tile;
}

function updateTile(tile, job) {
  text(tile.querySelector(".prompt"), job.prompt || "(no prompt)");
  const seed = job.parameters.seed ?? "";
  text(tile.querySelector(".tile-when"), `${ago(job.finished_at)} · seed ${seed}`);
  fillFrame(tile.querySelector(".frame"), job);
}

function showResults(jobs) {
  arrange($("results"), jobs, createTile, updateTile);
  text($("results-count"), jobs.length || "");
}

const NAMES = {
  width: "Width", height: "Height", video_width: "Width", video_height: "Height", num_inference_steps: "Steps",
  guidance_scale: "Guidance", video_guidance_scale: "Guidance", num_images_per_prompt: "Images", num_frames: "Frames",
  fps: "Frames a second", negative_prompt: "Not to show", model: "Model", seed: "Seed",
};

function facts(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value, bad]) => [make("dt", "", name), make("dd", bad ? "bad" : "", String(value))]));
}

function showDetails(job) {
  shown = job.path;
  text($("details-title"), job.name);
  $("details-media").replaceChildren(...job.media.map((address) => picture(job, address, true)));
  text($("details-prompt"), job.prompt);
  const pairs = Object.entries(job.parameters).filter(([, value]) => value !== "").map(([name, value]) => [NAMES[name] || name, value]);
  for (const [name, seconds] of Object.entries(job.timings)) pairs.push([`Time: ${name}`, duration(seconds)]);
  if (job.finished_at) pairs.push(["Finished", new Date(job.finished_at).toLocaleString()]);
  facts($("details-facts"), pairs);
  $("details").showModal();
}

$("details-again").addEventListener("click", () => {
  $("details").close();
  again({ path: shown });
});
$("details").addEventListener("close", () => $("details-media").replaceChildren()); // a video plays on otherwise

async function again(job) {
  const answer = await act("page/again", { job: job.path }, "Queued again with the same seed");
  if (answer) watchMine(answer.job);
}

// The form

function showAbout() {
  const { worker, version, submits, models } = state.about;
  text($("worker"), `${worker} · ${version}`);
  $("make").hidden = !submits;
  const kind = chosenKind();
  const task = kind === "image" ? "text2image" : "text2video";
  const served = models.filter((model) => model.task === task);
  $("form").elements.model.replaceChildren(...served.map((model) => make("option", "", model.name)));
  for (const field of document.querySelectorAll("#form [data-for]")) {
    field.hidden = field.dataset.for !== kind;
    for (const input of field.querySelectorAll("input")) input.disabled = field.hidden;
  }
  for (const radio of $("form").elements.kind) {
    radio.disabled = !models.some((model) => model.task === (radio.value === "image" ? "text2image" : "text2video"));
  }
}

const chosenKind = () => $("form").elements.kind.value;

$("form").addEventListener("change", (event) => { if (event.target.name === "kind") showAbout(); });
$("form").elements.prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = {};
  for (const input of $("form").elements) {
    if (!input.name || input.name === "kind" || input.disabled || input.value === "") continue;
    body[input.name] = input.type === "number" ? Number(input.value) : input.value;
  }
  if (chosenKind() === "video") body.num_frames ??= 16;
  const button = $("form").querySelector("button.primary");
  button.disabled = true;
  try {
    const answer = await ask("page/jobs", body);
    text($("form-trouble"), "");
    watchMine(answer.job);
  } catch (error) {
    text($("form-trouble"), error.status ? error.message : "The server cannot be reached");
  }
  button.disabled = false;
});

function watchMine(path) {
  mine = path;
  $("mine").replaceChildren();
  showMine();
}

// The job that was submitted here, from the queue to the picture.
function showMine() {
  if (!mine) return;
  const of = (jobs) => (jobs || []).find((job) => job.path === mine);
  const done = of(state.results);
  if (done) return arrange($("mine"), [{ ...done, path: `${mine} done` }], createTile, (tile) => {
    tile.job = done;
    updateTile(tile, done);
  });
  const failed = of(state.failures);
  if (failed) return arrange($("mine"), [{ ...failed, path: `${mine} failed` }], createRow("Retry", "page/retry", "Queued again"), (row) => {
    row.job = failed;
    updateRow(row, failed);
  });
  const job = of(state.running) || of(state.queue?.jobs);
  if (job) arrange($("mine"), [job], createCancel, (row) => updateRow(row, job, job.status === "queued" ? turn(job) : undefined));
}

// Figures and health

function plot(svg, bars, most, words) {
  const wide = 600, high = 100, step = wide / 60;
  svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-label", words);
  const draw = (name, attributes, title) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (title) {
      const label = document.createElementNS("http://www.w3.org/2000/svg", "title");
      label.textContent = title;
      element.append(label);
    }
    return element;
  };
  const shapes = [draw("line", { x1: 0, x2: wide, y1: high, y2: high, class: "ground" })];
  for (const { slot, parts, title } of bars) {
    let y = high;
    for (const [value, kind] of parts) {
      if (value <= 0) continue;
      const height = Math.max(2, (value / most) * (high - 2));
      y -= height;
      shapes.push(draw("rect", { x: slot * step + 1, y, width: step - 2, height, rx: 1.5, class: kind }, title));
    }
  }
  svg.replaceChildren(...shapes);
}

function showMinutes(minutes) {
  const now = minutes.length ? minutes[minutes.length - 1].at : 0;
  const bars = (parts, title) => minutes.map((minute) => ({ slot: 59 - (now - minute.at), parts: parts(minute), title: `${clock(minute.at)}: ${title(minute)}` })).filter((bar) => bar.slot >= 0);
  const clock = (at) => new Date(at * 60_000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const jobs = minutes.reduce((sum, minute) => sum + minute.completed + minute.failed, 0);
  const most = (of, least) => Math.max(least, ...minutes.map(of));
  const last = minutes.slice(-5);
  const recent = last.reduce((sum, minute) => sum + minute.completed + minute.failed, 0) / Math.max(1, last.length);
  text($("jobs-now"), minutes.length ? `${recent.toFixed(1)} now` : "–");
  plot($("jobs-plot"), bars((m) => [[m.completed, "good"], [m.failed, "bad"]], (m) => `${m.completed} completed, ${m.failed} failed`), most((m) => m.completed + m.failed, 1), `${jobs} jobs ended in the last hour`);
  const waits = minutes.filter((minute) => minute.waited !== null);
  text($("wait-now"), waits.length ? duration(waits[waits.length - 1].waited) : "–");
  plot($("wait-plot"), bars((m) => [[m.waited ?? 0, "good"]], (m) => (m.waited === null ? "none claimed" : duration(m.waited))), most((m) => m.waited ?? 0, 1), "Seconds that jobs waited, by the minute");
  const busy = last.filter((minute) => minute.busy !== null);
  const share = busy.reduce((sum, minute) => sum + minute.busy, 0) / Math.max(1, busy.length);
  text($("busy-now"), minutes.length ? `${Math.round(100 * share)} %` : "–");
  plot($("busy-plot"), bars((m) => [[m.busy ?? 0, "good"]], (m) => `${Math.round(100 * (m.busy ?? 0))} %`), 1, "Share of the time that the device worked, by the minute");
}

function showHealth(health) {
  const pill = $("doing");
  const well = health.idle_reason === null && health.silent.length === 0;
  text(pill, health.idle_reason === null ? "Claiming jobs" : health.idle_reason);
  pill.className = `pill small ${well ? "good" : health.silent.length ? "bad" : "warn"}`;
  const pairs = [];
  const listeners = Object.entries(health.listeners).filter(([, well]) => !well).map(([name]) => name);
  pairs.push(["Listener", listeners.length ? `lost: ${listeners.join(", ")}; polling` : "hears changes", listeners.length > 0]);
  pairs.push(["Leases held", health.leases ? `${health.leases}, good for ${health.lease_left} s` : "none"]);
  if (health.silent.length) pairs.push(["No sign of life", health.silent.join(", "), true]);
  const disk = health.disk;
  pairs.push(["Disk", `${size(disk.free)} free of ${size(disk.total)}`, disk.free < 2 ** 30]);
  const memory = health.memory;
  pairs.push(["Device memory", memory ? `${size(memory.free)} free of ${size(memory.total)}` : "not in use"]);
  for (const model of health.models) pairs.push([`Model ${model.name}`, model.resident ? "loaded" : "not loaded"]);
  facts($("health"), pairs);
}

// Times go on while nothing else changes.
setInterval(() => {
  if (state.results) showResults(state.results);
  if (state.queue) showQueue(state.queue);
  if (state.failures) showFailures(state.failures);
}, 20_000);

connect();
