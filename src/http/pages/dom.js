// What the pages' scripts have in common.

/// An element: `h('button', {class: 'primary', onclick: send}, 'Send')`. Attributes that are null or false are left out;
/// children may be texts, elements, null and lists of these. Text is always text, whatever is in it.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  put(element, children);
  return element;
}

function put(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/// Puts these in place of what is in the element.
export function fill(element, ...children) {
  element.replaceChildren();
  put(element, children);
  return element;
}

/// What a page keeps in the browser: `sessionStorage` or `localStorage` by its name. Where the browser forbids that, or has no
/// room left, it is kept as long as the page.
export function storage(name) {
  const own = new Map();
  const attempt = (what) => {
    try {
      return what(window[name]);
    } catch {
      return undefined;
    }
  };
  return {
    get: (key) => own.get(key) ?? attempt((kept) => kept.getItem(key)) ?? null,
    set(key, value) {
      own.delete(key);
      const done = attempt((kept) => {
        kept.setItem(key, value);
        return true;
      });
      if (done) return;
      // What is there is older.
      attempt((kept) => kept.removeItem(key));
      own.set(key, value);
    },
    remove(key) {
      own.delete(key);
      attempt((kept) => kept.removeItem(key));
    },
  };
}

const boxes = new ResizeObserver((changed) => {
  for (const { target } of changed) {
    const scrolls = target.scrollWidth > target.clientWidth || target.scrollHeight > target.clientHeight;
    if (scrolls) target.tabIndex = 0;
    else if (target !== document.activeElement) target.removeAttribute('tabindex');
  }
});

/// A box that scrolls by itself when there is too much in it: keys come to it then, and else pass it by.
export function scrollBox(box) {
  boxes.observe(box);
  return box;
}

export const byId = (id) => document.getElementById(id);

/// Puts a text on the clipboard; false if the browser does not let us.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without TLS, on another host than this one, there is only the old way.
    const had = document.activeElement;
    const area = h('textarea', { class: 'unseen', 'aria-hidden': 'true' });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    had?.focus();
    return done;
  }
}

/// Indents JSON without reading its numbers, of which some have more digits than a number here can hold. What is no JSON
/// comes back as it is.
export function indent(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  let out = '';
  let depth = 0;
  const line = () => '\n' + '  '.repeat(depth);
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (token === '{' || token === '[') {
      depth += 1;
      out += token + line();
    } else if (token === '}' || token === ']') {
      depth -= 1;
      const empty = /[{[]\s*$/.test(out);
      out = empty ? out.trimEnd() + token : out + line() + token;
    } else if (token === ',') {
      out += token + line();
    } else {
      out += token === ':' ? ': ' : token;
    }
  }
  return out;
}

/// A word of a shell that stands for exactly this text.
export const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
