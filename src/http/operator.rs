//! Who may use the routes for operators, and their token.
//!
//! Those routes stand on the admin listener only. With a token whoever shows it may use them. Without one only programs of
//! this machine may: the connection must come from a loopback address and must not have been passed on by a proxy, for
//! which all the world comes from there (many proxies say so, and not all: with any proxy or forwarded port before the admin
//! port a token is a must); and the request must name a loopback host, so that a name of somebody else's that
//! is made to point here (DNS rebinding) is of no use. Either way a browser must say that the request comes from a page of
//! this very service.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hyper::header::{AUTHORIZATION, HOST, ORIGIN};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Version};

use super::answer::{Failure, Reply};

/// Fewer bytes could be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// A browser says with this where the page is that makes it ask. `none`: a person typed the address.
const FETCH_SITE: &str = "sec-fetch-site";
/// What proxies add.
const PASSED_ON: [&str; 7] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-client-ip"];

/// The token of the routes for operators; see [`HttpConfig::admin_token`](super::HttpConfig::admin_token).
///
/// Only its hash is kept. `Debug` shows neither.
#[derive(Clone)]
pub struct AdminToken(blake3::Hash);

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

/// Why there is no [`AdminToken`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminTokenError {
    /// The file could not be read. Correct its path or its mode.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is too short, or could not stand in a header. Take 16 or more letters and digits nobody knows.
    #[error("it must be 16 or more visible ASCII characters, as `openssl rand -hex 32` makes them")]
    Unusable,
}

impl AdminToken {
    /// A token of 16 or more visible ASCII characters.
    ///
    /// # Errors
    /// [`AdminTokenError::Unusable`].
    pub fn new(token: &str) -> Result<Self, AdminTokenError> {
        let is_usable = token.len() >= TOKEN_BYTES_MIN && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_usable.then(|| AdminToken(blake3::hash(token.as_bytes()))).ok_or(AdminTokenError::Unusable)
    }

    /// The token in a file, which may end with a line end. Blocks on the disk.
    ///
    /// # Errors
    /// [`AdminTokenError`].
    pub fn from_file(path: &Path) -> Result<Self, AdminTokenError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| AdminTokenError::Read { path: path.to_owned(), source })?;
        Self::new(text.trim_end())
    }

    /// Takes as long for a wrong token as for the right one.
    fn is(&self, shown: &str) -> bool {
        self.0 == blake3::hash(shown.as_bytes())
    }
}

/// The answer to a request that may not go on.
pub(super) fn refusal(token: Option<&AdminToken>, peer: Option<IpAddr>, head: &Parts) -> Option<Reply> {
    let refused = |why: &str| Some(Reply::transport(403, &format!("forbidden: {why}"), Failure::Nothing));
    if !is_of_this_site(&head.headers) {
        return refused("the request comes from a page of another site");
    }
    if let Some(token) = token {
        return match bearer(&head.headers) {
            Some(shown) if token.is(shown) => None,
            _ => Some(Reply::not_operator()),
        };
    }
    if !peer.is_some_and(|peer| peer.is_loopback()) {
        return refused("from another machine only with a token (--admin-token-file)");
    }
    // HTTP/1.0 is what proxies speak, and hardly any program of today.
    if head.version < Version::HTTP_11 || PASSED_ON.iter().any(|name| head.headers.contains_key(*name)) {
        return refused("through a proxy only with a token (--admin-token-file)");
    }
    if !text(&head.headers, HOST).is_some_and(is_loopback_host) {
        return refused("without a token (--admin-token-file) only as 127.0.0.1, [::1] or localhost");
    }
    None
}

fn text(headers: &HeaderMap, name: impl hyper::header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A program that is no browser says nothing of it.
fn is_of_this_site(headers: &HeaderMap) -> bool {
    if text(headers, FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none") {
        return false;
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, host)| text(headers, HOST) == Some(host))
}

