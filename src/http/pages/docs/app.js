// The page at /docs: draws /openapi.json, and sends what one wants to try.

import { byId, copy, fill, h, indent, quoted, scrollBox, storage } from './dom.js';

const TOKEN_KEY = 'docs.token';
const tab = storage('sessionStorage');
/// Longer answers are cut on the page.
const SHOWN_MAX = 200_000;
const TOKEN_ABOUT = 'What /auth/login answers; it is put here by itself, and forgotten with this tab.';
let api;

/// What a `$ref` points at.
function resolve(value) {
  if (!value?.$ref) return value;
  return resolve(value.$ref.slice(2).split('/').reduce((at, key) => at[key.replaceAll('~1', '/').replaceAll('~0', '~')], api));
}

/// A text with `code` in it, in paragraphs.
function prose(text) {
  return text.split('\n\n').map((paragraph) => h('p', {}, inline(paragraph)));
}

function inline(text) {
  return text.split('`').map((part, at) => (at % 2 ? h('code', {}, part) : part));
}

/// A path that may go on in the next line at its underscores.
function breakable(path) {
  return path.split('_').map((part, at) => (at ? ['_', h('wbr'), part] : part));
}

function typeOf(schema) {
  schema = resolve(schema);
  if (schema.oneOf) return schema.oneOf.map(typeOf).join(' or ');
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  const types = [schema.type ?? 'any'].flat();
  return types.map((type) => (type === 'array' ? `list of ${typeOf(schema.items)}` : type)).join(' or ');
}

function limitsOf(schema) {
  schema = resolve(schema);
  if (schema.oneOf) return [...new Set(schema.oneOf.map(limitsOf).filter(Boolean))].join('; ');
  const told = [schema.description];
  const digits = (number) => number.toLocaleString('en');
  if (schema.minimum !== undefined && schema.maximum !== undefined) told.push(`${digits(schema.minimum)} to ${digits(schema.maximum)}`);
  else if (schema.minimum !== undefined) told.push(`${digits(schema.minimum)} or more`);
  else if (schema.maximum !== undefined) told.push(`at most ${digits(schema.maximum)}`);
  if (!schema.description && schema.maxLength !== undefined) told.push(`at most ${digits(schema.maxLength)} letters`);
  else if (!schema.description && schema.minLength) told.push('not empty');
  if (schema.minItems) told.push(`at least ${schema.minItems}`);
  if (schema.format && !['int64', 'password'].includes(schema.format)) told.push(schema.format);
  if (schema.contentEncoding) told.push(schema.contentEncoding);
  if (schema.default !== undefined) told.push(`default ${JSON.stringify(schema.default)}`);
  return told.filter(Boolean).join('; ');
}

/// The fields of an object and of what is in it, one below the other.
function rowsOf(schema, before = '', depth = 0) {
  schema = resolve(schema);
  if (depth > 4) return [];
  if (schema.type === 'array' || schema.type?.includes?.('array')) return rowsOf(schema.items, `${before}[]`, depth + 1);
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const path = before ? `${before}.${name}` : name;
    const row = { path, need: required.has(name), type: typeOf(field), limits: limitsOf(field) };
    return [row, ...rowsOf(field, path, depth + 1)];
  });
}

function fieldsTable(caption, schema, tellNeed) {
  const rows = rowsOf(schema);
  if (!rows.length) return null;
  const head = h('tr', {}, ['Field', 'Type', 'Limits'].map((name) => h('th', { scope: 'col' }, name)));
  const body = rows.map((row) => h('tr', {},
    h('th', { scope: 'row' }, h('code', {}, row.path), tellNeed && !row.need && h('span', { class: 'quiet' }, ' optional')),
    h('td', {}, row.type), h('td', {}, row.limits)));
  return table(caption, head, body);
}

/// A table that scrolls by itself where the window is narrow.
function table(caption, head, body) {
  return scrollBox(h('div', { class: 'scroll', role: 'group', 'aria-label': caption },
    h('table', {}, h('caption', {}, caption), h('thead', {}, head), h('tbody', {}, body))));
}

