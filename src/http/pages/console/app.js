// The console. It asks /admin/status once a second and shows what comes back; rates and latencies are differences of two
// answers, so the service keeps nothing for this page.

import { scrollBox, storage } from './dom.js';

const POLL_MS = 1000;
/** Two answers that are closer make no rate: after an action one is asked for out of turn. */
const STEP_LEAST_MS = 500;
const POLL_HIDDEN_MS = 10_000;
const TIMEOUT_MS = 5000;
/** Pauses after one, two, … failures. */
const RETRY_MS = [1000, 2000, 5000];
/** Of the charts. */
const SPAN_MS = 300_000;
/** What a chart shows at least, so that the first seconds are no blocks. */
const SPAN_LEAST_MS = 60_000;
/** Of the figures, and of the table of routes. */
const FIGURES_MS = 3000;
const ROUTES_MS = 10_000;
const TOKEN = 'bookstore console token';
/** Answers of limits and of an overload: nothing was judged. */
const TURNED_AWAY = new Set(['408', '413', '414', '429', '431', '503']);

const $ = (id) => document.getElementById(id);
const show = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };

/** An element with attributes and children; texts stay texts. */
function el(name, attributes = {}, ...children) {
  const svg = ['svg', 'path', 'line', 'rect'].includes(name);
  const made = svg ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'on') made.addEventListener('click', value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Numbers as people read them.
const whole = (value) => value.toLocaleString('en');
const rate = (value) => (value >= 100 ? whole(Math.round(value)) : value >= 10 ? value.toFixed(1) : value === 0 ? '0' : value.toFixed(2));
function yuan(fen) {
  const value = BigInt(fen);
  const size = value < 0n ? -value : value;
  return `${value < 0n ? '−' : ''}¥${whole(size / 100n)}.${(size % 100n).toString().padStart(2, '0')}`;
}
/** Sums of money or copies may be longer than a number here can be. */
const plus = (one, other) => BigInt(one) + BigInt(other);
const TIME = { dateStyle: 'short', timeStyle: 'long' };
const time = (text) => (text ? new Date(text).toLocaleString('sv-SE', TIME) : '–');
function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(count > 0 ? Math.floor(Math.log2(count) / 10) : 0, units.length - 1);
  return `${(count / 1024 ** power).toFixed(power > 0 && count / 1024 ** power < 100 ? 1 : 0)} ${units[power]}`;
}
function millis(ms) {
  if (ms === null) return '–';
  if (ms === 0) return '< 1 ms';
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  return ms < 1000 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

/** What of `counts` lies below: in ms, within its bucket as if evenly spread; null if there is none. */
function quantile(bounds, counts, share) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all === 0) return null;
  let left = all * share;
  for (let at = 0; at < counts.length; at += 1) {
    if (left <= counts[at] && counts[at] > 0) {
      const low = at === 0 ? 0 : bounds[at - 1];
      const high = at < bounds.length ? bounds[at] : low;
      return (low + (high - low) * (left / counts[at])) / 1000;
    }
    left -= counts[at];
  }
  return bounds.at(-1) / 1000;
}
const minus = (now, before) => now.map((count, at) => count - (before?.[at] ?? 0));

// --- Asking ---------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const tab = storage('sessionStorage');
const token = { get: () => tab.get(TOKEN), set: (value) => tab.set(TOKEN, value), forget: () => tab.remove(TOKEN) };

/** Integers that are too long for a number come exact, in browsers that tell their digits. */
const exact = (_, value, at) => (Number.isInteger(value) && !Number.isSafeInteger(value) && at?.source ? BigInt(at.source) : value);

/** Sends a request of the admin routes. Throws `Refused` for every answer but 200; what else is thrown is the network. */
async function ask(route, body = null, timeout = null) {
  const headers = { 'content-type': 'application/json' };
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  const signal = timeout ? AbortSignal.timeout(timeout) : null;
  const answer = await fetch(`/admin/${route}`, { method: 'POST', headers, body: body && JSON.stringify(body), signal, cache: 'no-store' });
  const told = JSON.parse(await answer.text(), exact);
  if (answer.status !== 200) throw new Refused(answer.status, told.message);
  return told;
}

// --- What was seen --------------------------------------------------------------------------------------------------

