// Security rules on the emulator: every write that a client may make, and, by field and state, those that it may not.
// Arguments: the rules' file. FIRESTORE_EMULATOR_HOST says where the emulator is. Prints one line for each wrong case.

import { readFileSync } from "node:fs";
import { assertFails, assertSucceeds, initializeTestEnvironment } from "@firebase/rules-unit-testing";
import {
  Timestamp, collection, deleteDoc, deleteField, doc, getDoc, getDocs, limit, orderBy, query, serverTimestamp, setDoc,
  setLogLevel, updateDoc, where,
} from "firebase/firestore";

setLogLevel("silent"); // a refused write is what we are here for

const [host, port] = process.env.FIRESTORE_EMULATOR_HOST.split(":");
const environment = await initializeTestEnvironment({
  projectId: process.argv[3],
  firestore: { host, port: Number(port), rules: readFileSync(process.argv[2], "utf8") },
});

const now = Timestamp.fromMillis(1_750_000_000_000);
const asked = { prompt: "a cat", created_at: now, style: "mine", rating: 3, user_id: "ada" };
const lease = { worker: "w", token: "t", attempt: 1, seconds: 60, renewed_at: now, started: true };
const result = { token: "t", attempt: 1, seed: 7, generations: [1], finished_at: now };
const finished = { ...asked, generated: false, error: false, modified: now, submitted_at: now, file_uid: "f" };
const STATES = {
  queued: { ...asked, status: "queued", generated: false, error: false },
  "queued by the shim": { ...asked, status: "queued", submitted_at: now },
  "given back": { ...asked, status: "queued", modified: now, easeld: { attempts: 1, not_before: now } },
  processing: { ...asked, status: "processing", modified: now, progress: { percent: 5 }, easeld: { lease, attempts: 1 } },
  completed: {
    ...finished, status: "completed", generated: true, completed_at: now, images: ["https://h/1.png"], seed: 7,
    image_url: "https://h/1.png", image_count: 1, task_type: "text2image", easeld: { result, finishes: 1 },
  },
  failed: {
    ...finished, status: "failed", error: true, error_message: "broken", error_type: "RuntimeError", failed_at: now,
    easeld: { result, finishes: 1 },
  },
  "failed by its client": { ...asked, status: "failed", error: true, error_message: "no answer" },
  cancelled: { ...finished, status: "cancelled", cancelled_at: now, easeld: { result, finishes: 1 } },
};
const ACTIVE = ["queued", "queued by the shim", "given back", "processing"];
const ENDED = ["completed", "failed", "failed by its client", "cancelled"];
const FAILED = ["failed", "failed by its client"];

const fresh = (more = {}) => ({
  status: "queued", created_at: serverTimestamp(), prompt: "a cat", generated: false, error: false, ...more,
});
const givenUp = { status: "failed", error: true, error_message: "the endpoint did not answer" };

// What only a worker, or the shim, writes, with a value that nobody could mistake for what is there.
const OURS = {
  images: ["https://h/x.png"], image_url: "https://h/x.png", image_count: 9, videos: ["https://h/x.mp4"],
  video_url: "https://h/x.mp4", video_info: { frames: 9 }, completed_at: serverTimestamp(),
  failed_at: serverTimestamp(), cancelled_at: serverTimestamp(), error_message: "mine", error_type: "Exception",
  task_type: "text2video", progress: { percent: 99 }, easeld: { lease: null }, submitted_at: serverTimestamp(),
  modified: serverTimestamp(),
};
// Known fields, in both spellings, with what is legal and what is not.
const whole = (least, most) => [[least, most, null], [least - 1, most + 1, least + 0.5, String(least), true]];
const number = (least, most) => [[least, most, least + 0.5, null], [least - 0.5, most + 0.5, String(least), true]];
const text = [["", "x".repeat(10_000), null], ["x".repeat(10_001), 5, ["a"]]];
const size = [[1, 512, 4096, null], [0, -512, 512.5, "512", true]];
const anyNumber = [[0, 5, 7.5, null], [-1, "5", true]];
const frames = [[16, 81, 0, null], [15, 82, 1, 16.5, "16", true]];
const LIMITS = {
  width: whole(256, 1024), height: whole(256, 1024), fps: whole(6, 15),
  num_images_per_prompt: whole(1, 4), numImagesPerPrompt: whole(1, 4),
  num_inference_steps: whole(10, 50), numInferenceSteps: whole(10, 50),
  guidance_scale: number(1, 20), guidanceScale: number(1, 20),
  num_frames: frames, numFrames: frames,
  seed: [[0, -1, 2 ** 53 - 1, null], [0.5, "7", true]],
  video_width: size, videoWidth: size, video_height: size, videoHeight: size,
  video_guidance_scale: anyNumber, videoGuidanceScale: anyNumber,
  negative_prompt: text, negativePrompt: text, model: [["sdxl", null], [5, ["sdxl"]]],
  use_cloud_storage: [[true, null], [false, "true", 1]], useCloudStorage: [[true, null], [false]],
  prompt: [["a", "x".repeat(10_000)], ["", "x".repeat(10_001), 5, null]],
};

