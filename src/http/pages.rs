//! The pages for people: `/docs` and `/shop` on the port for everybody, `/console` on the one for operators.
//!
//! Their files are in the program. A page loads nothing from another host, runs no script but its own files, and its
//! policy says so to the browser. Everything a page shows or does goes through routes of the table.

use std::sync::LazyLock;

use hyper::HeaderMap;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

/// What a browser may do with a page: its own files, and requests to where it came from.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A file of a page.
pub(super) struct Asset {
    /// Where it is served; without a file's name it is the page itself.
    path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files of the page `$name`: what is in the folder of that name, its further scripts included, and what all pages have
/// in common.
macro_rules! page {
    ($name:literal $(, $script:literal)*) => {
        &[
            page!(@ $name, "", HTML, $name, "/index.html"),
            page!(@ $name, "/app.js", SCRIPT, $name, "/app.js"),
            page!(@ $name, "/style.css", CSS, $name, "/style.css"),
            page!(@ $name, "/common.css", CSS, "common.css"),
            page!(@ $name, "/dom.js", SCRIPT, "dom.js"),
            $(page!(@ $name, $script, SCRIPT, $name, $script),)*
        ]
    };
    (@ $name:literal, $path:literal, $content_type:expr, $($file:literal),+) => {
        Asset {
            path: concat!("/", $name, $path),
            content_type: $content_type,
            bytes: include_bytes!(concat!("pages/", $($file),+)),
        }
    };
}

static ASSETS: [&[Asset]; 3] = [
    page!("docs"),
    page!(
        "shop",
        "/api.js",
        "/panel.js",
        "/samples.js",
        "/seller.js",
        "/session.js",
        "/ui.js",
        "/views.js",
        "/words.js"
    ),
    page!("console"),
];

/// The path of the page that this path belongs to, if there is such a file.
pub(super) fn page_of(path: &str) -> Option<&'static str> {
    let page = ASSETS.iter().find(|page| find(page, path).is_some())?;
    Some(page[0].path)
}

/// The file at this path. A page may be asked for with a slash at its end.
pub(super) fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find_map(|page| find(page, path))
}

fn find(page: &'static [Asset], path: &str) -> Option<&'static Asset> {
    let page_path = page[0].path;
    if path.strip_suffix('/') == Some(page_path) {
        return page.first();
    }
    page.iter().find(|asset| asset.path == path)
}

impl Asset {
    /// Changes when the bytes do.
    fn tag(&self) -> HeaderValue {
        static TAGS: LazyLock<Vec<(&'static str, HeaderValue)>> = LazyLock::new(|| {
            let tag = |asset: &Asset| {
                let tag = format!("\"{}\"", &blake3::hash(asset.bytes).to_hex()[..32]);
                // Digits and quotes are always a valid header.
                HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""))
            };
            ASSETS.iter().copied().flatten().map(|asset| (asset.path, tag(asset))).collect()
        });
        let found = TAGS.iter().find(|(path, _)| *path == self.path);
        found.map_or(HeaderValue::from_static("\"\""), |(_, tag)| tag.clone())
    }

    /// Whether the browser has these bytes already.
    pub(super) fn is_known(&self, request: &HeaderMap) -> bool {
        let tag = self.tag();
        let tags = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        tags.flat_map(|tags| tags.split(',')).any(|known| {
            let known = known.trim();
            known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes()
        })
    }

    /// What belongs to every answer with it, but its type.
    pub(super) fn put_headers(&self, headers: &mut HeaderMap) {
        headers.insert(ETAG, self.tag());
        // It is asked for each time, and mostly not sent.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_files() {
        assert_eq!(page_of("/docs"), Some("/docs"));
        assert_eq!(page_of("/shop/"), Some("/shop"));
        assert_eq!(page_of("/console/app.js"), Some("/console"));
        for path in ["/", "", "/docs/nothing", "/docs//", "/docsapp.js", "/common.css", "/shop/app.js/"] {
            assert!(page_of(path).is_none() && asset(path).is_none(), "{path}");
        }
        assert_eq!(asset("/docs/").unwrap().content_type, HTML);
    }

    #[test]
    fn the_policy_can_be_kept() {
        for page in &ASSETS {
            let html = std::str::from_utf8(page[0].bytes).unwrap();
            assert!(html.starts_with("<!doctype html>"), "{}", page[0].path);
            for forbidden in ["<style", " style=", " onclick=", "http://", "https://"] {
                assert!(!html.contains(forbidden), "{forbidden} in {}", page[0].path);
            }
            // Every script has a source, and every file that is asked for is there.
            assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=\"").count());
            for asked in html.split("src=\"").chain(html.split("href=\"")).skip(1) {
                let path = asked.split('"').next().unwrap_or_default();
                if path.starts_with(page[0].path) {
                    assert!(asset(path).is_some(), "{path} of {}", page[0].path);
                }
            }
        }
    }

    #[test]
    fn scripts_load_scripts_that_are_there() {
        let scripts = ASSETS.iter().copied().flatten().filter(|asset| asset.content_type == SCRIPT);
        let mut loaded = 0;
        for script in scripts {
            let text = std::str::from_utf8(script.bytes).unwrap();
            let folder = script.path.rsplit_once('/').unwrap().0;
            for name in text.split(" from '").skip(1).map(|rest| rest.split('\'').next().unwrap_or_default()) {
                let path = format!("{folder}/{}", name.strip_prefix("./").unwrap_or(name));
                assert!(asset(&path).is_some(), "{path} of {}", script.path);
                loaded += 1;
            }
        }
        assert!(loaded > 10, "{loaded}");
    }

    /// Each text of the shop stands in its dictionary, once, in both languages.
    #[test]
    fn the_shop_has_words_for_all_it_says() {
        let text = |asset: &Asset| String::from_utf8(asset.bytes.to_vec()).unwrap();
        let words = text(asset("/shop/words.js").unwrap()).replace("\n    ", " ").replace("',\n  ],", "'],");
        let mut names = std::collections::BTreeSet::new();
        for line in words.lines().skip_while(|line| !line.starts_with("const WORDS")).take_while(|line| *line != "};") {
            let Some((name, texts)) = line.split_once(": [") else { continue };
            assert!(names.insert(name.trim().trim_matches('\'').to_owned()), "{name} is there twice");
            let texts: Vec<&str> = texts.trim().trim_end_matches("],").split("', '").collect();
            assert!(texts.len() == 2 && texts.iter().all(|text| !text.trim_matches('\'').is_empty()), "{line}");
        }
        let mut said = 0;
        for script in ASSETS[1].iter().filter(|asset| asset.content_type == SCRIPT) {
            let code = text(script);
            for (at, _) in code.match_indices("t('") {
                if code[..at].ends_with([' ', '(', '[', ',', '{']) {
                    let name = code[at + 3..].split('\'').next().unwrap_or_default();
                    assert!(names.contains(name), "{name} in {}", script.path);
                    said += 1;
                }
            }
        }
        assert!(names.len() > 200 && said > 100, "{} names, {said} said", names.len());
    }

    #[test]
    fn a_known_file_is_known_by_its_tag() {
        let asset = asset("/shop/app.js").unwrap();
        let mut asked = HeaderMap::new();
        assert!(!asset.is_known(&asked));
        asked.insert(IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        assert!(!asset.is_known(&asked));
        let both = format!("\"other\", W/{}", asset.tag().to_str().unwrap());
        asked.insert(IF_NONE_MATCH, HeaderValue::try_from(both).unwrap());
        assert!(asset.is_known(&asked));
        assert_ne!(asset.tag(), super::asset("/shop/style.css").unwrap().tag());
    }
}
