//! A raw, blocking HTTP/1.1 client over one socket: it sends the bytes it is told to and reads what
//! comes back, so that a test can split, pipeline and malform its requests.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;

const READ_WITHIN: Duration = Duration::from_secs(30);

pub struct Conn {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: not JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the server says that this connection ends here.
    pub fn closes(&self) -> bool {
        let value = self.header("connection").unwrap_or_default();
        value.eq_ignore_ascii_case("close") || (self.version == "HTTP/1.0" && !value.eq_ignore_ascii_case("keep-alive"))
    }
}

impl Conn {
    pub fn open(port: u16) -> io::Result<Conn> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_WITHIN))?;
        stream.set_write_timeout(Some(READ_WITHIN))?;
        Ok(Conn { stream, buffer: Vec::new() })
    }

    /// How long an answer may take from now on.
    pub fn read_within(&self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent; answers can still be read.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// The next answer; interim ones (1xx) are passed over.
    pub fn response(&mut self) -> io::Result<Response> {
        loop {
            let response = self.next_response(true)?;
            if response.status >= 200 {
                return Ok(response);
            }
        }
    }

    /// The next answer, interim or not.
    pub fn interim(&mut self) -> io::Result<Response> {
        self.next_response(true)
    }

    /// The answer to a HEAD: it has no body, whatever its length says.
    pub fn head_response(&mut self) -> io::Result<Response> {
        self.next_response(false)
    }

    /// Reads until the server ends the connection. True when it did so and sent nothing more.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = std::mem::take(&mut self.buffer);
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    fn next_response(&mut self, with_body: bool) -> io::Result<Response> {
        let head = self.take_until(b"\r\n\r\n")?;
        let head = String::from_utf8(head).map_err(|_| broken("the head is not UTF-8"))?;
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let (version, rest) = status_line.split_once(' ').ok_or_else(|| broken(status_line))?;
        let status = rest.get(..3).and_then(|digits| digits.parse().ok()).ok_or_else(|| broken(status_line))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response = Response { version: version.to_owned(), status, headers, body: Vec::new() };
        if with_body && status >= 200 && status != 204 && status != 304 {
            response.body = self.body_of(&response)?;
        }
        Ok(response)
    }

    fn body_of(&mut self, response: &Response) -> io::Result<Vec<u8>> {
        if let Some(length) = response.header("content-length") {
            let length = length.parse().map_err(|_| broken(length))?;
            return self.take(length);
        }
        if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.chunked_body();
        }
        let mut body = std::mem::take(&mut self.buffer);
        self.stream.read_to_end(&mut body)?;
        Ok(body)
    }

    fn chunked_body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_until(b"\r\n")?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = usize::from_str_radix(digits, 16).map_err(|_| broken(&line))?;
            if length == 0 {
                while !self.take_until(b"\r\n")?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(length)?);
            self.take(2)?;
        }
    }

    fn take_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let taken = self.buffer[..at].to_vec();
                self.buffer.drain(..at + end.len());
                return Ok(taken);
            }
            self.read_more()?;
        }
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.read_more()?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        let read = self.stream.read(&mut chunk)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(())
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP answer: {what}"))
}

/// The bytes of a request with a Content-Length.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: bookstore\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" || !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
