//! An HTTP client that sends exactly what a test says, also what no decent client would send.

#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any answer takes, even on a busy machine: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// By lower-case name.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The answer of a request that must have succeeded.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The message of a refusal with this status, in the shape that all refusals have.
    #[track_caller]
    pub fn refusal(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let error = &self.json()["error"];
        for field in ["type", "code"] {
            assert!(error[field].is_string(), "{error}");
        }
        error["message"].as_str().unwrap().to_owned()
    }

    /// The name of a refusal for programs.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

/// A connection, kept for as many requests as one likes.
pub struct Client {
    pub stream: BufReader<TcpStream>,
    host: String,
}

impl Client {
    pub fn to(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect(address).unwrap(), address)
    }

    pub fn over(stream: TcpStream, address: SocketAddr) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::new(stream), host: address.to_string() }
    }

    pub fn post(&mut self, path: &str, body: &Value) -> std::io::Result<Reply> {
        self.call("POST", path, &[], body.to_string().as_bytes())
    }

    pub fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Reply> {
        self.send(method, path, headers, body)?;
        self.receive()
    }

    /// Sends a request without waiting for its answer. JSON, unless a header says otherwise.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<()> {
        let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !has("host") {
            head += &format!("host: {}\r\n", self.host);
        }
        if method == "POST" && !has("content-type") {
            head += "content-type: application/json\r\n";
        }
        if method == "POST" && !has("content-length") && !has("transfer-encoding") {
            head += &format!("content-length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        self.raw(head.as_bytes())?;
        self.raw(body)
    }

    /// Sends bytes.
    pub fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Receives an answer.
    pub fn receive(&mut self) -> std::io::Result<Reply> {
        let gone = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            if !line.starts_with("HTTP/1.1 100") {
                break;
            }
            self.stream.read_line(&mut line)?;
        }
        let status = line.split(' ').nth(1).ok_or_else(gone)?.parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(gone());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |l| l.parse().unwrap());
        reply.body = vec![0; length];
        self.stream.read_exact(&mut reply.body)?;
        Ok(reply)
    }
}