let number_of_case = 0;
const counts = { allowed: 0, forbidden: 0 };
const wrong = [];

const contexts = {};
const as = (user) => (contexts[user] ??=
  (user === null ? environment.unauthenticatedContext() : environment.authenticatedContext(user)).firestore());

// Past the rules, as workers are: this connection lives as long as its callback runs.
let finish;
const admin = await new Promise((resolve) => {
  environment.withSecurityRulesDisabled((context) => {
    resolve(context.firestore());
    return new Promise((ended) => { finish = ended; });
  });
});
const path = (media = "images") => `generations/ada/${media}/f${++number_of_case}`;

async function prepared(state, where) {
  if (state !== null) {
    await setDoc(doc(admin, where), STATES[state]);
  }
}

// Cases run side by side, each on a document of its own.
const AT_ONCE = 24;
const running = new Set();
async function check(...given) {
  const one = tried(...given).finally(() => running.delete(one));
  running.add(one);
  if (running.size >= AT_ONCE) await Promise.race(running);
}

async function tried(kind, name, state, write, { user = "ada", media = "images" } = {}) {
  const where = path(media);
  await prepared(state, where);
  try {
    await (kind === "allowed" ? assertSucceeds : assertFails)(write(doc(as(user), where)));
    counts[kind] += 1;
  } catch (error) {
    wrong.push(`${kind}, but it was not: ${name} (${state ?? "absent"}): ${error.message}`);
  }
}
const allowed = (...given) => check("allowed", ...given);
const forbidden = (...given) => check("forbidden", ...given);
const sets = (fields) => (reference) => setDoc(reference, fields);
const updates = (fields) => (reference) => updateDoc(reference, fields);

// Allowed

for (const media of ["images", "videos"]) {
  await allowed(`create in ${media}`, null, sets(fresh()), { media });
  await allowed(`create the least in ${media}`, null, sets({ status: "queued", created_at: serverTimestamp(), prompt: "a" }), { media });
}
await allowed("create with the whole request", null, sets(fresh({
  width: 512, height: 512, numImagesPerPrompt: 1, numInferenceSteps: 20, guidanceScale: 7.5, negativePrompt: "blurry",
  seed: null, numFrames: 16, fps: 8, videoWidth: 512, videoHeight: 512, videoGuidanceScale: 5, style: "mine",
  use_cloud_storage: true, user_id: "ada", metadata: { any: ["thing"] },
})), { media: "videos" });
for (const state of Object.keys(STATES)) {
  await allowed("write anew", state, sets(fresh({ width: 640 })));
  await allowed("update metadata", state, updates({ rating: 5, tags: ["a"], style: deleteField() }));
  await allowed("update a parameter", state, updates({ width: 640, prompt: "a dog" }));
  await allowed("delete", state, deleteDoc);
  await allowed("read", state, getDoc);
}
await allowed("read what is not there", null, getDoc);
for (const state of ACTIVE) {
  await allowed("ask for cancellation", state, updates({ cancel_requested: true }));
  await allowed("give up", state, updates(givenUp));
}
for (const state of FAILED) {
  await allowed("queue again", state, updates({ status: "queued" }));
  await allowed("queue again, cleaned", state, updates({
    status: "queued", error: false, generated: false, error_message: deleteField(), error_type: deleteField(),
    failed_at: deleteField(), created_at: serverTimestamp(), width: 640,
  }));
}
for (const [field, [legal]] of Object.entries(LIMITS)) {
  for (const value of legal) await allowed(`create with ${field} = ${value}`, null, sets(fresh({ [field]: value })));
}
for (const media of ["images", "videos"]) {
  const mine = collection(as("ada"), `generations/ada/${media}`);
  await assertSucceeds(getDocs(query(mine, where("status", "in", ["queued", "processing"]), orderBy("created_at", "desc"))));
  counts.allowed += 1;
}

// Forbidden

