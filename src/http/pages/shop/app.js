// The page at /shop: which view is shown, and what stands around it.

import { byId, fill, h } from './dom.js';
import { onBusy, Refusal } from './api.js';
import { Stopped, user } from './session.js';
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
    me ? place('account', me.length > 16 ? `${me.slice(0, 15)}…` : me, 'go-account') : place('login', t('nav.login'), 'go-login'));
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
  let view;
  try {
    if (!Object.hasOwn(VIEWS, name)) throw new Stopped(t('error.page'));
    view = await VIEWS[name](rest.map(decodeURIComponent), new URLSearchParams(query));
  } catch (error) {
    view = failed(error);
  }
  if (turn !== drawing) return;
  fill(main, view);
  main.removeAttribute('aria-busy');
  main.dataset.view = name || 'home';
  const title = main.querySelector('h1');
  document.title = `${title.textContent} · ${t('shop')}`;
  if (move) {
    scrollTo(0, 0);
    title.focus({ preventScroll: true });
  }
}

addEventListener('hashchange', () => {
  // Who goes elsewhere does not answer.
  byId('ask').close();
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
