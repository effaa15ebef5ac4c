// Apps on the real JavaScript SDK, with the rules in force, a shim and a worker up.
// Reads JSON from its argument: host, port, project, url, key. Prints one line for each story; exit status 1 if one fails.

import assert from "node:assert/strict";
import { initializeApp } from "firebase/app";
import {
  Timestamp, collection, collectionGroup, connectFirestoreEmulator, doc, getDoc, getDocs, getFirestore, onSnapshot, query,
  serverTimestamp, setDoc, setLogLevel, updateDoc, where,
} from "firebase/firestore";
import { active, call, cancel, generate, watch } from "./example-client.mjs";

setLogLevel("error");
const { host, port, project, url, key } = JSON.parse(process.argv[2]);
const endpoint = { url, key };
const WITHIN = 90_000; // milliseconds for one story

function database(name, mockUserToken) {
  const db = getFirestore(initializeApp({ projectId: project, apiKey: "emulator" }, name));
  connectFirestoreEmulator(db, host, port, { mockUserToken });
  return db;
}
const db = database("ada", { sub: "ada" });
const operator = database("operator", "owner"); // past the rules, as the Admin SDK is
const reference = (media, name) => doc(db, "generations", "ada", media, name);
const SMALL = { width: 256, height: 256, numInferenceSteps: 10 };
const SMALL_VIDEO = { numFrames: 16, videoWidth: 256, videoHeight: 256, numInferenceSteps: 10 };

// Every snapshot that an app acts on must make sense by itself, and in its order.
function observer(media) {
  const order = { queued: 0, processing: 1, completed: 2, failed: 2, cancelled: 2 };
  const seen = [];
  return {
    seen,
    look(fields) {
      assert.ok(fields.status in order, `status ${fields.status}`);
      assert.ok(seen.length === 0 || order[seen.at(-1)] <= order[fields.status], `${seen} then ${fields.status}`);
      if (fields.status !== seen.at(-1)) seen.push(fields.status);
      if (media === "videos") for (const name of ["images", "image_url"]) assert.ok(!(name in fields), name);
      const completed = fields.status === "completed";
      assert.equal(fields.generated ?? false, completed);
      assert.equal("image_url" in fields || "video_url" in fields, completed);
      assert.equal(fields.error ?? false, fields.status === "failed");
      assert.equal("error_message" in fields, fields.status === "failed");
    },
  };
}

async function checkCompleted(fields, media, name) {
  assert.equal(fields.status, "completed", JSON.stringify(fields));
  assert.deepEqual([fields.generated, fields.error, fields.user_id, fields.file_uid], [true, false, "ada", name]);
  for (const time of ["completed_at", "modified"]) assert.ok(fields[time] instanceof Timestamp, time);
  assert.ok(Number.isInteger(fields.seed));
  assert.ok(!("cancel_requested" in fields) && !("progress" in fields));
  const addresses = media === "images" ? fields.images : fields.videos;
  if (media === "images") {
    assert.equal(fields.task_type, "text2image");
    assert.equal(fields.image_url, addresses[0]);
    assert.equal(fields.image_count, addresses.length);
  } else {
    assert.equal(fields.task_type, "text2video");
    assert.equal(fields.video_url, addresses[0]);
    assert.deepEqual(fields.video_info, { frames: 16, fps: 8, duration_seconds: 2, width: 256, height: 256 });
  }
  for (const address of addresses) {
    const file = await fetch(address);
    assert.equal(file.status, 200, address);
    assert.equal(file.headers.get("content-type"), media === "images" ? "image/png" : "video/mp4");
    assert.ok((await file.arrayBuffer()).byteLength > 100);
  }
}

const stories = {};
for (const [media, options] of [["images", SMALL], ["videos", SMALL_VIDEO]]) {
  stories[`the whole request in the document, ${media}`] = async (name) => {
    const { look, seen } = observer(media);
    const all = { ...options, prompt: "a red car", negativePrompt: "blurry", rating: 5 };
    const fields = await generate(db, endpoint, "ada", name, all, look);
    await checkCompleted(fields, media, name);
    assert.equal(fields.rating, 5);
    assert.equal(seen[0], "queued");
  };
  stories[`a bare document and the rest in the call, ${media}`] = async (name) => {
    const { look } = observer(media);
    const document = { status: "queued", created_at: serverTimestamp(), prompt: "a red car", rating: 5 };
    await setDoc(reference(media, name), document);
    const done = watch(reference(media, name), look);
    const ids = { user_id: "ada", file_uid: name, use_cloud_storage: true };
    const answer = await call(endpoint, { prompt: "a red car", seed: 1234, ...options, ...ids });
    assert.equal(answer.status, "accepted");
    const fields = await done;
    await checkCompleted(fields, media, name);
    assert.equal(fields.seed, 1234);
    assert.equal(fields.rating, 5);
  };
  stories[`no document, only a call, ${media}`] = async (name) => {
    const { look } = observer(media);
    const ids = { user_id: "ada", file_uid: name, use_cloud_storage: true };
    const done = watch(reference(media, name), look);
    const answer = await call(endpoint, { prompt: "a red car", ...options, ...ids });
    assert.equal(answer.task_type, media === "images" ? "text2image" : "text2video");
    await checkCompleted(await done, media, name);
  };
}