/** Samples of the last minutes, oldest first. */
let seen = [];

/** Of a status what rates are made of. */
function sample(status) {
  const classes = [0, 0, 0];
  const us = status.http.bounds_us.map(() => 0).concat(0);
  const routes = new Map();
  for (const { path, codes, us: counts } of status.http.routes) {
    const here = [0, 0, 0];
    for (const [code, count] of Object.entries(codes)) {
      here[code === '200' ? 0 : TURNED_AWAY.has(code) ? 2 : 1] += count;
    }
    here.forEach((count, at) => { classes[at] += count; });
    counts.forEach((count, at) => { us[at] += count; });
    routes.set(path, { classes: here, us: counts });
  }
  const { journal, permits } = status;
  return {
    at: performance.now(),
    clock: status.uptime_ms,
    classes,
    us,
    routes,
    events: journal.events,
    written: journal.bytes,
    batches: journal.batches,
    syncs: journal.syncs.us,
    permits: permits.in_use,
  };
}

/** The sample to compare with: the youngest that is at least so old, or the oldest. */
function before(now, age) {
  return seen.findLast((one) => now.clock - one.clock >= age) ?? seen[0];
}
const seconds = (now, then) => Math.max((now.clock - then.clock) / 1000, 0.001);

/** Rates between two samples. */
function between(bounds, now, then) {
  const took = seconds(now, then);
  const us = minus(now.us, then.us);
  return {
    classes: minus(now.classes, then.classes).map((count) => count / took),
    p50: quantile(bounds, us, 0.5),
    p99: quantile(bounds, us, 0.99),
    events: (now.events - then.events) / took,
    batches: (now.batches - then.batches) / took,
    written: (now.written - then.written) / took,
  };
}

// --- Charts ---------------------------------------------------------------------------------------------------------

/** Next round number that is no less. */
function ceiling(value) {
  if (value <= 0) return 1;
  const ten = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * ten).find((step) => step >= value);
}

/** Lines over the last minutes, in a box of 1000 × 100 that is stretched. A null is a gap. */
class Chart {
  constructor(id, names, format) {
    this.box = $(id);
    this.format = format;
    this.points = [];
    this.paths = names.map((_, at) => el('path', { class: `series-${at}`, 'vector-effect': 'non-scaling-stroke' }));
    this.cursor = el('line', { class: 'cursor', y1: 0, y2: 100, visibility: 'hidden', 'vector-effect': 'non-scaling-stroke' });
    const grid = [0.5, 50, 99.5].map((y) => el('line', { class: 'grid', x1: 0, x2: 1000, y1: y, y2: y, 'vector-effect': 'non-scaling-stroke' }));
    this.svg = el('svg', { viewBox: '0 0 1000 100', preserveAspectRatio: 'none', role: 'img', 'aria-label': 'nothing was seen yet' }, ...grid, ...this.paths, this.cursor);
    this.top = el('span', { class: 'top' });
    this.axis = el('span');
    this.values = names.map(() => el('b', {}, '–'));
    const key = (at) => el('svg', { viewBox: '0 0 30 10', 'aria-hidden': 'true' }, el('line', { class: `series-${at}`, x1: 0, x2: 30, y1: 5, y2: 5 }));
    const legend = el('ul', {}, ...names.map((name, at) => el('li', {}, key(at), `${name} `, this.values[at])));
    this.box.append(
      el('div', { class: 'plot' }, this.svg, this.top),
      el('div', { class: 'axis', 'aria-hidden': 'true' }, this.axis, el('span', {}, 'now')),
      legend,
    );
    this.svg.addEventListener('pointermove', (event) => this.point((event.clientX - this.svg.getBoundingClientRect().left) / this.svg.clientWidth));
    this.svg.addEventListener('pointerleave', () => { this.pointed = null; this.draw(); });
  }

  add(at, values) {
    this.points.push({ at, values });
    const first = this.points.findIndex((point) => at - point.at <= SPAN_MS);
    if (first > 0) this.points.splice(0, first);
  }

  point(share) {
    this.pointed = share;
    this.draw();
  }

