// What a seller sees: his stores, their orders and books.

import { byId, fill, h } from './dom.js';
import { call, newKey } from './api.js';
import { rememberTitle, withPassword, withToken } from './session.js';
import { countOf, fenOf, money, t, time } from './words.js';
import { act, badge, button, complain, field, go, goSaying, heading, inParts, learnTitles, notice, orderLines, pictureSource, storeLink, valueOf, way, wrongField } from './ui.js';
import { SAMPLES } from './samples.js';

const SAMPLE_COPIES = 10;
const FOUND_MAX = 20;
const ORDERS_SHOWN = 20;
const NO_STORE = 522;
const EXISTS = 516;
const NOT_FOUND = [515, 523, 524, 525];

export async function selling() {
  let stores = {};
  try {
    stores = (await withPassword('/seller/query_all_store_orders', {})).orders;
  } catch (error) {
    if (error.code !== NO_STORE) throw error;
  }
  const open = act(async () => {
    const store = valueOf('store');
    await withToken('/seller/create_store', { store_id: store });
    goSaying(storeLink(store), t('selling.opened', { store }));
  });
  const names = Object.keys(stores);
  return [heading(t('selling.title')), names.length === 0 && h('p', {}, t('selling.none')),
    h('ul', { class: 'plain' }, names.map((store) => h('li', { class: 'panel' },
      h('h2', {}, h('a', { href: storeLink(store) }, store)),
      h('p', {}, t('selling.orders', { count: stores[store].length, ship: stores[store].filter((one) => one.status === 'paid').length }))))),
    h('form', { class: 'panel narrow', onsubmit: open }, h('h2', {}, t('selling.open')),
      field('store', t('selling.store'), { required: true, spellcheck: 'false' }),
      h('button', { id: 'open', type: 'submit', class: 'primary' }, t('selling.open')))];
}

export async function store([id]) {
  const { orders } = await withPassword('/seller/query_one_store_orders', { store_id: id });
  // What waits for the seller comes first.
  const waits = (order) => order.status === 'paid';
  orders.sort((one, other) => waits(other) - waits(one));
  await learnTitles(orders);
  return [heading(t('store.title', { store: id })),
    h('div', { class: 'halves' },
      h('section', {}, h('div', { class: 'row' }, h('h2', {}, t('store.orders')),
        button('refresh', t('refresh'), () => go(storeLink(id)), 'plain')),
      orders.length === 0 && h('p', {}, t('store.orders.none')),
      inParts(orders, ORDERS_SHOWN, (order) => soldOrder(id, order))),
      h('div', {}, listing(id), samples(id), manage(id)))];
}

function soldOrder(store, order) {
  const ship = async () => {
    await withToken('/seller/ship', { store_id: store, order_id: order.order_id });
    goSaying(storeLink(store), t('store.shipped'));
  };
  let asked = false;
  const details = h('details', { ontoggle: async () => {
    if (!details.open || asked) return;
    asked = true;
    try {
      const { order: whole } = await withPassword('/seller/query_order', { order_id: order.order_id });
      details.append(way(whole));
    } catch (error) {
      // Opened again it asks again.
      asked = false;
      details.open = false;
      complain(error);
    }
  } }, h('summary', {}, t('order.way')));
  return h('li', { class: 'panel', 'data-order': order.order_id },
    h('p', { class: 'row' }, badge(order.status), h('time', { datetime: order.created_time }, time(order.created_time)),
      h('strong', { class: 'price' }, money(order.total_price))),
    h('p', {}, t('store.buyer', { user: order.user_id })), orderLines(order),
    order.status === 'paid' && button(null, [t('store.ship'), h('span', { class: 'unseen' }, ` ${order.order_id}`)], ship, 'primary ship'), details);
}

function listing(store) {
  const list = act(async (event) => {
    const price = fenOf(valueOf('price'));
    if (price === null) return wrongField('price', t('field.money'));
    const copies = countOf(valueOf('copies'));
    if (copies === null || copies < 0) return wrongField('copies', t('field.count'));
    const info = { id: valueOf('book-id') || valueOf('isbn') || newKey().slice(0, 12), title: valueOf('title'), price };
    for (const name of ['author', 'publisher', 'isbn', 'book_intro']) if (valueOf(name)) info[name] = valueOf(name);
    const tags = valueOf('tags').split(/[,，、\s]+/).filter(Boolean);
    if (tags.length) info.tags = tags;
    const file = byId('picture').files[0];
    if (file) {
      const picture = await base64(file);
      if (!pictureSource(picture)) return wrongField('picture', t('field.picture'));
      info.pictures = [picture];
    }
    await withToken('/seller/add_book', { store_id: store, book_info: info, stock_level: copies });
    rememberTitle(store, info.id, info.title);
    event.target.reset();
    await show(store, [info.id]);
    return notice('good', t('store.listed', { title: info.title }));
  });
  return h('details', { class: 'panel', id: 'listing' }, h('summary', {}, h('h2', {}, t('store.list'))),
    h('form', { onsubmit: list },
      field('title', t('book.title'), { required: true }),
      h('div', { class: 'pair' },
        field('price', t('store.price'), { required: true, inputmode: 'decimal', placeholder: '38.80' }),
        field('copies', t('store.stock'), { required: true, inputmode: 'numeric', value: '10' })),
      h('div', { class: 'pair' }, field('author', t('book.author')), field('publisher', t('book.publisher'))),
      h('div', { class: 'pair' }, field('isbn', t('book.isbn'), { inputmode: 'numeric' }),
        field('book-id', t('book.id'), { spellcheck: 'false' }, t('store.id.hint'))),
      field('tags', t('book.tags'), {}, t('store.tags.hint')),
      field('book_intro', t('book.book_intro'), { rows: '3' }),
      field('picture', t('book.picture'), { type: 'file', accept: 'image/jpeg,image/png,image/gif,image/webp' }),
      h('button', { id: 'list', type: 'submit', class: 'primary' }, t('store.list.go'))));
}