const pre = (label, kind, text) => scrollBox(h('pre', { class: kind, role: 'group', 'aria-label': label }, text));

function codesTable(operation) {
  const head = h('tr', {}, ['Code', 'Meaning', 'Message'].map((name) => h('th', { scope: 'col' }, name)));
  const body = Object.entries(operation.responses).map(([code, answer]) => {
    answer = resolve(answer);
    const media = answer.content?.['application/json'];
    const message = media?.example?.message ?? resolve(resolve(media?.schema)?.properties?.message)?.enum?.[0];
    const headers = Object.keys(answer.headers ?? {});
    return h('tr', {}, h('th', { scope: 'row' }, h('code', {}, code)),
      h('td', {}, inline(answer.description), headers.length > 0 && h('span', { class: 'quiet' }, ` (header ${headers.join(', ')})`)),
      h('td', {}, message !== undefined && h('code', {}, message)));
  });
  return table('Codes', head, body);
}

function linksOf(operation) {
  return Object.entries(operation.responses?.['200']?.links ?? {}).map(([name, link]) => ({ name, ...link }));
}

/// Everything there is to know of an operation in one text, for the filter.
function wordsOf({ path, operation }) {
  const fields = rowsOf(bodyOf(operation)?.schema ?? {}).map((row) => row.path);
  return [path, operation.operationId, operation.summary, operation.description, ...fields, ...Object.keys(operation.responses)]
    .join(' ').toLowerCase();
}

const bodyOf = (operation) => operation.requestBody?.content?.['application/json'];

class Route {
  constructor(path, method, operation) {
    Object.assign(this, { path, method: method.toUpperCase(), operation, id: operation.operationId });
    this.words = wordsOf(this);
    this.details = h('details', { id: this.id, class: 'route', ontoggle: () => this.draw() },
      h('summary', {},
        h('h3', {}, h('span', { class: `method ${method}` }, this.method), ' ', h('code', {}, path), ' ',
          h('span', { class: 'title' }, operation.summary))));
    this.entry = h('li', {}, h('a', { href: `#${this.id}`, title: operation.summary }, breakable(path)));
  }

  /// Draws what is inside, the first time it is opened.
  draw() {
    if (this.body || !this.details.open) return;
    const { operation } = this;
    const request = bodyOf(operation);
    const answer = operation.responses['200']?.content?.['application/json']?.schema;
    const links = linksOf(operation);
    this.body = h('div', { class: 'body' },
      prose(operation.description),
      operation.security && h('p', {}, 'Wants the header ', h('code', {}, 'token'), '.'),
      this.takesKey() && h('p', {}, 'Takes an ', h('code', {}, 'Idempotency-Key'), '. ',
        operation.parameters[0].description),
      request && fieldsTable('Fields of the request', request.schema, true),
      answer && fieldsTable('Fields of the answer', answer, false),
      codesTable(operation),
      links.length > 0 && h('p', {}, 'What comes next: ', links.map((link, at) => [
        at > 0 && ', ', h('a', { href: `#${link.operationId}` }, routes.get(link.operationId).path)]), '.'),
      this.form(request),
      h('p', {}, h('a', { href: `#${this.id}`, class: 'quiet' }, 'Link to this route')));
    this.details.append(this.body);
  }

  takesKey() {
    return (this.operation.parameters ?? []).some((parameter) => parameter.name === 'Idempotency-Key');
  }

