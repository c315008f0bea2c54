// What a reader sees: search, a book, the basket, orders, the account.

import { byId, fill, h } from './dom.js';
import { call, once } from './api.js';
import {
  basket, basketCount, changePassword, emptyBasket, login, logout, nameOf, putIntoBasket, register, rememberTitle, user, whose, withPassword, withToken,
} from './session.js';
import { countOf, fenOf, languageOf, money, t, time } from './words.js';
import {
  act, badge, button, complain, cover, field, go, goComplaining, goSaying, heading, inParts, learnTitles, marked, notice, orderLines, orderLink, pictures, pictureSource,
  titleLink, valueOf, way, wordsOf, wrongField,
} from './ui.js';

const PAGE_SIZE = 12;
const ORDERS_SHOWN = 30;
/// Of an order's id in its heading: those that begin together end differently.
const ID_SHOWN = 8;
const SCOPES = ['all', 'title', 'author', 'publisher', 'isbn', 'tags', 'book_intro', 'content'];
const IDEAS = ['美丽', '历史', '小说', '红楼梦', 'revolution'];
const NOTHING_FOUND = [523, 525];

const searchLink = (query) => `#/search?${new URLSearchParams(query)}`;

/// The front page, and what a search has found.
export async function home(_, query) {
  const keyword = query.get('q') ?? '';
  const scope = SCOPES.includes(query.get('scope')) ? query.get('scope') : 'all';
  const store = query.get('store') ?? '';
  const page = Math.max(1, countOf(query.get('page') ?? '1') ?? 1);
  const search = (event) => {
    event.preventDefault();
    if (!valueOf('keyword')) return wrongField('keyword', t('home.empty'));
    const asked = { q: valueOf('keyword') };
    if (byId('scope').value !== 'all') asked.scope = byId('scope').value;
    if (valueOf('in-store')) asked.store = valueOf('in-store');
    return go(searchLink(asked));
  };
  const form = h('form', { role: 'search', class: 'search', onsubmit: search },
    h('div', { class: 'row' },
      h('label', { class: 'unseen', for: 'keyword' }, t('home.keyword')),
      h('input', { id: 'keyword', type: 'search', placeholder: t('home.keyword'), value: keyword, autocomplete: 'off' }),
      h('button', { id: 'search', type: 'submit', class: 'primary' }, t('home.search'))),
    h('div', { class: 'row' },
      h('span', { class: 'together' }, h('label', { for: 'scope' }, t('home.scope')),
        h('select', { id: 'scope' }, SCOPES.map((name) => h('option', { value: name, selected: name === scope }, t(`scope.${name}`))))),
      h('span', { class: 'together' }, h('label', { for: 'in-store' }, t('home.store')),
        h('input', { id: 'in-store', value: store, placeholder: t('home.store.hint'), autocomplete: 'off' }))));
  const ideas = h('p', {}, t('home.try'), IDEAS.map((idea) => [h('a', { class: 'idea', href: searchLink({ q: idea }), lang: languageOf(idea) }, idea), ' ']));
  // Who hears the page is led to the heading, and told with it what was found.
  const title = keyword ? { 'data-title': keyword, 'aria-describedby': 'found' } : {};
  const view = [heading(t('home.title'), title), form];
  if (!keyword) return [...view, ideas, h('section', { class: 'panel about' },
    h('p', {}, t('home.about')), h('h2', {}, t('home.steps')),
    h('ol', {}, [1, 2, 3].map((step) => h('li', {}, t(`home.step.${step}`)))))];
  let found = { books: [], total: 0 };
  try {
    found = await call('/buyer/search', {
      keyword, search_scope: scope, page, page_size: PAGE_SIZE, ...(store && { search_in_store: true, store_id: store }),
    });
  } catch (error) {
    if (!NOTHING_FOUND.includes(error.code)) throw error;
    return [...view, h('p', { id: 'found', role: 'status' }, t('home.none', { keyword })), ideas];
  }
  const words = wordsOf(keyword);
  const pages = Math.ceil(found.total / PAGE_SIZE);
  const pageLink = (number, name) => h('a', {
    class: 'button', href: searchLink({ ...Object.fromEntries(query), page: number }), id: `page-${name}`,
  }, t(`home.${name}`));
  return [...view, h('p', { id: 'found', role: 'status' }, t('home.found', { total: found.total })),
    h('ul', { class: 'cards' }, found.books.map((book) => card(book, words))),
    pages > 1 && h('nav', { class: 'row pages', 'aria-label': t('home.page', { page, pages }) },
      page > 1 && pageLink(Math.min(page - 1, pages), 'previous'), h('span', {}, t('home.page', { page, pages })),
      page < pages && pageLink(page + 1, 'next'))];
}

