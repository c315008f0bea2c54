// Who is using the page: the name and the token last as long as the tab, the password as long as the page. And the basket.

import { byId, fill, h } from './dom.js';
import { call, newKey, Refusal } from './api.js';
import { t } from './words.js';

const USER = 'shop.user';
const TOKEN = 'shop.token';
const BASKET = 'shop.basket';
const TITLES = 'shop.titles';

let password = null;

/// The person has changed his mind, which is no error.
export class Stopped extends Error {}

export const user = () => sessionStorage.getItem(USER);
const token = () => sessionStorage.getItem(TOKEN) ?? '';

export async function register(name, secret) {
  await call('/auth/register', { user_id: name, password: secret });
  await login(name, secret);
}

export async function login(name, secret) {
  const answer = await call('/auth/login', { user_id: name, password: secret, terminal: `shop ${newKey().slice(0, 8)}` });
  sessionStorage.setItem(USER, name);
  sessionStorage.setItem(TOKEN, answer.token);
  password = secret;
}

export async function logout() {
  const old = { name: user(), token: token() };
  sessionStorage.removeItem(USER);
  sessionStorage.removeItem(TOKEN);
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

/// Asks for the password in a dialog.
function ask(wrong) {
  return new Promise((given, stopped) => {
    const dialog = byId('ask');
    const field = h('input', { id: 'ask-password', type: 'password', autocomplete: 'current-password', required: true });
    let done = false;
    fill(dialog, h('form', {
      onsubmit: (event) => {
        event.preventDefault();
        done = true;
        dialog.close();
        given(field.value);
      },
    },
    whose(), h('h2', { id: 'ask-title' }, t('ask.title', { user: user() })),
    h('p', { class: wrong ? 'bad' : 'quiet' }, t(wrong ? 'ask.wrong' : 'ask.about')),
    h('label', { for: 'ask-password' }, t('login.password')), field,
    h('div', { class: 'row' }, h('button', { class: 'primary', type: 'submit' }, t('ask.go')),
      h('button', { type: 'button', onclick: () => dialog.close() }, t('cancel')))));
    dialog.onclose = () => { if (!done) stopped(new Stopped()); };
    dialog.showModal();
    field.focus();
  });
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
    sessionStorage.setItem(TOKEN, answer.token);
    return send();
  }
}

const kept = (name) => JSON.parse(sessionStorage.getItem(name) ?? '{}');
const keep = (name, value) => sessionStorage.setItem(name, JSON.stringify(value));

/// `{store: {key, lines: [{id, title, price, count}]}}`. The key is of this content: another content is another order.
export const basket = () => kept(BASKET);

export function basketCount() {
  return Object.values(basket()).flatMap(({ lines }) => lines).reduce((sum, line) => sum + line.count, 0);
}

/// Puts `count` copies into the basket, or as many as there are with `set`; 0 takes the book out.
export function putIntoBasket(store, book, count, set = false) {
  const all = basket();
  const lines = all[store]?.lines ?? [];
  const line = lines.find((one) => one.id === book.id) ?? { id: book.id, count: 0 };
  Object.assign(line, { title: book.title, price: book.price, count: set ? count : line.count + count });
  const rest = lines.includes(line) ? lines : [...lines, line];
  const left = rest.filter((one) => one.count > 0);
  if (left.length) all[store] = { key: newKey(), lines: left };
  else delete all[store];
  keep(BASKET, all);
}

export function emptyBasket(store) {
  const all = basket();
  delete all[store];
  keep(BASKET, all);
}

/// Titles that were seen: orders know the ids of books only.
export function rememberTitle(store, id, title) {
  keep(TITLES, { ...kept(TITLES), [`${store}/${id}`]: title });
}

export const titleOf = (store, id) => kept(TITLES)[`${store}/${id}`];
