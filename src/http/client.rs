//! The other end of the service, for the command line: one connection, one request at a time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::http::request::Builder;
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::tls::trusting;

/// An answer is a few hundred bytes, or an order list, which nobody asks for here.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Where a service is.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// Host and port, for the connection and for the header.
    authority: String,
    host: String,
    port: u16,
    /// In front of every route; without a slash at its end.
    prefix: String,
    tls: Option<Tls>,
}

/// How the service is known.
#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// With it nothing was done, and trying again is safe.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

impl Service {
    /// Reads `http://HOST[:PORT][/PREFIX]`, or `https://…`, for which `tls_ca` is the PEM file of who signed the service's
    /// certificate.
    pub(crate) fn parse(url: &str, tls_ca: Option<&Path>) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("--url {url}: {error}"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("--url {url}: must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| format!("--url {url}: names no host"))?;
        if authority.as_str().contains('@') {
            return Err("--url: it names a user, which is not sent; leave that out".to_owned());
        }
        let usual_port = if is_tls { 443 } else { 80 };
        let port = match authority.as_str().strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':')) {
            None | Some("") => usual_port,
            Some(port) => port.parse().map_err(|_| format!("--url {url}: {port} is no port; the highest is 65535"))?,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let tls = match (is_tls, tls_ca) {
            (false, None) => None,
            (false, Some(_)) => return Err(format!("--tls-ca is for https, and --url is {url}")),
            (true, None) => {
                return Err(
                    "--url: https needs --tls-ca FILE, the certificate of who signed that of the service".into()
                );
            }
            (true, Some(file)) => {
                let config = trusting(file).map_err(|error| format!("--tls-ca {}: {error}", file.display()))?;
                let name = ServerName::try_from(host.clone()).map_err(|error| format!("--url {url}: {error}"))?;
                Some(Tls { connector: TlsConnector::from(Arc::new(config)), name })
            }
        };
        Ok(Service { authority: authority.to_string(), host, port, prefix, tls })
    }
}

/// A connection that is made when it is needed and kept while it works.
#[derive(Debug)]
pub(crate) struct Client {
    service: Service,
    timeout: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    pub(crate) fn new(service: Service, timeout: Duration) -> Self {
        Client { service, timeout, connection: None }
    }

    /// Sends one request and waits for its answer. An error means that nothing is known of the outcome.
    pub(crate) async fn post(&mut self, path: &str, token: Option<&str>, body: Bytes) -> Result<Answered, String> {
        let mut request = Request::builder().method(Method::POST).header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header("token", token);
        }
        self.send(path, request, body).await
    }

    /// As [`post`](Client::post), as an operator, who has this token, if he needs one.
    pub(crate) async fn act(&mut self, path: &str, bearer: Option<&str>, body: Bytes) -> Result<Answered, String> {
        let mut request = Request::builder().method(Method::POST).header(CONTENT_TYPE, "application/json");
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        }
        self.send(path, request, body).await
    }

    /// As [`post`](Client::post), of something that only tells.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answered, String> {
        self.send(path, Request::builder().method(Method::GET), Bytes::new()).await
    }

    /// Sends a request to its own path, which begins with the service's prefix.
    #[cfg(feature = "otlp")]
    pub(crate) async fn send_whole(&mut self, request: Request<Bytes>) -> Result<Answered, String> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let path = path.strip_prefix(&self.service.prefix).unwrap_or(path);
        let headers = head.headers.iter();
        let request =
            headers.fold(Request::builder().method(head.method), |request, (name, value)| request.header(name, value));
        self.send(path, request, body).await
    }

    async fn send(&mut self, path: &str, request: Builder, body: Bytes) -> Result<Answered, String> {
        let request = request.uri(format!("{}{path}", self.service.prefix)).header(HOST, &self.service.authority);
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        // Taken out, so that a connection that was given up in the middle is not used again.
        let connection = self.connection.take();
        let asked = tokio::time::timeout(self.timeout, ask(&self.service, connection, request)).await;
        let (connection, answered) = asked.map_err(|_late| format!("no answer within {:?}", self.timeout))??;
        self.connection = Some(connection);
        Ok(answered)
    }
}

async fn ask(
    service: &Service,
    connection: Option<SendRequest<Full<Bytes>>>,
    request: Request<Full<Bytes>>,
) -> Result<(SendRequest<Full<Bytes>>, Answered), String> {
    // A kept connection may have ended meanwhile; then nothing was sent yet.
    let mut kept = connection.filter(|connection| !connection.is_closed());
    if let Some(connection) = &mut kept
        && connection.ready().await.is_err()
    {
        kept = None;
    }
    let mut connection = match kept {
        Some(connection) => connection,
        None => connect(service).await?,
    };
    let response = connection.send_request(request).await.map_err(|error| told(&error))?;
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok((connection, Answered { status, retry_after, body }))
}

async fn connect(service: &Service) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect((service.host.as_str(), service.port)).await;
    let stream = stream.map_err(|error| format!("cannot connect to {}: {error}", service.authority))?;
    // A request is written whole; waiting for more would only cost time.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &service.tls else { return speak(stream).await };
    let stream = tls.connector.connect(tls.name.clone(), stream).await;
    speak(stream.map_err(|error| no_tls(service, &error))?).await
}

fn no_tls(service: &Service, error: &std::io::Error) -> String {
    let why = error.to_string();
    let advice = match why.contains("CaUsedAsEndEntity") {
        true => "; its certificate is one of an authority: make one with `-addext basicConstraints=critical,CA:FALSE`",
        false => "",
    };
    format!("no TLS with {}: {why}{advice}", service.authority)
}

async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| told(&error))?;
    // It ends when the sender is dropped or the other side goes away; whoever sends then hears of it.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// hyper keeps the cause to itself.
fn told(error: &hyper::Error) -> String {
    let why = match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    // Bytes that come unasked end the connection, and hyper may only tell that it has ended.
    match error {
        error if error.is_parse() => format!("what answers there does not speak HTTP ({why})"),
        error if error.is_canceled() || error.is_closed() => {
            format!("what answers there does not speak HTTP, or ended the connection ({why})")
        }
        _ => why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_or_refused() {
        let parse = |url| Service::parse(url, None);
        let service = parse("http://127.0.0.1:5000/").unwrap();
        assert_eq!((service.host.as_str(), service.port, service.prefix.as_str()), ("127.0.0.1", 5000, ""));
        let service = parse("http://[::1]:81/shop/").unwrap();
        assert_eq!((service.host.as_str(), service.port, service.prefix.as_str()), ("::1", 81, "/shop"));
        for default in ["http://books.example", "http://books.example:", "http://[::1]/shop"] {
            assert_eq!(parse(default).unwrap().port, 80, "{default}");
        }
        for bad in [
            "",
            "127.0.0.1:5000",
            "https://books.example",
            "ftp://x",
            "/path",
            "http://x:70000",
            "http://x:-1",
            "http://me:pw@x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let why = |url, file| Service::parse(url, Some(Path::new(file))).unwrap_err();
        assert!(why("http://books.example", "ca.pem").contains("--tls-ca is for https"));
        assert!(why("https://books.example", "/no/such.pem").starts_with("--tls-ca /no/such.pem: "));
    }
}
