//! What everybody needs of a page: names for what one uses, ids that are given once, texts that stand out from what is behind
//! them.

use crate::Stage;
use crate::common::Server;
use crate::webdriver::Browser;

/// What is wrong with the page as it is shown now, in words. Contrast is that of WCAG 2.2, level AA.
const FAULTS: &str = r"
    const faults = [];
    const said = (element) => element.tagName.toLowerCase() + (element.id && '#' + element.id) + ' ' + element.textContent.trim().slice(0, 30);
    const isShown = (element) => element.checkVisibility({visibilityProperty: true}) && !element.closest('[aria-hidden=true]');
    const shown = [...document.querySelectorAll('body *')].filter(isShown);

    const nameOf = (element) => [element.getAttribute('aria-label'), ...[...element.labels ?? []].map((label) => label.textContent),
        document.getElementById(element.getAttribute('aria-labelledby'))?.textContent,
        element.matches('input, select, textarea, svg') ? '' : element.textContent].join('').trim();
    for (const element of shown.filter((one) => one.matches('a[href], button, input, select, textarea, summary, dialog, [role=img], [role=region], [tabindex=\'0\']'))) {
        if (!nameOf(element)) faults.push('no name: ' + said(element));
    }
    for (const image of document.querySelectorAll('img:not([alt])')) faults.push('no alt: ' + image.src.slice(0, 40));
    const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
    for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) faults.push('twice: ' + id);
    // Behind a question there may be nothing yet.
    if (document.querySelectorAll('h1').length !== 1 && !document.querySelector('dialog[open]')) faults.push('not one h1');

    const partsOf = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = (colour) => partsOf(colour).slice(0, 3).map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (element) => {
        const {backgroundColor} = getComputedStyle(element);
        return partsOf(backgroundColor)[3] === 0 ? (element.parentElement ? behind(element.parentElement) : 'rgb(255, 255, 255)') : backgroundColor;
    };
    const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    for (const element of shown.filter((one) => hasText(one) && !one.matches(':disabled, [aria-busy], [aria-disabled=true], option'))) {
        const {color, fontSize, fontWeight} = getComputedStyle(element);
        const [low, high] = [light(color), light(behind(element))].sort((one, other) => one - other);
        const isLarge = parseFloat(fontSize) >= 24 || (parseFloat(fontSize) >= 18.66 && fontWeight >= 700);
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < (isLarge ? 3 : 4.5)) faults.push('contrast ' + ratio.toFixed(2) + ': ' + said(element));
    }
    return faults;";

/// That nothing of this is wrong with what is shown.
#[track_caller]
pub fn assert_accessible(browser: &Browser) {
    let faults = browser.run(FAULTS);
    assert_eq!(faults, serde_json::json!([]), "at {}", browser.url());
}

/// What `assert_accessible` relies on: each fault is seen, and a page of ours has none.
pub fn faults_are_seen(stage: &Stage) {
    let server = Server::start(&[]);
    let browser = stage.browser("en-US");
    browser.goto(&format!("http://127.0.0.1:{}/shop", server.port()));
    browser.wait("#keyword");
    assert_accessible(&browser);
    browser.run(
        "const add = (tag, attributes, text = '') => {
            const element = Object.assign(document.createElement(tag), attributes);
            element.textContent = text;
            document.getElementById('main').append(element);
            return element;
        };
        add('input', {id: 'nameless'});
        add('img', {src: 'data:,'});
        add('p', {id: 'scope'});
        add('p', {id: 'pale'}, 'text').style.color = '#949494';
        add('p', {id: 'pale-and-large'}, 'text').style = 'color: #949494; font-size: 24px';
        add('button', {id: 'empty'});",
    );
    let seen = browser.run(FAULTS);
    let seen: Vec<&str> = seen.as_array().unwrap().iter().filter_map(|fault| fault.as_str()).collect();
    assert_eq!(
        seen,
        [
            "no name: input#nameless ",
            "no name: button#empty ",
            "no alt: data:,",
            "twice: scope",
            "contrast 3.03: p#pale text"
        ]
    );
}