  draw() {
    const last = this.points.at(-1);
    if (!last) return;
    const high = this.points.reduce((most, point) => Math.max(most, ...point.values.map((value) => value ?? 0)), 0);
    const top = ceiling(high);
    const width = Math.max(last.at - this.points[0].at, SPAN_LEAST_MS);
    const x = (point) => 1000 * (1 - (last.at - point.at) / width);
    this.paths.forEach((path, at) => {
      let pen = 'M';
      const steps = this.points.map((point) => {
        const value = point.values[at];
        if (value === null) { pen = 'M'; return ''; }
        const step = `${pen}${x(point).toFixed(1)} ${(99.5 - 99 * (value / top)).toFixed(1)}`;
        pen = 'L';
        return step;
      });
      path.setAttribute('d', steps.join('') || 'M0 0');
    });
    const wanted = this.pointed == null ? null : this.points.reduce((best, point) => (Math.abs(x(point) / 1000 - this.pointed) < Math.abs(x(best) / 1000 - this.pointed) ? point : best));
    this.cursor.setAttribute('visibility', wanted ? 'visible' : 'hidden');
    for (const end of ['x1', 'x2']) this.cursor.setAttribute(end, wanted ? x(wanted) : 0);
    this.axis.textContent = `${span((wanted ? last.at - wanted.at : width) / 1000)} ago`;
    this.top.textContent = this.format(top);
    const shown = wanted ?? last;
    this.values.forEach((value, at) => { value.textContent = shown.values[at] === null ? '–' : this.format(shown.values[at]); });
    const title = this.box.closest('section').querySelector('h2').textContent;
    const text = `${title}, up to five minutes back: highest ${this.format(high)}`;
    if (this.svg.getAttribute('aria-label') !== text) this.svg.setAttribute('aria-label', text);
  }
}

const charts = {
  throughput: new Chart('chart-throughput', ['done', 'refused', 'turned away'], (value) => `${rate(value)}/s`),
  latency: new Chart('chart-latency', ['p50', 'p99'], millis),
  journal: new Chart('chart-journal', ['events', 'syncs'], (value) => `${rate(value)}/s`),
  permits: new Chart('chart-permits', ['in flight'], (value) => whole(Math.round(value))),
};

/** A bar of which a part is filled. */
function bar(share) {
  return el('svg', { viewBox: '0 0 100 1', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, el('rect', { width: (100 * share).toFixed(2), height: 1 }));
}
const share = (part, all) => (all > 0 ? part / all : 0);

// --- Showing --------------------------------------------------------------------------------------------------------

function facts(list, pairs) {
  list.replaceChildren(...pairs.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))));
}

/** Columns of a table: names, and classes of their cells. The first names its row. */
const columns = (...names) => names.map((name) => (Array.isArray(name) ? { name: name[0], kind: name[1] } : { name, kind: '' }));

/** A row. Each cell has its column's name beside it, for screens on which a row is a block. */
function row(cols, cells) {
  return el('tr', {}, ...cells.map((cell, at) => {
    const { name, kind } = cols[at];
    return at === 0 ? el('th', { scope: 'row', class: kind }, cell) : el('td', { class: kind, 'data-name': name }, cell);
  }));
}

function table(label, cols, rows) {
  const head = el('thead', {}, el('tr', {}, ...cols.map(({ name, kind }) => el('th', { scope: 'col', class: kind === 'number' ? kind : '' }, name))));
  const body = el('tbody', {}, ...rows.map((cells) => row(cols, cells)));
  return scrollBox(el('div', { class: 'scroll', role: 'region', 'aria-label': label }, el('table', {}, head, body)));
}

function showRates(status, now) {
  const bounds = status.http.bounds_us;
  const last = seen.at(-1);
  if (last && Math.min(now.clock - last.clock, now.at - last.at) < STEP_LEAST_MS) return;
  if (last) {
    const step = between(bounds, now, last);
    charts.throughput.add(now.at, step.classes);
    charts.latency.add(now.at, [step.p50, step.p99]);
    charts.journal.add(now.at, [step.events, step.batches]);
  }
  charts.permits.add(now.at, [now.permits]);
  seen.push(now);
  // Of a page that slept the one before is old, and still what there is to compare with.
  seen = seen.filter((one, at) => now.clock - one.clock <= 2 * ROUTES_MS || at >= seen.length - 2);
  if (last) {
    const then = before(now, FIGURES_MS);
    const figures = between(bounds, now, then);
    show('rate', rate(figures.classes.reduce((sum, value) => sum + value, 0)));
    show('p99', millis(figures.p99));
    show('events', rate(figures.events));
    show('journal-bytes', `${bytes(figures.written)}/s, ${bytes(now.written)} in all`);
    show('batch', figures.batches > 0 ? (figures.events / figures.batches).toFixed(1) : '–');
    const syncs = minus(now.syncs, before(now, ROUTES_MS).syncs);
    const sync = [0.5, 0.99].map((part) => millis(quantile(status.journal.syncs.bounds_us, syncs, part)));
    show('sync', sync.join(', '));
  }
  for (const chart of Object.values(charts)) chart.draw();
  showRoutes(bounds, now, before(now, ROUTES_MS));
}

