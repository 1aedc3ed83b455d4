//! HTTP/1.1 messages, read in whole.
//!
//! Bodies framed by `Content-Length`, by chunks or, in answers, by the end of the connection are understood and
//! written again with `Content-Length`. Trailers are dropped.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Far above any head that HTTP clients send; bounds what a broken peer can make us hold.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Far above a bulk request of 500 rows, for the same reason.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// A request or an answer.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    start_line: String,
    headers: Vec<(String, String)>,
    /// None: the message has no body by its kind, and its head is passed on as it came.
    pub(crate) body: Option<Vec<u8>>,
}

/// Reads a request; None if the client closed the connection between two requests.
pub(crate) async fn read_request(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Message>> {
    let Some(mut message) = read_head(reader).await? else { return Ok(None) };
    if let Some(framing) = message.framing()? {
        message.take_body(reader, framing).await?;
    }
    Ok(Some(message))
}

/// Reads the final answer to a request of this method; interim answers (1xx) are passed over.
pub(crate) async fn read_answer(reader: &mut (impl AsyncBufRead + Unpin), method: &str) -> io::Result<Message> {
    loop {
        let Some(mut message) = read_head(reader).await? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let status = message.status()?;
        if status < 200 {
            continue;
        }
        if method != "HEAD" && status != 204 && status != 304 {
            let framing = message.framing()?.unwrap_or(Framing::UntilClosed);
            message.take_body(reader, framing).await?;
        }
        return Ok(message);
    }
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClosed,
}

impl Message {
    /// An answer of this status with a JSON:API error document.
    pub(crate) fn error_answer(status: u16) -> Self {
        let body = format!(r#"{{"errors":[{{"status":"{status}","title":"injected by the fault proxy"}}]}}"#);
        Self {
            start_line: format!("HTTP/1.1 {status} Injected"),
            headers: vec![("content-type".to_owned(), "application/vnd.api+json".to_owned())],
            body: Some(body.into_bytes()),
        }
    }

    /// Method and target of a request; empty for what the start line lacks.
    pub(crate) fn method_and_path(&self) -> (&str, &str) {
        let mut words = self.start_line.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    pub(crate) fn status(&self) -> io::Result<u16> {
        let code = self.start_line.split(' ').nth(1).and_then(|word| word.parse().ok());
        code.ok_or_else(|| invalid("the answer has no status code"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn set_header(&mut self, name: &str, value: &str) {
        self.remove_header(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn asks_to_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Lets `alter` change the rows of a JSON document's `data`; false if there are none or it changed nothing.
    pub(crate) fn alter_rows(&mut self, alter: impl FnOnce(&mut Vec<Value>) -> bool) -> bool {
        self.alter_document(|document| document.get_mut("data").and_then(Value::as_array_mut).is_some_and(alter))
    }

    /// Lets `alter` take rows out of one page of a search, and adjusts the total; false if it took none. Without all hits
    /// on one page the total cannot be told, and nothing is done.
    pub(crate) fn hide_rows(&mut self, hide: impl FnOnce(&mut Vec<Value>) -> usize) -> bool {
        self.alter_document(|document| {
            let total = document["meta"]["total"].as_u64();
            let Some(rows) = document.get_mut("data").and_then(Value::as_array_mut) else { return false };
            if total.is_some_and(|total| total != rows.len() as u64) {
                return false;
            }
            let hidden = hide(rows);
            let left = rows.len();
            if hidden > 0 && total.is_some() {
                document["meta"]["total"] = left.into();
            }
            hidden > 0
        })
    }

    fn alter_document(&mut self, alter: impl FnOnce(&mut Value) -> bool) -> bool {
        let Some(body) = &self.body else { return false };
        let Ok(mut document) = serde_json::from_slice::<Value>(body) else { return false };
        if !alter(&mut document) {
            return false;
        }
        self.body = Some(document.to_string().into_bytes());
        true
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.encode_head();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// The message up to the middle of its body, with a head that promises all of it.
    pub(crate) fn encode_cut_short(&self) -> Vec<u8> {
        let mut bytes = self.encode_head();
        let body = self.body.as_deref().unwrap_or_default();
        bytes.extend_from_slice(&body[..body.len() / 2]);
        bytes
    }

    /// The head, and the body in about so many parts.
    pub(crate) fn encode_in_parts(&self, parts: usize) -> (Vec<u8>, Vec<&[u8]>) {
        let body = self.body.as_deref().unwrap_or_default();
        let length = body.len().div_ceil(parts.max(1)).max(1);
        (self.encode_head(), body.chunks(length).collect())
    }

    fn encode_head(&self) -> Vec<u8> {
        let mut head = format!("{}\r\n", self.start_line);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn remove_header(&mut self, name: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    fn framing(&self) -> io::Result<Option<Framing>> {
        if self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Ok(Some(Framing::Chunked));
        }
        let Some(length) = self.header("content-length") else { return Ok(None) };
        let length = length.parse().map_err(|_| invalid("the content length is not a number"))?;
        Ok(Some(Framing::Length(length)))
    }

    /// Reads the body and forgets how it and the connection were framed: that is per connection.
    async fn take_body(&mut self, reader: &mut (impl AsyncBufRead + Unpin), framing: Framing) -> io::Result<()> {
        let body = match framing {
            Framing::Length(length) => read_exactly(reader, length).await?,
            Framing::Chunked => read_chunks(reader).await?,
            Framing::UntilClosed => read_to_end(reader).await?,
        };
        self.body = Some(body);
        for name in ["content-length", "transfer-encoding", "connection", "keep-alive", "trailer"] {
            // The client's wish to close is still needed; the upstream's is not the client's business.
            if name != "connection" || self.start_line.starts_with("HTTP/") {
                self.remove_header(name);
            }
        }
        Ok(())
    }
}

/// Reads start line and headers; None if the connection ended before the first byte.
async fn read_head(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Message>> {
    let mut budget = MAX_HEAD_BYTES;
    let Some(start_line) = read_line(reader, &mut budget).await? else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader, &mut budget).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(Some(Message { start_line, headers, body: None }));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header line has no colon"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// Reads a line without its end; None at the end of the connection.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin), budget: &mut usize) -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = reader.take(u64::try_from(*budget).unwrap_or(u64::MAX)).read_line(&mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if !line.ends_with('\n') {
        return Err(invalid("the head is too long or breaks off"));
    }
    *budget -= read;
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

async fn read_exactly(reader: &mut (impl AsyncBufRead + Unpin), length: usize) -> io::Result<Vec<u8>> {
    if length > MAX_BODY_BYTES {
        return Err(invalid("the body is too long"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    Ok(body)
}

async fn read_to_end(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    reader.take(MAX_BODY_BYTES as u64).read_to_end(&mut body).await?;
    Ok(body)
}

async fn read_chunks(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut budget = MAX_HEAD_BYTES;
        let line = read_line(reader, &mut budget).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(digits, 16).map_err(|_| invalid("a chunk has no length"))?;
        if length == 0 {
            break;
        }
        if body.len().saturating_add(length) > MAX_BODY_BYTES {
            return Err(invalid("the body is too long"));
        }
        body.extend(read_exactly(reader, length).await?);
        // The line end behind the chunk.
        read_exactly(reader, 2).await?;
    }
    skip_trailers(reader).await?;
    Ok(body)
}

async fn skip_trailers(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<()> {
    let mut budget = MAX_HEAD_BYTES;
    loop {
        let line = read_line(reader, &mut budget).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(());
        }
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
