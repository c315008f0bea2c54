// The page at /shop: which view is shown, and what stands around it.

import { byId, fill, h } from './dom.js';
import { onBusy, Refusal } from './api.js';
import { Stopped, stopAsking, user } from './session.js';
import { locale, otherLocale, switchLanguage, t } from './words.js';
import { arrived, clearNotice, explain, go, heading, notice } from './ui.js';
import { account, basketView, book, drawBasketCount, home, loginView, logoutButton, order, orders } from './views.js';
import { selling, store } from './seller.js';
import { redrawPanel, startPanel } from './panel.js';

const VIEWS = { '': home, search: home, book, basket: basketView, login: loginView, order, orders, account, selling, store };
/// The place in the navigation that a view belongs to, if it has another name.
const PLACES = { search: '', book: '', order: 'orders', store: 'selling' };
const FOR_USERS = ['order', 'orders', 'account', 'selling', 'store'];

/// Which drawing is under way: one that was overtaken is not shown.
let drawing = 0;

function drawAround(name) {
  document.documentElement.lang = locale();
  document.title = t('shop');
  fill(byId('skip'), t('skip'));
  fill(byId('brand'), t('shop'));
  const place = (view, label, id) => h('li', {}, h('a', { href: `#/${view}`, id, 'aria-current': view === (PLACES[name] ?? name) && 'page' }, label));
  const me = user();
  fill(byId('places'), place('', t('nav.search')),
    place('basket', [t('nav.basket'), h('span', { id: 'basket-count' })], 'go-basket'),
    place('orders', t('nav.orders'), 'go-orders'), place('selling', t('nav.selling'), 'go-selling'),
    me ? place('account', me.length > 16 ? `${[...me].slice(0, 15).join('')}…` : me, 'go-account') : place('login', t('nav.login'), 'go-login'));
  byId('navigation').setAttribute('aria-label', t('nav.about'));
  fill(byId('docs'), t('nav.docs'));
  fill(byId('language'), t('other.language')).lang = otherLocale();
  drawBasketCount();
}

/// What is shown in place of a view that could not be drawn.
function failed(error) {
  const again = h('p', { class: 'row' }, h('button', { type: 'button', onclick: () => go(location.hash) }, t('ask.again')),
    // The account may be gone; one must be able to leave all the same.
    user() && logoutButton());
  if (error instanceof Stopped) return [heading(t('shop')), h('p', {}, error.message || t('ask.stopped')), !error.message && again];
  if (!(error instanceof Refusal)) console.error(error);
  return [heading(t('shop')), h('p', { class: 'bad', role: 'alert' }, explain(error)), again];
}

/// The ids in an address. One that a person has written by hand may be none.
function idsOf(parts) {
  try {
    return parts.map(decodeURIComponent);
  } catch {
    throw new Stopped(t('error.page'));
  }
}

/// What was typed into the fields of a view, to be put into those of the same names: the view is the same one in another language.
function typed(main) {
  const fields = [...main.querySelectorAll('input:not([type=file]), textarea, select')].filter((field) => field.id);
  const values = fields.map(({ id, value, checked }) => ({ id, value, checked }));
  const open = [...main.querySelectorAll('details[open]')].map((details) => details.id).filter(Boolean);
  return () => {
    for (const { id, value, checked } of values) if (byId(id)) Object.assign(byId(id), byId(id).type === 'radio' ? { checked } : { value });
    for (const id of open) if (byId(id)) byId(id).open = true;
  };
}

async function draw({ move = true } = {}) {
  const turn = drawing += 1;
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...rest] = path.split('/');
  if (FOR_USERS.includes(name) && !user()) {
    location.replace(`#/login?next=${encodeURIComponent(location.hash)}`);
    return;
  }
  drawAround(name);
  const main = byId('main');
  main.setAttribute('aria-busy', 'true');
  const refill = move ? () => {} : typed(main);
  let view;
  try {
    if (!Object.hasOwn(VIEWS, name)) throw new Stopped(t('error.page'));
    view = await VIEWS[name](idsOf(rest), new URLSearchParams(query));
  } catch (error) {
    view = failed(error);
  }
  if (turn !== drawing) return;
  fill(main, view);
  refill();
  main.removeAttribute('aria-busy');
  main.dataset.view = name || 'home';
  const title = main.querySelector('h1');
  document.title = `${title.dataset.title ?? title.textContent} · ${t('shop')}`;
  if (move) {
    scrollTo(0, 0);
    title.focus({ preventScroll: true });
  }
}

addEventListener('hashchange', () => {
  // Who goes elsewhere does not answer.
  stopAsking();
  arrived();
  draw();
});
// The second click of a double click is no second wish.
document.addEventListener('click', (event) => {
  if (event.detail > 1 && event.target.closest('button')) {
    event.preventDefault();
    event.stopPropagation();
  }
}, true);
byId('language').addEventListener('click', () => {
  switchLanguage();
  clearNotice();
  redrawPanel();
  draw({ move: false });
});
byId('skip').addEventListener('click', (event) => {
  event.preventDefault();
  byId('main').focus();
});
onBusy((seconds) => (seconds ? notice('warn', t('error.busy', { seconds })) : clearNotice()));
startPanel();
draw({ move: false });