const ROUTES = columns(['Route', 'mono'], ...['per second', 'p50', 'p99', 'done', 'refused', 'turned away'].map((name) => [name, 'number']));

function showRoutes(bounds, now, then) {
  const rows = [...now.routes].map(([path, { classes, us }]) => {
    const old = then.routes.get(path);
    const step = minus(us, old?.us);
    const lately = minus(classes, old?.classes).reduce((sum, count) => sum + count, 0) / seconds(now, then);
    const cells = [rate(lately), millis(quantile(bounds, step, 0.5)), millis(quantile(bounds, step, 0.99)), ...classes.map(whole)];
    return row(ROUTES, [path, ...cells]);
  });
  const nothing = el('tr', {}, el('td', { colspan: 7, class: 'quiet' }, 'nothing was asked yet'));
  $('routes').replaceChildren(...(rows.length > 0 ? rows : [nothing]));
}

function showOrders({ orders, net_put_in }) {
  show('put-in', yuan(net_put_in));
  if (!orders) return;
  const age = `counted ${span(orders.age_s)} ago in ${millis(orders.took_ms)}, beside the traffic`;
  show('orders-age', orders.error ? `could not be counted ${span(orders.age_s)} ago: ${orders.error}` : age);
  if (orders.error) return;
  const states = Object.entries(orders.by_state);
  const all = states.reduce((sum, [, count]) => sum + count, 0);
  const line = ([name, count]) => el('tr', {}, el('th', { scope: 'row' }, name), el('td', {}, bar(share(count, all))), el('td', { class: 'number' }, whole(count)));
  // Confirmation goes through `received` in one step: an order rests there only if it came from another system.
  $('states').replaceChildren(...states.filter(([name, count]) => name !== 'received' || count > 0).map(line));
  show('orders-all', whole(all));
  show('escrow', yuan(orders.escrow));
  show('with-users', yuan(plus(net_put_in, -orders.escrow)));
}

function showAudit(audit) {
  if (!audit) return;
  const sound = audit.is_conserved && audit.contradictions === 0;
  $('verdict').className = sound ? 'good' : 'bad';
  show('verdict', `${sound ? '✔ All money and all copies are there' : '✘ Money or copies do not add up'}: audited ${span(audit.age_s)} ago in ${millis(audit.took_ms)}.`);
  const sign = (sum, whole) => (sum === BigInt(whole) ? '=' : '≠');
  facts($('audit-facts'), [
    ['Balances + escrow = put in', `${yuan(audit.balances)} + ${yuan(audit.escrow)} ${sign(plus(audit.balances, audit.escrow), audit.net_put_in)} ${yuan(audit.net_put_in)}`],
    ['Copies on shelves + ordered = put in', `${whole(audit.stock)} + ${whole(audit.ordered)} ${sign(plus(audit.stock, audit.ordered), audit.stock_put_in)} ${whole(audit.stock_put_in)}`],
    ['Contradictions', whole(audit.contradictions)],
  ]);
}

