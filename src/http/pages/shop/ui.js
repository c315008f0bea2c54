// Pieces that the views are made of.

import { byId, fill, h } from './dom.js';
import { call, Refusal } from './api.js';
import { nameOf, rememberTitle, Stopped, titleOf } from './session.js';
import { has, languageOf, money, t, time } from './words.js';

const LEARNED_MAX = 8;

/// What came of the last step, for eyes and ears. The kind is `good` or `bad`.
export function notice(kind, ...what) {
  fill(byId('notice'), h('div', { class: `note ${kind}` }, h('p', {}, what),
    h('button', { type: 'button', class: 'plain', 'aria-label': t('close'), onclick: () => fill(byId('notice')) }, '×')));
}

export const clearNotice = () => fill(byId('notice'));

/// Goes to a view, or draws it anew if one is there already.
export function go(hash) {
  if (location.hash === hash) dispatchEvent(new HashChangeEvent('hashchange'));
  else location.hash = hash;
}

let saying = null;

function goWith(hash, kind, what) {
  saying = { kind, what };
  go(hash);
}

/// Goes to a view and says there what has been done.
export const goSaying = (hash, ...what) => goWith(hash, 'good', what);

/// Goes to a view and tells there what went wrong.
export const goComplaining = (hash, error) => goWith(hash, 'bad', explain(error));

/// One has come to another view: what was said before is over.
export function arrived() {
  clearNotice();
  if (saying) notice(saying.kind, saying.what);
  saying = null;
}

/// An error in words.
export function explain(error) {
  if (!(error instanceof Refusal)) return [t('error.script'), error.message];
  const { code, retryAfter, message } = error;
  if (code === 0) return t(error.unsure ? 'error.lost.unsure' : 'error.lost');
  const name = code === 503 && !retryAfter ? 'code.503.unknown' : `code.${code}`;
  return [has(name) ? t(name) : t('error.other', { code }), retryAfter && ` ${t('error.wait', { seconds: retryAfter })}`,
    h('span', { class: 'said' }, t('error.server'), h('code', {}, `${code} ${message}`)),
    code === 519 && h('a', { href: '#/account' }, t('order.funds'))];
}

export function complain(error) {
  if (error instanceof Stopped) return;
  if (!(error instanceof Refusal)) console.error(error);
  notice('bad', explain(error));
}

/// A handler of clicks and submits: one at a time, and errors are told.
export function act(run) {
  let under_way = false;
  return async (event) => {
    event.preventDefault();
    if (under_way) return;
    under_way = true;
    const button = event.submitter ?? event.currentTarget;
    button.setAttribute('aria-busy', 'true');
    clearNotice();
    try {
      await run(event);
    } catch (error) {
      complain(error);
    } finally {
      under_way = false;
      button.removeAttribute('aria-busy');
    }
  };
}

export const button = (id, label, run, kind = '') => h('button', { id, type: 'button', class: kind, onclick: act(run) }, label);

/// A label and its field, one below the other. More attributes go to the field.
export function field(id, label, attributes = {}, hint = null) {
  const tag = attributes.rows ? 'textarea' : 'input';
  return h('div', { class: 'field' }, h('label', { for: id }, label),
    h(tag, { id, autocomplete: 'off', 'aria-describedby': hint && `${id}-hint`, ...attributes }),
    hint && h('p', { id: `${id}-hint`, class: 'quiet' }, hint));
}

/// The text of a field, without blanks around it.
export const valueOf = (id) => byId(id).value.trim();

/// Says what is wrong with a field and goes there.
export function wrongField(id, why) {
  notice('bad', why);
  byId(id).focus();
}

/// The heading of a view, which gets the focus when one comes there.
export const heading = (text, attributes = {}) => h('h1', { tabindex: '-1', ...attributes }, text);

/// A list of which a part is shown, and a button for more while there is more: who presses it is led to what is new.
export function inParts(all, size, item) {
  const list = h('ul', { class: 'plain' });
  let shown = 0;
  const draw = () => {
    const items = all.slice(shown, shown + size).map(item);
    list.append(...items);
    shown += items.length;
    more.hidden = shown >= all.length;
    return items[0];
  };
  const more = h('button', { type: 'button', class: 'more', onclick: () => draw()?.querySelector('a, button, summary')?.focus() }, t('more'));
  draw();
  return [list, more];
}

