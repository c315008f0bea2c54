// Requests to the service: what is sent, what comes back, and what is done about a busy service or a lost answer.

/// How often a request is sent at most.
const TRIES = 3;
/// A longer wait is the person's to decide.
const WAIT_MAX_S = 5;
const LOST_PAUSE_MS = 400;
/// An answer that has not begun by then is lost.
const ANSWER_MS = 60_000;
/// What changes nothing, or nothing that is not told anew.
const HARMLESS = /^\/(auth\/.*|.*\/(query_\w+|search))$/;

/// An answer other than 200. Code 0: there was none, and `unsure` says that a change may have been made all the same, and
/// is made once more if it is sent once more.
export class Refusal extends Error {
  constructor(path, code, message, { retryAfter = null, unsure = false } = {}) {
    super(message);
    Object.assign(this, { path, code, retryAfter, unsure });
  }
}

/// Told of each request when it leaves and when its answer is there: `(call)`, with `status`, `ms`, the `answer` and the headers
/// `answered` that tell something, once they are known.
const watchers = [];
export const watch = (watcher) => watchers.push(watcher);
const tell = (call) => watchers.forEach((watcher) => watcher(call));

/// Told when the service is busy and how many seconds are waited, and 0 when that is over.
let busy = () => {};
export const onBusy = (told) => { busy = told; };

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/// Integers too long for a number here come as their digits, in browsers that tell them.
function read(text) {
  return JSON.parse(text, (_, value, at) => (Number.isInteger(value) && !Number.isSafeInteger(value) && at?.source ? at.source : value));
}

/// Sends one request. With a key it is sent again if its answer is lost, for the service does it once.
export async function call(path, body, { token, key } = {}) {
  const headers = {};
  if (token !== undefined) headers.token = token;
  if (key) headers['Idempotency-Key'] = key;
  for (let attempt = 1; ; attempt += 1) {
    const made = { path, headers, body, began: performance.now() };
    tell(made);
    let response;
    let text;
    const patience = new AbortController();
    const late = setTimeout(() => patience.abort(), ANSWER_MS);
    try {
      response = await fetch(path, { method: 'POST', headers, body: JSON.stringify(body), signal: patience.signal });
      clearTimeout(late);
      text = await response.text();
    } catch (error) {
      clearTimeout(late);
      Object.assign(made, { status: 0, ms: performance.now() - made.began });
      tell(made);
      if (!key || attempt === TRIES) throw new Refusal(path, 0, error.message, { unsure: !key && !HARMLESS.test(path) });
      await pause(LOST_PAUSE_MS * attempt);
      continue;
    }
    let answer = {};
    try {
      answer = read(text);
    } catch { /* Something between us and the service has answered. */ }
    const told = ['x-request-id', 'retry-after'].map((name) => [name, response.headers.get(name)]).filter(([, value]) => value);
    Object.assign(made, { status: response.status, ms: performance.now() - made.began, answer, answered: Object.fromEntries(told) });
    tell(made);
    if (response.status === 200) return answer;
    const retryAfter = Number(response.headers.get('retry-after')) || null;
    if (response.status === 503 && retryAfter && retryAfter <= WAIT_MAX_S && attempt < TRIES) {
      busy(retryAfter);
      await pause(retryAfter * 1000);
      busy(0);
      continue;
    }
    throw new Refusal(path, response.status, String(answer.message ?? response.statusText), { retryAfter });
  }
}

/// A new key for one intent.
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

const keys = new Map();

/// One key for what is the same intent, until it is done: what is clicked twice is sent twice and done once.
export async function once(intent, send) {
  if (!keys.has(intent)) keys.set(intent, newKey());
  const answer = await send(keys.get(intent));
  keys.delete(intent);
  return answer;
}