/// `host` may have a port.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn code(token: Option<&str>, peer: &str, headers: &[(&str, &str)]) -> u16 {
        let token = token.map(|token| AdminToken::new(token).unwrap());
        let mut request = Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(
                hyper::header::HeaderName::try_from(*name).unwrap(),
                hyper::header::HeaderValue::try_from(*value).unwrap(),
            );
        }
        refusal(token.as_ref(), peer.parse().ok(), &request.into_parts().0).map_or(200, |reply| reply.code)
    }

    #[test]
    fn without_a_token_only_this_machine_may() {
        let host = |host| [("host", host)];
        for here in ["127.0.0.1:5001", "127.0.0.1", "localhost:5001", "LOCALHOST", "[::1]:5001", "[::1]", "127.9.9.9:1"]
        {
            assert_eq!(code(None, "127.0.0.1", &host(here)), 200, "{here}");
        }
        for elsewhere in
            ["evil.example", "evil.example:5001", "localhost.evil.example", "10.0.0.1:5001", "", "[fe80::1]"]
        {
            assert_eq!(code(None, "127.0.0.1", &host(elsewhere)), 403, "{elsewhere}");
        }
        assert_eq!(code(None, "::1", &host("[::1]:5001")), 200);
        assert_eq!(code(None, "10.0.0.2", &host("127.0.0.1:5001")), 403);
        assert_eq!(code(None, "unknown", &host("127.0.0.1:5001")), 403);
        assert_eq!(code(None, "127.0.0.1", &[]), 403);
        for by in PASSED_ON {
            assert_eq!(code(None, "127.0.0.1", &[("host", "localhost"), (by, "for=10.0.0.2")]), 403, "{by}");
        }
    }

    #[test]
    fn with_a_token_only_who_shows_it_may() {
        let shown = |value| [("host", "shop.example"), ("authorization", value)];
        assert_eq!(code(Some(SECRET), "10.0.0.2", &shown("Bearer 0123456789abcdef")), 200);
        assert_eq!(code(Some(SECRET), "10.0.0.2", &shown("bearer 0123456789abcdef")), 200);
        for wrong in ["Bearer 0123456789abcdeF", "Bearer", "Bearer ", "Basic 0123456789abcdef", "0123456789abcdef"] {
            assert_eq!(code(Some(SECRET), "10.0.0.2", &shown(wrong)), 401, "{wrong}");
        }
        // Being here is not enough any more.
        assert_eq!(code(Some(SECRET), "127.0.0.1", &[("host", "localhost")]), 401);
    }

    #[test]
    fn pages_of_other_sites_may_not() {
        for token in [None, Some(SECRET)] {
            let with = |more: &[(&'static str, &'static str)]| {
                let own = [("host", "localhost:5001"), ("authorization", "Bearer 0123456789abcdef")];
                code(token, "127.0.0.1", &[&own[..], more].concat())
            };
            assert_eq!(with(&[("origin", "http://localhost:5001"), ("sec-fetch-site", "same-origin")]), 200);
            assert_eq!(with(&[("sec-fetch-site", "none")]), 200);
            for evil in ["http://evil.example", "null", "http://localhost:5002", "http://localhost"] {
                assert_eq!(with(&[("origin", evil)]), 403, "{evil}");
            }
            assert_eq!(with(&[("sec-fetch-site", "cross-site")]), 403);
            assert_eq!(with(&[("sec-fetch-site", "same-site")]), 403);
        }
    }

    #[test]
    fn a_token_is_long_and_visible() {
        for bad in ["", "short", "0123456789abcde", "0123456789 abcdef", "0123456789abcdéf", "0123456789abcdef\n"] {
            assert!(AdminToken::new(bad).is_err(), "{bad:?}");
        }
        assert!(!format!("{:?}", AdminToken::new(SECRET)).contains("0123"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        assert!(AdminToken::from_file(file.path()).unwrap().is(SECRET));
    }
}