function base64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(',') + 1));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

function samples(store) {
  const list = async () => {
    let added = 0;
    for (const sample of SAMPLES) {
      try {
        await withToken('/seller/add_book', { store_id: store, book_info: sample, stock_level: SAMPLE_COPIES });
        added += 1;
      } catch (error) {
        if (error.code !== EXISTS) throw error;
      }
      rememberTitle(store, sample.id, sample.title);
    }
    await show(store, SAMPLES.map((sample) => sample.id));
    notice('good', t('store.samples.done', { added, had: SAMPLES.length - added }));
  };
  return h('section', { class: 'panel' }, h('p', {}, t('store.samples.about')),
    button('samples', t('store.samples', { count: SAMPLES.length }), list));
}

function manage(store) {
  const find = act(async () => {
    const asked = valueOf('find');
    const ids = [];
    try {
      const found = await call('/seller/search', { keyword: asked, search_in_store: true, store_id: store, page_size: FOUND_MAX });
      ids.push(...found.books.map((book) => book.id));
    } catch (error) {
      if (!NOT_FOUND.includes(error.code)) throw error;
    }
    await show(store, ids.length ? ids : [asked]);
  });
  return h('section', { class: 'panel' }, h('h2', {}, t('store.books')),
    h('form', { role: 'search', onsubmit: find }, field('find', t('store.books.find'), { required: true, type: 'search' }, t('store.books.about')),
      h('button', { id: 'find-go', type: 'submit' }, t('store.books.go'))),
    h('div', { id: 'managed', role: 'status' }));
}

/// Shows these books of the store with what can be changed.
async function show(store, ids) {
  const found = await Promise.all(ids.map(async (id) => {
    try {
      const { book_info: info, stock_level: level, is_listed: listed } = await call('/buyer/query_book', { store_id: store, book_id: id });
      rememberTitle(store, id, info.title);
      return managedBook(store, info, level, listed);
    } catch (error) {
      if (!NOT_FOUND.includes(error.code)) throw error;
      return null;
    }
  }));
  const rows = found.filter(Boolean);
  const place = byId('managed');
  // The person may be elsewhere by now.
  if (place) fill(place, rows.length ? rows : h('p', {}, t('store.books.none')));
}

function managedBook(store, info, level, listed) {
  const id = (part) => `${part}-${info.id}`;
  const change = (path, body, told) => async () => {
    const more = body();
    if (!more) return;
    await withToken(path, { store_id: store, book_id: info.id, ...more });
    await show(store, [info.id]);
    // What was pressed is gone.
    byId('managed')?.querySelector('summary')?.focus();
    notice('good', t(told, more.price === undefined ? {} : { sum: money(more.price) }));
  };
  const price = change('/seller/set_price', () => {
    const fen = fenOf(valueOf(id('price')));
    return fen === null ? wrongField(id('price'), t('field.money')) : { price: fen };
  }, 'store.price.done');
  const copies = change('/seller/add_stock_level', () => {
    const by = countOf(valueOf(id('by')));
    return by === null ? wrongField(id('by'), t('field.count')) : { add_stock_level: by };
  }, 'store.stock.done');
  return h('details', { class: 'managed', 'data-book': info.id }, h('summary', {}, info.title, ' ', h('span', { class: 'price' }, money(info.price)), ' ',
    t('book.stock', { count: level }), !listed && h('strong', { class: 'warn' }, ` ${t('store.off')}`)),
  h('form', { class: 'row', onsubmit: act(price) }, h('label', { for: id('price') }, t('store.price')),
    h('input', { id: id('price'), class: 'short', inputmode: 'decimal', autocomplete: 'off', value: money(info.price).replace(/[¥,]/g, '') }), h('button', { type: 'submit' }, t('store.price.set'))),
  h('form', { class: 'row', onsubmit: act(copies) }, h('label', { for: id('by') }, t('store.stock.by')),
    h('input', { id: id('by'), class: 'short', inputmode: 'numeric', autocomplete: 'off' }), h('button', { type: 'submit' }, t('store.stock.change'))),
  listed ? button(null, t('store.delist'), change('/seller/delist_book', () => ({}), 'store.delisted'), 'danger')
    : button(null, t('store.relist'), change('/seller/relist_book', () => ({}), 'store.relisted')));
}