function card(book, words) {
  rememberTitle(book.store_id, book.id, book.title);
  const by = [book.author, book.publisher].filter(Boolean).join(' · ');
  const intro = [...book.book_intro ?? ''];
  const plain = intro.map((letter) => letter.toLowerCase()[0]).join('');
  const at = Math.max(0, Math.min(...words.map((word) => plain.indexOf(word)).filter((place) => place >= 0), intro.length) - 20);
  const shown = at < intro.length - 20 ? at : 0;
  return h('li', { class: 'card' }, cover(book.store_id, book),
    h('div', {},
      h('h2', {}, titleLink(book.store_id, book.id, book.title, marked(book.title, words))),
      h('p', { class: 'quiet', lang: languageOf(by) }, marked(by, words)),
      intro.length > 0 && h('p', { class: 'intro', lang: languageOf(book.book_intro) }, shown > 0 && '… ', marked(intro.slice(shown, shown + 90).join(''), words),
        shown + 90 < intro.length && ' …'),
      book.tags?.length > 0 && h('p', { class: 'tags' }, book.tags.slice(0, 5).map((tag) => h('span', { class: 'tag' }, marked(tag, words)))),
      h('p', { class: 'row' }, h('strong', { class: 'price' }, money(book.price)), stock(book.stock_level),
        h('span', { class: 'quiet' }, t('book.store', { store: book.store_id })))));
}

const stock = (level) => (BigInt(level) > 0n ? h('span', {}, t('book.stock', { count: level })) : h('span', { class: 'warn' }, t('book.out')));

/// A book, whole.
export async function book([store, id]) {
  const { book_info: info, stock_level: level, is_listed: listed } = await call('/buyer/query_book', { store_id: store, book_id: id });
  rememberTitle(store, info.id, info.title);
  const sources = (info.pictures ?? []).map(pictureSource).filter(Boolean);
  if (sources.length) pictures.set(nameOf(store, id), sources[0]);
  const facts = ['author', 'translator', 'publisher', 'original_title', 'pub_year', 'pages', 'binding', 'isbn'];
  const add = act(() => {
    const count = countOf(valueOf('count'));
    if (!(count > 0)) return wrongField('count', t('field.count'));
    putIntoBasket(store, info, count);
    drawBasketCount();
    return notice('good', t('book.added', { title: info.title }), ' ', h('a', { href: '#/basket' }, t('nav.basket')));
  });
  return [h('article', { class: 'book' },
    h('div', { class: 'pictures' }, sources.length
      ? sources.map((source) => h('img', { src: source, alt: t('book.cover', { title: info.title }) })) : cover(store, info)),
    h('div', {}, heading(info.title, { lang: languageOf(info.title) }),
      h('p', { class: 'row' }, h('strong', { class: 'price' }, money(info.price)), stock(level),
        h('a', { href: searchLink({ q: info.title, store }) }, t('book.store', { store }))),
      listed ? BigInt(level) > 0n && h('form', { class: 'row', onsubmit: add },
        h('label', { for: 'count' }, t('book.count')),
        h('input', { id: 'count', class: 'short', inputmode: 'numeric', value: '1', autocomplete: 'off' }),
        h('button', { id: 'add', type: 'submit', class: 'primary' }, t('book.add')))
        : h('p', { class: 'warn' }, t('book.delisted')),
      h('dl', {}, facts.filter((name) => info[name]).map((name) => [h('dt', {}, t(`book.${name}`)), h('dd', { lang: languageOf(String(info[name])) }, String(info[name]))]),
        info.tags?.length > 0 && [h('dt', {}, t('book.tags')), h('dd', { class: 'tags' }, info.tags.map((tag) =>
          h('a', { class: 'tag', href: searchLink({ q: tag, scope: 'tags' }) }, tag)))]),
      ['book_intro', 'author_intro'].filter((name) => info[name]).map((name) => [h('h2', {}, t(`book.${name}`)),
        h('p', { class: 'long', lang: languageOf(info[name]) }, info[name].trim())])))];
}

export function drawBasketCount() {
  const count = basketCount();
  fill(byId('basket-count'), count ? ` (${count})` : '');
}

export async function basketView() {
  const stores = [...basket()];
  if (!stores.length) return [heading(t('basket.title')), h('p', {}, t('basket.empty')), h('p', {}, h('a', { href: '#/' }, t('nav.search')))];
  return [heading(t('basket.title')), stores.length > 1 && h('p', {}, t('basket.per_store')),
    stores.map(([store, { lines }], place) => {
      const sum = h('strong', { class: 'price' }, sumOf(lines));
      const fields = lines.map((line, at) => basketLine(store, line, `${place}-${at}`, sum));
      const order = () => {
        const wrong = fields.find((field) => !field.take());
        return wrong ? wrongField(wrong.id, t('field.count')) : placeOrder(store);
      };
      return h('section', { class: 'panel', 'data-store': store },
        h('h2', {}, t('book.store', { store })),
        h('ul', { class: 'plain' }, fields.map((field) => field.item)),
        h('p', {}, sum), h('p', { class: 'quiet' }, t('basket.note')),
        button(`order-${place}`, t('basket.order'), order, 'primary'));
    })];
}