export const bookLink = (store, id) => `#/book/${encodeURIComponent(store)}/${encodeURIComponent(id)}`;
export const titleLink = (store, id, title, shown = title) => h('a', { href: bookLink(store, id), lang: languageOf(title) }, shown);
export const orderLink = (id) => `#/order/${encodeURIComponent(id)}`;
export const storeLink = (store) => `#/store/${encodeURIComponent(store)}`;

const TYPES = { '/9j/': 'jpeg', iVBOR: 'png', R0lGO: 'gif', UklGR: 'webp' };

/// What an `img` can show of a picture in base64; null for what is none.
export function pictureSource(base64) {
  const type = Object.entries(TYPES).find(([start]) => base64.startsWith(start));
  return type ? `data:image/${type[1]};base64,${base64}` : null;
}

/// Pictures that were seen, by store and book: a search answers without them.
export const pictures = new Map();

/// A cover: the picture, or one made of the title.
export function cover(store, book) {
  const source = pictures.get(nameOf(store, book.id));
  if (source) return h('img', { class: 'cover', src: source, alt: '' });
  const sum = [...book.title].reduce((all, letter) => (all * 31 + letter.codePointAt(0)) % 6, 0);
  return h('div', { class: `cover made made-${sum}`, 'aria-hidden': 'true' }, h('span', { lang: languageOf(book.title) }, [...book.title].slice(0, 24).join('')));
}

/// A text whose parts that a search has found are marked.
export function marked(text, words) {
  const letters = [...text];
  const on = new Array(letters.length).fill(false);
  let plain = '';
  const from = [];
  letters.forEach((letter, at) => {
    const as = letter.normalize('NFKC').toLowerCase();
    for (let unit = 0; unit < as.length; unit += 1) from.push(at);
    plain += as;
  });
  for (const word of words) {
    for (let at = plain.indexOf(word); at >= 0; at = plain.indexOf(word, at + word.length)) {
      for (let unit = at; unit < at + word.length; unit += 1) on[from[unit]] = true;
    }
  }
  const parts = [];
  letters.forEach((letter, at) => {
    if (at > 0 && on[at] === on[at - 1]) parts.at(-1).text += letter;
    else parts.push({ on: on[at], text: letter });
  });
  return parts.map((part) => (part.on ? h('mark', {}, part.text) : part.text));
}

export const wordsOf = (keyword) => keyword.normalize('NFKC').toLowerCase().split(/\s+/).filter(Boolean);

export const badge = (status) => h('span', { class: `badge ${status}`, 'data-status': status }, t(`status.${status}`));

/// Asks for titles that are not known yet, but not for many: a book comes whole.
export async function learnTitles(orders) {
  const lines = orders.flatMap((order) => order.books.map((line) => ({ store: order.store_id, id: line.id })));
  const unknown = new Map(lines.filter(({ store, id }) => !titleOf(store, id)).map((line) => [nameOf(line.store, line.id), line]));
  await Promise.all([...unknown.values()].slice(0, LEARNED_MAX).map(async ({ store, id }) => {
    try {
      const { book_info: info } = await call('/buyer/query_book', { store_id: store, book_id: id });
      rememberTitle(store, id, info.title);
    } catch { /* Then the id is shown. */ }
  }));
}

/// The lines of an order. Its books have ids; titles are those that were seen.
export function orderLines(order) {
  return h('ul', { class: 'lines' }, order.books.map((line) => h('li', {},
    titleLink(order.store_id, line.id, titleOf(order.store_id, line.id) ?? line.id),
    ` × ${line.count} · ${money(line.price)}`)));
}

const STEPS = ['placed', 'paid', 'shipped', 'extended', 'confirmed', 'canceled'];

/// What happened to an order, when, and by whom.
export function way(order) {
  const steps = STEPS.filter((step) => order.history[step]).map((step) => ({ step, ...order.history[step] }));
  steps.sort((one, other) => Date.parse(one.time) - Date.parse(other.time));
  return h('ol', { class: 'way' }, steps.map(({ step, time: when, by }) => h('li', { 'data-step': step },
    h('strong', {}, t(`way.${step}`)), ' ', h('time', { datetime: when }, time(when)), ' ',
    h('span', { class: 'quiet' }, t(`by.${by}`)),
    step === 'paid' && order.paid_to && h('span', { class: 'quiet' }, ` · ${t(`order.paid_to.${order.paid_to}`)}`))));
}
