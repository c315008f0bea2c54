// The API made visible: every request of the page, as it happens, without passwords and tokens.

import { byId, fill, h, scrollBox } from './dom.js';
import { watch } from './api.js';
import { t } from './words.js';

const KEPT = 60;
/// Longer texts (pictures, mostly) are cut.
const TEXT_MAX = 160;
const SECRET = new Set(['password', 'oldPassword', 'newPassword', 'token']);

const drawn = new Map();
let made = 0;

function shown(value) {
  const hide = (name, inner) => {
    if (SECRET.has(name)) return '•••';
    return typeof inner === 'string' && inner.length > TEXT_MAX ? `${inner.slice(0, TEXT_MAX)}… (${inner.length})` : inner;
  };
  return JSON.stringify(value, hide, 2);
}

function outcome(call) {
  if (call.status === undefined) return h('span', { class: 'quiet' }, t('calls.waiting'));
  const ms = t('calls.ms', { ms: call.ms < 10 ? call.ms.toFixed(1) : Math.round(call.ms) });
  if (call.status === 0) return [h('strong', { class: 'bad' }, t('calls.lost')), ' ', ms];
  return [h('strong', { class: call.status === 200 ? 'good' : 'bad' }, String(call.status)), ' ', h('span', { class: 'quiet' }, ms)];
}

const pre = (label, ...text) => scrollBox(h('pre', { role: 'group', 'aria-label': label }, text));

function draw(call) {
  const lines = (headers) => Object.entries(headers).map(([name, value]) => `${name}: ${SECRET.has(name) ? '•••' : value}\n`);
  const item = drawn.get(call) ?? h('li', {}, h('details', {}));
  const details = item.firstChild;
  fill(details, h('summary', {}, h('code', {}, `POST ${call.path}`), ' ', outcome(call)),
    h('p', { class: 'part' }, t('calls.sent')), pre(t('calls.sent'), lines(call.headers), shown(call.body)),
    call.answer && [h('p', { class: 'part' }, t('calls.answered')), pre(t('calls.answered'), lines(call.answered), shown(call.answer))],
    // By the name that the route has there.
    h('p', {}, h('a', { href: `/docs#${call.path.slice(1).replaceAll('/', '_')}` }, t('calls.about'))));
  if (!drawn.has(call)) {
    made += 1;
    drawn.set(call, item);
    byId('calls-list').prepend(item);
    if (drawn.size > KEPT) {
      const [oldest] = drawn.keys();
      drawn.get(oldest).remove();
      drawn.delete(oldest);
    }
  }
}

/// The words of the panel, in the language of now.
export function drawPanel() {
  fill(byId('calls-title'), t('calls.title'), ` (${made})`);
  byId('calls-none').hidden = made > 0;
  fill(byId('calls-none'), t('calls.none'));
}

export function startPanel() {
  watch((call) => {
    draw(call);
    drawPanel();
  });
  drawPanel();
}

export function redrawPanel() {
  for (const call of drawn.keys()) draw(call);
  drawPanel();
}