const sumOf = (lines) => t('basket.sum', { sum: money(lines.reduce((sum, line) => sum + BigInt(line.price) * BigInt(line.count), 0n)) });

/// A line of the basket. `take` puts what is in its field into the basket, at once and where it stands: the next click goes to what
/// one sees there. It gives false if that is no number of copies.
function basketLine(store, line, place, sum) {
  const id = `count-${place}`;
  const change = (count) => {
    putIntoBasket(store, line, count, true);
    drawBasketCount();
    if (count === 0) return go('#/basket');
    fill(sum, sumOf(basket().get(store).lines));
    return true;
  };
  let taken = line.count;
  const input = h('input', { id, class: 'short', inputmode: 'numeric', value: line.count, autocomplete: 'off',
    onchange: () => {
      if (countOf(input.value) === 0) change(0);
      else if (!take()) wrongField(id, t('field.count'));
    } });
  const take = () => {
    const count = countOf(input.value);
    if (!(count > 0)) return false;
    if (count !== taken) change(count);
    taken = count;
    return true;
  };
  const item = h('li', { class: 'row line' },
    titleLink(store, line.id, line.title), h('span', {}, money(line.price)),
    h('label', { class: 'unseen', for: id }, t('basket.count', { title: line.title })), input,
    h('button', { type: 'button', class: 'plain', 'aria-label': t('basket.remove', { title: line.title }), onclick: () => change(0) }, t('basket.remove.short')));
  return { id, item, take };
}

async function placeOrder(store) {
  if (!user()) return go('#/login?next=%23%2Fbasket');
  const { key, lines } = basket().get(store);
  const books = lines.map(({ id, count }) => ({ id, count }));
  const answer = await withToken('/buyer/new_order', { store_id: store, books }, { key });
  emptyBasket(store);
  drawBasketCount();
  return goSaying(orderLink(answer.order_id), t('basket.placed'));
}

export async function orders() {
  const { orders: all } = await withPassword('/buyer/query_buyer_all_orders', {});
  if (!all.length) return [heading(t('orders.title')), h('p', {}, t('orders.none'))];
  await learnTitles(all);
  return [heading(t('orders.title')), inParts(all, ORDERS_SHOWN, (order) => h('li', { class: 'panel', 'data-order': order.order_id },
    h('p', { class: 'row' }, badge(order.status), h('time', { datetime: order.created_time }, time(order.created_time)),
      h('span', {}, t('book.store', { store: order.store_id })), h('strong', { class: 'price' }, money(order.total_price))),
    orderLines(order), h('a', { href: orderLink(order.order_id) }, t('orders.show'),
      h('span', { class: 'unseen' }, ` ${order.order_id}`))))];
}

/// What can be done with an order, and how.
const STEPS = {
  cancel: ['/buyer/cancel_order', 'order.canceled'],
  refund: ['/buyer/refund_order', 'order.refunded'],
  confirm: ['/buyer/confirm_receipt_and_pay_toseller', 'order.confirmed'],
  platform: ['/buyer/pay_to_platform', 'order.paid'],
  direct: ['/buyer/payment', 'order.paid'],
  extend: ['/buyer/extend_receipt', 'order.extended'],
};

export async function order([id]) {
  const { order: it } = await withPassword('/buyer/query_order', { order_id: id });
  await learnTitles([it]);
  const step = async (name) => {
    const [path, done] = STEPS[name];
    try {
      await once(`${path} ${id}`, (key) => withPassword(path, { order_id: id }, { key: name === 'extend' ? undefined : key }));
      goSaying(orderLink(id), t(done));
    } catch (error) {
      // It may be in another state by now than the page shows.
      if (error.code >= 520 && error.code <= 529) go(orderLink(id));
      throw error;
    }
  };
  const does = (name, kind) => button(name, t(`order.${name}`), () => step(name), kind);
  const actions = {
    pending: () => [payForm(it, step), does('cancel', 'danger')],
    paid: () => [h('p', { class: 'quiet' }, t('order.confirm.early')), does('refund'), does('confirm')],
    shipped: () => [does('confirm', 'primary'), it.confirm_deadline && !it.history.extended && does('extend')],
  };
  return [h('div', { class: 'row' }, heading(t('order.title', { id: [...id].slice(-ID_SHOWN).join('') }), { 'data-title': t('order.title', { id }) }), button('refresh', t('refresh'), () => go(orderLink(id)), 'plain')),
    h('p', { class: 'row' }, badge(it.status), h('strong', { id: 'total', class: 'price' }, t('order.total', { sum: money(it.total_price) })),
      h('span', { class: 'quiet mono' }, id)),
    it.status === 'pending' && h('p', {}, t('order.deadline', { time: time(it.deadline) })),
    it.status === 'shipped' && it.confirm_deadline && h('p', {}, t('order.confirm_deadline', { time: time(it.confirm_deadline) })),
    h('div', { class: 'actions' }, actions[it.status]?.()),
    h('h2', {}, t('order.books')), h('p', {}, t('book.store', { store: it.store_id })), orderLines(it),
    h('h2', {}, t('order.way')), way(it)];
}