function showGauges(status) {
  const { journal, permits, http, snapshots, actors, cold, disk, search } = status;
  show('head', whole(journal.head));
  show('lag', whole(Math.max(journal.head - journal.durable, 0)));
  show('permits', whole(permits.in_use));
  show('permits-max', `of ${whole(permits.max)}`);
  show('limit', http.commands_limit === null ? 'not crowded' : whole(http.commands_limit));
  show('shed', whole(http.shed));
  show('connections', `${whole(http.connections)} of ${whole(http.connections_max)}`);
  show('bodies', `${bytes(http.body_bytes)} of ${bytes(http.body_bytes_max)}`);
  show('hashes', whole(status.password_hashes));
  show('snapshot-age', snapshots.taken > 0 ? span(snapshots.age_s) : 'none');
  show('snapshot-since', snapshots.taken > 0 ? 'old' : 'since the start');
  show('snapshot-took', snapshots.taken > 0 ? millis(snapshots.took_ms) : '–');
  show('snapshots', whole(snapshots.taken));
  show('snapshot-failures', whole(snapshots.failures));
  $('snapshot-failures').className = snapshots.failures > 0 ? 'bad' : '';
  show('awake', whole(actors.awake));
  show('asleep', whole(actors.asleep));
  $('bar-actors').replaceChildren(bar(share(actors.awake, actors.awake + actors.asleep)));
  show('accounts', whole(status.accounts));
  show('stores', whole(status.stores));
  show('at-rest', whole(cold.orders_at_rest));
  show('in-memory', whole(cold.orders_in_memory));
  $('bar-cold').replaceChildren(bar(share(cold.orders_at_rest, cold.orders_at_rest + cold.orders_in_memory)));
  show('left', whole(cold.orders_left));
  show('rows', whole(cold.rows_written));
  show('documents', whole(cold.document_commits));
  show('free', `${disk.free_bytes === null ? '–' : bytes(disk.free_bytes)}${disk.low ? ': too little, changes are refused' : ''}`);
  $('free').className = disk.low ? 'bad' : '';
  show('books', whole(search.books));
  show('index-state', search.ready ? `ready, rebuilt in ${millis(search.rebuild_ms)}` : 'is being rebuilt');
  show('tokens', whole(search.tokens));
  show('index-bytes', bytes(search.index_bytes));
  show('unread', whole(search.unread));
}

// --- The state of the service, and of this page ---------------------------------------------------------------------

let lost = null;
let wasDraining = false;

function state(name, text = name) {
  show('state', text);
  $('state').dataset.state = name;
  document.title = `${text} · bookstore console`;
}

function banner(text) {
  $('banner').hidden = !text;
  show('banner', text ?? '');
}

function actions(enabled) {
  for (const id of ['snapshot', 'audit', 'drain']) $(id).disabled = !enabled;
}

function reached(status) {
  if (seen.length > 0 && status.uptime_ms < seen.at(-1).clock) seen = [];
  lost = null;
  const serving = status.state === 'serving';
  wasDraining = status.state === 'draining';
  state(serving || wasDraining ? status.state : 'failed', status.state);
  banner(serving || wasDraining ? null : `The service answers, but does not serve: ${status.state}. Its log says why.`);
  const about = `${location.host} · version ${status.version} · ${status.http.mode} · up ${span(status.uptime_ms / 1000)}`;
  show('about', about);
  $('figures').hidden = false;
  $('ask-token').hidden = true;
  $('forget').hidden = !token.get();
  actions(serving);
  showRates(status, sample(status));
  showGauges(status);
  showOrders(status);
  showAudit(status.audit);
}

function unreached(error) {
  actions(false);
  if (error instanceof Refused && error.code === 401) {
    $('figures').hidden = true;
    if ($('ask-token').hidden) {
      $('ask-token').hidden = false;
      $('token').focus();
    }
    show('token-told', token.get() ? 'That is not the token.' : '');
    token.forget();
    $('forget').hidden = true;
    state('connecting', 'wants a token');
    return banner(null);
  }
  if (error instanceof Refused) {
    state('failed', 'refused');
    return banner(`The service refuses: ${error.message}`);
  }
  if (!lost) {
    lost = new Date();
    // A gap in the charts, not a line across what nobody saw.
    for (const chart of Object.values(charts)) chart.add(performance.now(), chart.paths.map(() => null));
  }
  const since = lost.toLocaleTimeString('en-GB');
  state('lost', wasDraining ? 'drained' : 'not reachable');
  banner(wasDraining
    ? `The service was drained: since ${since} nobody answers, and it ends when its last snapshot is written. The figures are the last ones.`
    : `Not reachable since ${since}. The figures are from then; this page tries again by itself.`);
}

let timer = 0;
let failures = 0;
let polling = false;

