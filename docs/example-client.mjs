// An app's side of a generation, ready to copy: write the document, call the endpoint, watch the document.
// It needs the package `firebase` and a signed-in user; in the database the rules of firebase/firestore.rules.

import { collection, doc, onSnapshot, orderBy, query, serverTimestamp, setDoc, updateDoc, where } from "firebase/firestore";

const FINAL = ["completed", "failed", "cancelled"];

/**
 * Generate an image, or a video when `options.numFrames` says how many frames.
 *
 * endpoint: { url, key }, the address `https://HOST/v2/ENDPOINT_ID` and its bearer key. A key does not belong into an
 * app that others can read: let a function of your backend make the call, with the same body.
 * onChange(fields) is called with every state of the document. Resolves to the last one.
 */
export async function generate(db, endpoint, userId, fileUid, options, onChange = () => {}) {
  const media = options.numFrames ? "videos" : "images";
  const reference = doc(db, "generations", userId, media, fileUid);
  await setDoc(reference, { ...options, status: "queued", created_at: serverTimestamp(), generated: false, error: false });
  const done = watch(reference, onChange);
  try {
    await call(endpoint, { ...options, user_id: userId, file_uid: fileUid, use_cloud_storage: true });
  } catch (error) {
    await updateDoc(reference, { status: "failed", error: true, error_message: error.message });
  }
  return done;
}

/** Call the endpoint. The same call again is never a second generation, so a call that got no answer is tried again. */
export async function call(endpoint, input, tries = 3) {
  let response;
  for (let left = tries; ; left -= 1) {
    try {
      response = await fetch(`${endpoint.url}/runsync`, {
        method: "POST",
        headers: { Authorization: `Bearer ${endpoint.key}`, "Content-Type": "application/json" },
        body: JSON.stringify({ input }),
        signal: AbortSignal.timeout(30_000),
      });
      if (response.status < 500) break;
    } catch (error) {
      if (left <= 1) throw error;
    }
    if (left <= 1) break;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/** Watch a document until its job has ended; resolves to its fields. */
export function watch(reference, onChange = () => {}) {
  return new Promise((resolve, reject) => {
    const stop = onSnapshot(reference, (snapshot) => {
      const fields = snapshot.data();
      if (!fields) return;
      onChange(fields);
      if (FINAL.includes(fields.status)) {
        stop();
        resolve(fields);
      }
    }, reject);
  });
}

/** Ask for the end of a queued or processing job; its document becomes `cancelled`. */
export function cancel(reference) {
  return updateDoc(reference, { cancel_requested: true });
}

/** A user's jobs that are waiting or being made, newest first. */
export function active(db, userId, media) {
  return query(
    collection(db, "generations", userId, media),
    where("status", "in", ["queued", "processing"]),
    orderBy("created_at", "desc"),
  );
}
