// Who is using the page: the name and the token last as long as the tab, the password as long as the page. And the basket.

import { byId, fill, h, storage } from './dom.js';
import { call, newKey, Refusal } from './api.js';
import { t } from './words.js';

const USER = 'shop.user';
const TOKEN = 'shop.token';
const BASKET = 'shop.basket';
const TITLES = 'shop.titles';
/// Titles that are remembered, and how much of each.
const TITLES_MAX = 500;
const TITLE_MAX = 200;

const tab = storage('sessionStorage');

let password = null;

/// The person has changed his mind, which is no error.
export class Stopped extends Error {}

export const user = () => tab.get(USER);
const token = () => tab.get(TOKEN) ?? '';

export async function register(name, secret) {
  await call('/auth/register', { user_id: name, password: secret });
  await login(name, secret);
}

export async function login(name, secret) {
  const answer = await call('/auth/login', { user_id: name, password: secret, terminal: `shop ${newKey().slice(0, 8)}` });
  tab.set(USER, name);
  tab.set(TOKEN, answer.token);
  password = secret;
}

export async function logout() {
  const old = { name: user(), token: token() };
  tab.remove(USER);
  tab.remove(TOKEN);
  password = null;
  await call('/auth/logout', { user_id: old.name }, { token: old.token }).catch((error) => {
    // A token that is no longer valid needs no end.
    if (error.code !== 401) throw error;
  });
}

export async function changePassword(old, next) {
  await call('/auth/password', { user_id: user(), oldPassword: old, newPassword: next });
  // All tokens have ended.
  await login(user(), next);
}

/// Tells a keeper of passwords whose the password is.
export const whose = () => h('input', {
  class: 'unseen', autocomplete: 'username', value: user(), readonly: true, tabindex: '-1', 'aria-hidden': 'true',
});

/// The question that is open, if one is.
let question = null;

/// Who goes elsewhere does not answer.
export const stopAsking = () => question?.stop();

/// Asks for the password in a dialog. Who asks while it is open gets the same answer.
function ask(wrong) {
  if (question) return question.answer;
  const dialog = byId('ask');
  let settle;
  const answer = new Promise((given, stopped) => { settle = { given, stopped }; });
  const end = (how, what) => {
    question = null;
    dialog.close();
    fill(dialog);
    how(what);
  };
  const stop = () => end(settle.stopped, new Stopped());
  question = { answer, stop };
  const field = h('input', { id: 'ask-password', type: 'password', autocomplete: 'current-password', required: true });
  fill(dialog, h('form', {
    onsubmit: (event) => {
      event.preventDefault();
      end(settle.given, field.value);
    },
  },
  whose(), h('h2', { id: 'ask-title' }, t('ask.title', { user: user() })),
  h('p', { class: wrong ? 'bad' : 'quiet' }, t(wrong ? 'ask.wrong' : 'ask.about')),
  h('label', { for: 'ask-password' }, t('login.password')), field,
  h('div', { class: 'row' }, h('button', { class: 'primary', type: 'submit' }, t('ask.go')),
    h('button', { type: 'button', onclick: stop }, t('cancel')))));
  // That an earlier question was closed is told late, when this one is open.
  dialog.onclose = () => { if (!dialog.open) question?.stop(); };
  dialog.showModal();
  field.focus();
  return answer;
}

/// Sends a request that carries the password. If that is not known (the page was loaded anew) or not taken, it is asked for.
export async function withPassword(path, body, options) {
  for (let wrong = false; ;) {
    const secret = password ?? await ask(wrong);
    try {
      const answer = await call(path, { user_id: user(), ...body, password: secret }, options);
      password = secret;
      return answer;
    } catch (error) {
      if (error.code !== 401) throw error;
      password = null;
      wrong = true;
    }
  }
}

/// Sends a request that carries the token. An expired one is renewed, once.
export async function withToken(path, body, options = {}) {
  const send = () => call(path, { user_id: user(), ...body }, { ...options, token: token() });
  try {
    return await send();
  } catch (error) {
    if (!(error instanceof Refusal) || error.code !== 401) throw error;
    const answer = await withPassword('/auth/login', { terminal: 'shop' });
    tab.set(TOKEN, answer.token);
    return send();
  }
}

/// A map that was kept under this name.
function kept(name) {
  try {
    return new Map(JSON.parse(tab.get(name) ?? '[]'));
  } catch {
    return new Map();
  }
}

const keep = (name, map) => tab.set(name, JSON.stringify([...map]));

/// By store `{key, lines: [{id, title, price, count}]}`. The key is of this content: another content is another order.
export const basket = () => kept(BASKET);

export function basketCount() {
  return [...basket().values()].flatMap(({ lines }) => lines).reduce((sum, line) => sum + line.count, 0);
}

/// Puts `count` copies into the basket, or as many as there are with `set`; 0 takes the book out.
export function putIntoBasket(store, book, count, set = false) {
  const all = basket();
  const lines = all.get(store)?.lines ?? [];
  const line = lines.find((one) => one.id === book.id) ?? { id: book.id, count: 0 };
  Object.assign(line, { title: book.title, price: book.price, count: set ? count : line.count + count });
  const rest = lines.includes(line) ? lines : [...lines, line];
  const left = rest.filter((one) => one.count > 0);
  if (left.length) all.set(store, { key: newKey(), lines: left });
  else all.delete(store);
  keep(BASKET, all);
}

export function emptyBasket(store) {
  const all = basket();
  all.delete(store);
  keep(BASKET, all);
}

/// One text for a book of a store, whatever is in the two ids.
export const nameOf = (store, id) => JSON.stringify([store, id]);

/// Titles that were seen: orders know the ids of books only.
export function rememberTitle(store, id, title) {
  const all = kept(TITLES);
  // The newest are last, and stay longest.
  all.delete(nameOf(store, id));
  all.set(nameOf(store, id), [...title].slice(0, TITLE_MAX).join(''));
  keep(TITLES, new Map([...all].slice(-TITLES_MAX)));
}

export const titleOf = (store, id) => kept(TITLES).get(nameOf(store, id));