  form(request) {
    const id = (part) => `${this.id}-${part}`;
    const update = () => fill(this.curl, this.command());
    if (request) {
      this.input = h('textarea', { id: id('body'), class: 'mono', rows: '8', spellcheck: 'false', oninput: update });
      this.input.value = JSON.stringify(request.example ?? {}, null, 2);
      this.input.rows = Math.min(20, this.input.value.split('\n').length + 1);
    }
    if (this.takesKey()) this.key = h('input', { id: id('key'), class: 'mono', autocomplete: 'off', spellcheck: 'false', oninput: update });
    if (this.operation.security) {
      this.token = h('input', { id: id('token'), class: 'mono', autocomplete: 'off', spellcheck: 'false', 'aria-describedby': id('token-about'),
        oninput: () => keepToken(this.token.value) });
      this.token.value = tab.get(TOKEN_KEY) ?? '';
    }
    this.curl = h('code', {});
    this.send = h('button', { type: 'submit', class: 'primary' }, 'Send');
    this.said = h('span', { class: 'quiet', role: 'status' });
    this.answer = h('div', { class: 'answer' });
    this.update = update;
    const form = h('form', { class: 'try', onsubmit: (event) => this.submit(event) },
      h('h4', {}, 'Try it'),
      this.input && [h('label', { for: id('body') }, 'Body'), this.input],
      this.token && [h('label', { for: id('token') }, 'token'), this.token,
        h('p', { id: id('token-about'), class: 'quiet' }, TOKEN_ABOUT)],
      this.key && [h('label', { for: id('key') }, 'Idempotency-Key'),
        h('div', { class: 'row' }, this.key, h('button', { type: 'button', onclick: () => {
          this.key.value = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
          update();
        } }, 'New key'))],
      h('div', { class: 'row' }, this.send, h('button', { type: 'button', onclick: async () => {
        fill(this.said, (await copy(this.command())) ? 'Copied.' : 'The browser does not let this page copy.');
      } }, 'Copy as curl'), this.said),
      pre('The same with curl', 'curl', this.curl),
      this.answer);
    update();
    return form;
  }

  headers() {
    const headers = {};
    if (this.token) headers.token = this.token.value.trim();
    if (this.key?.value) headers['Idempotency-Key'] = this.key.value;
    return headers;
  }

  command() {
    const headers = Object.entries(this.headers()).map(([name, value]) => ` \\\n  -H ${quoted(value ? `${name}: ${value}` : `${name};`)}`);
    const url = quoted(location.origin + this.path);
    if (this.method === 'GET') return `curl -i ${url}${headers.join('')}`;
    return `curl -i -X POST ${url}${headers.join('')}${this.input ? ` \\\n  --data-raw ${quoted(this.input.value)}` : ''}`;
  }

  async submit(event) {
    event.preventDefault();
    if (this.send.hasAttribute('aria-busy')) return;
    // Not disabled: who works by keys would lose his place.
    this.send.setAttribute('aria-busy', 'true');
    fill(this.said, 'Waiting for the answer …');
    const began = performance.now();
    try {
      const response = await fetch(this.path, { method: this.method, headers: this.headers(), body: this.input?.value });
      const text = await response.text();
      fill(this.said, `${response.status}, after ${Math.round(performance.now() - began)} ms`);
      this.show(response, text);
    } catch (error) {
      fill(this.said, '');
      fill(this.answer, h('p', { class: 'bad', role: 'alert' }, `There was no answer: ${error.message}`));
    }
    this.send.removeAttribute('aria-busy');
  }