async function poll() {
  if (polling) return;
  polling = true;
  clearTimeout(timer);
  try {
    const status = await ask('status', null, TIMEOUT_MS);
    failures = 0;
    reached(status);
  } catch (error) {
    failures += 1;
    unreached(error);
  }
  polling = false;
  // Without a token there is nothing to ask.
  if (!$('ask-token').hidden) return;
  const pause = failures > 0 ? RETRY_MS[Math.min(failures, RETRY_MS.length) - 1] : POLL_MS;
  timer = setTimeout(poll, document.hidden ? POLL_HIDDEN_MS : pause);
}

document.addEventListener('visibilitychange', () => { if (!document.hidden) poll(); });
window.addEventListener('online', poll);

$('ask-token').addEventListener('submit', (event) => {
  event.preventDefault();
  token.set($('token').value.trim());
  $('token').value = '';
  poll();
});
$('forget').addEventListener('click', () => {
  token.forget();
  poll();
});

// --- Actions --------------------------------------------------------------------------------------------------------

const busy = new Set();

/** Runs an action once, and tells what came of it. */
async function act(id, doing, done) {
  if (busy.has(id)) return;
  busy.add(id);
  // Not disabled: who works by keys would lose his place.
  $(id).setAttribute('aria-disabled', 'true');
  $('said').className = 'quiet';
  show('said', doing);
  try {
    const told = await ask(id);
    $('said').className = 'good';
    show('said', done(told));
  } catch (error) {
    $('said').className = 'bad';
    show('said', error instanceof Refused ? `Refused: ${error.message}` : 'No answer came: look whether the service is reachable.');
  }
  busy.delete(id);
  $(id).removeAttribute('aria-disabled');
  poll();
}

$('snapshot').addEventListener('click', () => act('snapshot', 'Taking a snapshot …', (told) => {
  const file = told.path ? told.path.split('/').at(-1) : 'in memory';
  return `Snapshot taken: ${file}, ${bytes(told.bytes)}, ${whole(told.rows)} rows, in ${millis(told.took_ms)}.`;
}));
$('audit').addEventListener('click', () => act('audit', 'Auditing; requests wait …', ({ audit }) => {
  showAudit(audit);
  const sound = audit.is_conserved && audit.contradictions === 0;
  return `Audited ${whole(audit.accounts)} users, ${whole(audit.stores)} stores, ${whole(audit.orders)} orders: ${sound ? 'all is there' : 'it does NOT add up'}.`;
}));
$('drain').addEventListener('click', () => $('confirm-drain').showModal());
$('drain-no').addEventListener('click', () => $('confirm-drain').close());
$('drain-yes').addEventListener('click', () => {
  $('confirm-drain').close();
  wasDraining = true;
  act('drain', 'Draining …', () => 'Draining: what was asked is answered, then the service ends.');
});

// --- Looking up -----------------------------------------------------------------------------------------------------

const link = (text, on, name = text) => el('button', { type: 'button', class: 'link', on, 'aria-label': name }, text);

function found(...nodes) {
  $('found').replaceChildren(...nodes);
}

scrollBox(document.querySelector('.scroll'));

let looked = 0;

/** Asks and shows; of several questions at once the last one counts. Who hears the page is told the heading alone. */
async function find(route, body, shown) {
  looked += 1;
  const mine = looked;
  const stays = $('found').contains(document.activeElement);
  $('found').setAttribute('aria-busy', 'true');
  let told = null;
  let why = null;
  try {
    told = await ask(route, body);
  } catch (error) {
    why = error instanceof Refused ? error.message : 'No answer came.';
  }
  if (mine !== looked) return;
  $('found').removeAttribute('aria-busy');
  if (told) shown(told);
  else found(el('p', { class: 'bad' }, why));
  const heading = $('found').firstElementChild;
  $('found-said').textContent = heading.textContent;
  if (stays) {
    // What had the focus is gone.
    heading.tabIndex = -1;
    heading.focus();
  }
}