stories["four pictures, and the same call once more"] = async (name) => {
  const options = { prompt: "four cats", ...SMALL, numImagesPerPrompt: 4 };
  const fields = await generate(db, endpoint, "ada", name, options, observer("images").look);
  await checkCompleted(fields, "images", name);
  assert.equal(fields.image_count, 4);
  await call(endpoint, { ...options, user_id: "ada", file_uid: name, use_cloud_storage: true });
  const again = (await getDoc(reference("images", name))).data();
  assert.deepEqual(again.images, fields.images);
  assert.ok(again.completed_at.isEqual(fields.completed_at));
};

stories["an error of the worker"] = async (name) => {
  const { look } = observer("videos");
  const options = { prompt: "too large", numFrames: 16, videoWidth: 4000 };
  const fields = await generate(db, endpoint, "ada", name, options, look);
  assert.equal(fields.status, "failed");
  assert.equal(fields.error_type, "Exception");
  assert.equal(fields.error_message, "video_width must be between 128 and 832");
  assert.ok(fields.failed_at instanceof Timestamp && fields.modified instanceof Timestamp);
  const failures = query(
    collectionGroup(operator, "videos"), where("error", "==", true),
    where("failed_at", ">", Timestamp.fromMillis(Date.now() - 86_400_000)),
  );
  assert.ok((await getDocs(failures)).docs.some((found) => found.id === name), "the failure-rate query finds it");

  await setDoc(reference("videos", name), {
    status: "queued", created_at: serverTimestamp(), prompt: "smaller", ...SMALL_VIDEO,
  }); // the user tries again, with a document written anew
  await call(endpoint, { prompt: "smaller", ...SMALL_VIDEO, user_id: "ada", file_uid: name, use_cloud_storage: true });
  await checkCompleted(await watch(reference("videos", name)), "videos", name);
};

stories["an error of the endpoint"] = async (name) => {
  const document = { status: "queued", created_at: serverTimestamp(), prompt: "a red car" };
  await setDoc(reference("images", name), document);
  const ids = { user_id: "ada", file_uid: name, use_cloud_storage: true };
  const refused = await call(endpoint, { prompt: "a red car", width: 5000, ...ids }).catch((error) => error);
  assert.equal(refused.message, "width must be between 256 and 1024");
  await updateDoc(reference("images", name), { status: "failed", error: true, error_message: refused.message });
  const fields = (await getDoc(reference("images", name))).data();
  assert.deepEqual([fields.status, fields.error, fields.error_message], ["failed", true, refused.message]);
  await updateDoc(reference("images", name), { status: "queued" }); // and queues the failed one again
  await call(endpoint, { prompt: "a red car", ...SMALL, ...ids });
  await checkCompleted(await watch(reference("images", name)), "images", name);
};

stories["a cancel while it is made"] = async (name) => {
  const { look, seen } = observer("images");
  const slow = { prompt: "slow", ...SMALL, numInferenceSteps: 50, model: "slow" };
  const done = generate(db, endpoint, "ada", name, slow, look);
  await new Promise((resolve) => {
    const stop = onSnapshot(reference("images", name), (snapshot) => {
      if (snapshot.data()?.status === "processing") { stop(); resolve(); }
    });
  });
  const mine = (await getDocs(active(db, "ada", "images"))).docs.map((found) => found.id);
  assert.ok(mine.includes(name), "the active query finds it");
  await cancel(reference("images", name));
  const fields = await done;
  assert.equal(fields.status, "cancelled");
  assert.equal(fields.generated, false);
  assert.ok(!("images" in fields));
  assert.deepEqual(seen.slice(-2), ["processing", "cancelled"]);
};

stories["the stuck-job query"] = async (name) => {
  const longAgo = Timestamp.fromMillis(Date.now() - 3_600_000);
  await setDoc(doc(operator, "generations", "ada", "images", name), {
    status: "processing", modified: longAgo, created_at: longAgo, prompt: "of a worker before ours",
  });
  const stuck = [where("status", "==", "processing"), where("modified", "<", Timestamp.fromMillis(Date.now() - 300_000))];
  const mine = await getDocs(query(collection(db, "generations", "ada", "images"), ...stuck));
  const all = await getDocs(query(collectionGroup(operator, "images"), ...stuck));
  assert.deepEqual(mine.docs.map((found) => found.id), [name]);
  assert.deepEqual(all.docs.map((found) => found.id), [name]);
};

const limited = (promise) => Promise.race([
  promise,
  new Promise((_, reject) => { setTimeout(() => reject(new Error("not done in time")), WITHIN).unref(); }),
]);
let number = 0;
const outcomes = await Promise.all(Object.entries(stories).map(async ([title, story]) => {
  try {
    await limited(story(`story ${++number}`));
    return { title };
  } catch (error) {
    return { title, error };
  }
}));
const failed = outcomes.filter(({ error }) => error);
for (const { title, error } of failed) console.log(`FAILED: ${title}: ${error.stack}`);
console.log(`clients: stories=${outcomes.length} failed=${failed.length}`);
process.exit(failed.length === 0 ? 0 : 1);