  show(response, text) {
    let body = null;
    try {
      body = JSON.parse(text);
    } catch { /* The counters are no JSON. */ }
    if (this.id === 'auth_login' && body?.token) {
      keepToken(body.token);
      this.said.append(' – the other routes have the token now.');
    }
    const shown = text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}\n… and ${text.length - SHOWN_MAX} more letters` : indent(text);
    const headers = [...response.headers].map(([name, value]) => `${name}: ${value}`).join('\n');
    const next = response.ok && body ? linksOf(this.operation) : [];
    fill(this.answer,
      h('p', {}, h('strong', { class: response.ok ? 'good' : 'bad' }, response.status), ' ', body?.message === undefined ? null : String(body.message).slice(0, 200)),
      pre('Headers of the answer', 'quiet', headers),
      pre('Body of the answer', null, shown),
      next.length > 0 && h('p', { class: 'row' }, 'Go on with it: ', next.map((link) =>
        h('button', { type: 'button', onclick: () => this.follow(link, body) }, routes.get(link.operationId).path))));
  }

  /// Opens the linked route with what it needs of this call.
  follow(link, answer) {
    const route = routes.get(link.operationId);
    let sent = {};
    try {
      sent = JSON.parse(this.input?.value ?? '{}');
    } catch { /* Then it was answered all the same, and gives nothing. */ }
    const at = (value, pointer) => pointer.split('/').slice(1).reduce((inner, key) => inner?.[key], value);
    const value = (expression) => {
      if (typeof expression !== 'string') {
        if (Array.isArray(expression)) return expression.map(value);
        return expression && typeof expression === 'object'
          ? Object.fromEntries(Object.entries(expression).map(([key, inner]) => [key, value(inner)])) : expression;
      }
      if (expression.startsWith('$request.body#')) return at(sent, expression.slice(14));
      if (expression.startsWith('$response.body#')) return at(answer, expression.slice(15));
      return expression;
    };
    route.open();
    if (!route.input) return;
    const body = { ...bodyOf(route.operation).example };
    if (sent.password && 'password' in body) body.password = sent.password;
    for (const [name, expression] of Object.entries(link.requestBody ?? {})) {
      const found = value(expression);
      if (found !== undefined) body[name] = found;
    }
    route.input.value = JSON.stringify(body, null, 2);
    route.update();
    history.pushState(null, '', `#${route.id}`);
  }

  open() {
    byId('filter').value && this.details.hidden && clearFilter();
    this.details.open = true;
    this.draw();
    this.details.scrollIntoView({ block: 'start' });
    this.details.querySelector('summary').focus({ preventScroll: true });
  }
}

const routes = new Map();

function keepToken(value) {
  tab.set(TOKEN_KEY, value.trim());
  for (const route of routes.values()) {
    if (route.token && route.token.value !== value) route.token.value = value;
    route.update?.();
  }
}

function clearFilter() {
  byId('filter').value = '';
  filter();
}

function filter() {
  const words = byId('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const route of routes.values()) {
    const fits = words.every((word) => route.words.includes(word));
    route.details.hidden = route.entry.hidden = !fits;
    found += fits;
  }
  for (const group of document.querySelectorAll('[data-group]')) group.hidden = !group.querySelector('.route:not([hidden]), li:not([hidden])');
  fill(byId('found'), words.length ? `${found} of ${routes.size} routes` : `${routes.size} routes`);
}

function openLinked() {
  // Ids have no letter that an address writes otherwise.
  routes.get(location.hash.slice(1))?.open();
}

function draw() {
  fill(byId('version'), api.info.version);
  for (const [path, verbs] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(verbs)) routes.set(operation.operationId, new Route(path, method, operation));
  }
  const list = byId('list');
  const sections = api.tags.map((tag) => {
    const mine = [...routes.values()].filter((route) => route.operation.tags.includes(tag.name));
    list.append(h('div', { 'data-group': tag.name }, h('h2', {}, tag.name), h('ul', {}, mine.map((route) => route.entry))));
    return h('section', { 'data-group': tag.name }, h('h2', {}, tag.name), h('p', {}, tag.description), mine.map((route) => route.details));
  });
  fill(byId('main'), h('div', { class: 'about' }, prose(api.info.description)), sections);
  filter();
}

async function start() {
  if (matchMedia('(max-width: 55rem)').matches) byId('contents').open = false;
  try {
    const response = await fetch('/openapi.json');
    if (!response.ok) throw new Error(`/openapi.json answers ${response.status}`);
    api = await response.json();
  } catch (error) {
    fill(byId('main'), h('p', { class: 'bad', role: 'alert' }, `The description of the API could not be loaded: ${error.message}`));
    return;
  }
  draw();
  byId('filter').addEventListener('input', filter);
  // A link to the route one is at already is no change of the hash.
  document.addEventListener('click', (event) => {
    if (event.target.closest?.('a[href^="#"]')?.hash === location.hash) openLinked();
  });
  addEventListener('hashchange', openLinked);
  openLinked();
}

start();