function findOrder(id) {
  $('order-id').value = id;
  return find('order', { order_id: id }, ({ order }) => {
    const list = el('dl', { class: 'facts' });
    facts(list, [
      ['State', order.status],
      ['Buyer', link(order.user_id, () => findUser(order.user_id), `user ${order.user_id}`)],
      ['Store', order.store_id],
      ['Total', yuan(order.total_price)],
      ['Paid to', order.paid_to ?? 'nobody'],
      order.status === 'pending' ? ['Canceled unless paid by', time(order.deadline)] : ['Confirmed by itself', time(order.confirm_deadline)],
    ]);
    const steps = Object.entries(order.history).filter(([, step]) => step)
      .sort(([, one], [, other]) => one.time.localeCompare(other.time));
    const way = el('ol', { class: 'way' }, ...steps.map(([name, step]) => el('li', { class: 'done' }, el('b', {}, name), ` ${time(step.time)}, by the ${step.by}`)));
    const lines = order.books.map((book) => [book.id, whole(book.count), yuan(book.price)]);
    found(el('h3', {}, `Order ${order.order_id}`), list, el('h3', {}, 'History'), way, el('h3', {}, 'Lines'), table('Lines', columns(['Book', 'mono'], ['Copies', 'number'], ['Price', 'number']), lines));
  });
}

function findUser(id) {
  $('user-id').value = id;
  return find('user', { user_id: id }, ({ user, newest_orders: newest }) => {
    const list = el('dl', { class: 'facts' });
    facts(list, [
      ['Balance', yuan(user.balance)],
      ['Put in, less taken out', yuan(user.net_put_in)],
      ['Orders', `${whole(user.orders)}, ${whole(user.open_orders)} open`],
      ['Password', user.is_password_remembered ? 'verified lately' : 'not verified lately'],
      ['Tokens', `${user.remembered_tokens} used lately, ${user.revoked_tokens} revoked`],
      ['Keys of deposits', whole(user.deposit_keys)],
      ['Wrong passwords, last minute', whole(user.wrong_passwords)],
      ['Throttled', user.throttled_s === null ? 'no' : `for ${user.throttled_s} s more`],
    ]);
    const parts = [el('h3', {}, `User ${user.user_id}`), list];
    if (user.stores.length > 0) {
      const rows = user.stores.map((store) => [store.store_id, whole(store.books), store.is_closed ? 'closed' : 'open']);
      parts.push(el('h3', {}, 'Stores'), table(`Stores of ${user.user_id}`, columns('Store', ['Books', 'number'], 'State'), rows));
    }
    if (newest === null) {
      parts.push(el('p', { class: 'quiet' }, 'There are too many orders to list the newest.'));
    } else if (newest.length > 0) {
      const rows = newest.map((order) => [
        link(order.order_id, () => findOrder(order.order_id), `order ${order.order_id}`),
        order.store_id,
        order.status,
        yuan(order.total_price),
        time(order.created_time),
      ]);
      const title = newest.length < user.orders ? `The newest ${newest.length} of ${whole(user.orders)} orders` : 'Orders';
      parts.push(el('h3', {}, title), table(`Orders of ${user.user_id}`, columns('Order', 'Store', 'State', ['Total', 'number'], 'Placed'), rows));
    }
    found(...parts);
  });
}

function findBooks(keyword, page = 1) {
  return find('search', { keyword, page, page_size: 20 }, (told) => {
    const text = (value) => (value ? String(value) : '–');
    const rows = told.books.map((book) => [text(book.title), text(book.author), book.id, book.store_id, yuan(book.price), whole(book.stock_level)]);
    const cols = columns('Title', 'Author', ['Id', 'mono'], 'Store', ['Price', 'number'], ['Copies', 'number']);
    const pages = Math.max(1, Math.ceil(told.total / told.page_size));
    const turn = (text, to) => el('button', { type: 'button', on: () => findBooks(keyword, to), ...(to < 1 || to > pages ? { disabled: '' } : {}) }, text);
    const parts = [el('h3', {}, `${whole(told.total)} ${told.total === 1 ? 'book' : 'books'} for “${keyword}”`), table('Books', cols, rows)];
    if (pages > 1) parts.push(el('div', { class: 'actions' }, turn('Previous', page - 1), el('span', {}, `page ${page} of ${pages}`), turn('Next', page + 1)));
    found(...parts);
  });
}

for (const [form, field, go] of [['find-order', 'order-id', findOrder], ['find-user', 'user-id', findUser], ['find-books', 'keyword', findBooks]]) {
  $(form).addEventListener('submit', (event) => {
    event.preventDefault();
    go($(field).value.trim());
  });
}

poll();