function payForm(it, step) {
  const choice = (name, checked) => h('div', { class: 'choice' },
    h('input', { type: 'radio', name: 'to', id: `pay-${name}`, value: name, checked, 'aria-describedby': `pay-${name}-about` }),
    h('div', {}, h('label', { for: `pay-${name}` }, t(`order.pay.${name}`)),
      h('p', { id: `pay-${name}-about`, class: 'quiet' }, t(`order.pay.${name}.about`))));
  return h('form', { class: 'panel', onsubmit: act(() => step(byId('pay-direct').checked ? 'direct' : 'platform')) },
    h('fieldset', {}, h('legend', {}, t('order.pay.how')), choice('platform', true), choice('direct', false)),
    h('button', { id: 'pay', type: 'submit', class: 'primary' }, t('order.pay'), ' ', money(it.total_price)));
}

export async function account() {
  const { balance } = await withPassword('/buyer/query_balance', {});
  const move = (sign, name) => act(async () => {
    const fen = fenOf(valueOf('amount'));
    if (fen === null) return wrongField('amount', t('field.money'));
    if (fen === 0) return wrongField('amount', t('field.positive'));
    await once(`add_funds ${sign * fen}`, (key) => withPassword('/buyer/add_funds', { add_value: sign * fen }, { key }));
    return goSaying('#/account', t(`account.${name}.done`, { sum: money(fen) }));
  });
  const put = move(1, 'put');
  const change = act(async () => {
    await changePassword(byId('old').value, byId('new').value);
    goSaying('#/account', t('account.password.done'));
  });
  return [heading(t('account.title', { user: user() })),
    h('section', { class: 'panel narrow' }, h('h2', {}, t('account.balance')), h('p', { id: 'balance', class: 'price big' }, money(balance)),
      h('form', { onsubmit: put }, field('amount', t('account.amount'), { inputmode: 'decimal', placeholder: '100.00' }, t('account.play')),
        h('div', { class: 'row' }, h('button', { id: 'put', type: 'submit', class: 'primary' }, t('account.put')),
          h('button', { id: 'take', type: 'button', onclick: move(-1, 'take') }, t('account.take'))))),
    h('details', { class: 'panel narrow' }, h('summary', {}, t('account.password')), h('form', { onsubmit: change }, whose(),
      field('old', t('account.password.old'), { type: 'password', autocomplete: 'current-password', required: true }),
      field('new', t('account.password.new'), { type: 'password', autocomplete: 'new-password', required: true }),
      h('button', { type: 'submit' }, t('account.password')))),
    h('p', {}, logoutButton())];
}

export const logoutButton = () => button('logout', t('account.logout'), async () => {
  try {
    await logout();
    goSaying('#/', t('account.logout.done'));
  } catch (error) {
    // Here one is logged out all the same.
    goComplaining('#/', error);
  }
});

export async function loginView(_, query) {
  const next = query.get('next') ?? '#/';
  const enter = (how) => act(async () => {
    const name = valueOf('user');
    const form = byId('user').form;
    if (!form.reportValidity()) return;
    try {
      await how(name, byId('password').value);
    } catch (error) {
      if (error.code !== 401) return complain(error);
      byId('password').value = '';
      return wrongField('password', t('login.wrong'));
    }
    return goSaying(next.startsWith('#/') ? next : '#/', t('login.welcome', { user: name }));
  });
  return [heading(t('login.title')), query.has('next') && h('p', {}, t('login.first')),
    h('form', { class: 'panel narrow', onsubmit: enter(login) },
      field('user', t('login.user'), { required: true, autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false' }),
      field('password', t('login.password'), { required: true, type: 'password', autocomplete: 'current-password' }),
      h('div', { class: 'row' }, h('button', { id: 'login', type: 'submit', class: 'primary' }, t('login.login')),
        h('button', { id: 'register', type: 'button', onclick: enter(register) }, t('login.register'))),
      h('p', { class: 'quiet' }, t('login.about')))];
}