for (const [field, value] of Object.entries(OURS)) {
  await forbidden(`create with ${field}`, null, sets(fresh({ [field]: value })));
  for (const state of Object.keys(STATES)) {
    await forbidden(`update ${field}`, state, updates({ [field]: value }));
    if (STATES[state][field] !== undefined) await forbidden(`remove ${field}`, state, updates({ [field]: deleteField() }));
  }
  for (const state of FAILED) {
    await forbidden(`queue again with ${field}`, state, updates({ status: "queued", [field]: value }));
  }
  for (const state of ACTIVE) {
    await forbidden(`ask for cancellation with ${field}`, state, updates({ cancel_requested: true, [field]: value }));
    if (field !== "error_message") await forbidden(`give up with ${field}`, state, updates({ ...givenUp, [field]: value }));
  }
}
for (const state of [null, ...Object.keys(STATES)]) {
  for (const status of ["processing", "completed", "cancelled", "paused", "", null, 5]) {
    const write = { ...fresh({ status }) };
    await forbidden(`write anew as ${status}`, state, sets(write));
    if (state !== null && STATES[state].status !== status) {
      await forbidden(`update the status to ${status}`, state, updates({ status }));
    }
  }
  await forbidden("write anew without a status", state, sets({ created_at: serverTimestamp(), prompt: "a" }));
  await forbidden("write anew without a time", state, sets({ status: "queued", prompt: "a" }));
  await forbidden("write anew with a time of one's own", state, sets(fresh({ created_at: Timestamp.now() })));
  await forbidden("write anew as generated", state, sets(fresh({ generated: true })));
  await forbidden("write anew as an error", state, sets(fresh({ error: true })));
  await forbidden("write anew without a prompt", state, sets({ status: "queued", created_at: serverTimestamp() }));
  await forbidden("write anew, cancelled already", state, sets(fresh({ cancel_requested: true })));
  await forbidden("write anew in another user's name", state, sets(fresh({ user_id: "bob" })));
  for (const user of ["bob", null]) {
    await forbidden(`write anew by ${user ?? "nobody"}`, state, sets(fresh()), { user });
    await forbidden(`read by ${user ?? "nobody"}`, state, getDoc, { user });
    if (state === null) continue;
    await forbidden(`update by ${user ?? "nobody"}`, state, updates({ rating: 1 }), { user });
    await forbidden(`cancel by ${user ?? "nobody"}`, state, updates({ cancel_requested: true }), { user });
    await forbidden(`delete by ${user ?? "nobody"}`, state, deleteDoc, { user });
  }
  await forbidden("write into another collection", state, sets(fresh()), { media: "sounds" });
}
for (const state of Object.keys(STATES)) {
  await forbidden("move in the queue", state, updates({ created_at: Timestamp.fromMillis(0) }));
  await forbidden("update the owner", state, updates({ user_id: "bob" }));
  await forbidden("claim to be generated", state, updates({ generated: STATES[state].generated !== true }));
  await forbidden("change the error alone", state, updates({ error: STATES[state].error !== true }));
  await forbidden("take the prompt away", state, updates({ prompt: deleteField(), created_at: deleteField() }));
  await forbidden("cancel by another word", state, updates({ cancel_requested: "yes" }));
}
for (const state of ENDED) {
  await forbidden("cancel what has ended", state, updates({ cancel_requested: true }));
  await forbidden("give up what has ended", state, updates({ ...givenUp, error_message: "another" }));
  if (!FAILED.includes(state)) await forbidden("queue again by an update", state, updates({ status: "queued" }));
}
for (const state of ACTIVE) {
  await forbidden("give up without an error", state, updates({ status: "failed", error_message: "a" }));
  await forbidden("give up without a message", state, updates({ status: "failed", error: true }));
  await forbidden("give up with a message that is none", state, updates({ ...givenUp, error_message: 5 }));
  await forbidden("give up with a long message", state, updates({ ...givenUp, error_message: "x".repeat(1501) }));
  await forbidden("give up with metadata", state, updates({ ...givenUp, rating: 1 }));
}
for (const [field, [, illegal]] of Object.entries(LIMITS)) {
  for (const value of illegal) {
    const shown = String(value).slice(0, 20);
    await forbidden(`create with ${field} = ${shown}`, null, sets(fresh({ [field]: value })));
    await forbidden(`update ${field} to ${shown}`, "queued", updates({ [field]: value }));
    await forbidden(`queue again with ${field} = ${shown}`, "failed", updates({ status: "queued", [field]: value }));
  }
}
for (const [user, where_] of [["bob", "generations/ada/images"], [null, "generations/ada/images"], ["ada", "generations"]]) {
  await assertFails(getDocs(query(collection(as(user), where_), limit(1))));
  counts.forbidden += 1;
}

await Promise.all(running);
finish();
await environment.cleanup();
for (const line of wrong) console.log(line);
console.log(`rules: allowed=${counts.allowed} forbidden=${counts.forbidden} wrong=${wrong.length}`);
process.exit(wrong.length === 0 ? 0 : 1);
