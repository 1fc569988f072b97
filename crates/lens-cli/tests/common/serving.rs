//! A server under test, and clients as patient or as rude as a test needs them.

use super::{Lens, PATIENCE, Running, Said, Signal};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Instant;

/// `lens serve`, listening.
pub struct Serving {
    running: Running,
    pub url: String,
    pub address: SocketAddr,
}

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

impl Serving {
    /// Serves `rm` with these words, at a free port.
    pub fn start(lens: &Lens, words: &str) -> Serving {
        Serving::of(lens.command(&format!("serve {words} --bind 127.0.0.1:0")))
    }

    /// Runs a command that serves, until it listens.
    pub fn of(command: Command) -> Serving {
        let mut running = Running::start(command);
        running.until_said("listening on http");
        let line = running.said.lines().find(|l| l.starts_with("listening on")).unwrap();
        let url = line.trim_start_matches("listening on ").to_owned();
        let address = url.split_once("://").unwrap().1.parse().unwrap();
        Serving { running, url, address }
    }

    /// Everything the server said so far; waits until `text` is in it.
    pub fn until_said(&mut self, text: &str) -> String {
        self.running.until_said(text);
        self.running.said.clone()
    }

    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits for the end.
    pub fn end(self) -> Said {
        self.running.end()
    }

    /// SIGTERM, which must end it well.
    pub fn stop(self) -> Said {
        self.signal(Signal::TERM);
        let said = self.end();
        assert_eq!(said.code, 0, "{}", said.err);
        said
    }

    pub fn client(&self) -> Client {
        Client::to(self.address)
    }

    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.client().call(method, path, headers, body).unwrap()
    }

    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.client().post(path, body).unwrap()
    }

    /// A counter or gauge of `/metrics`, by the beginning of its line.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find(|l| l.strip_prefix(name).is_some_and(|l| l.starts_with(' ')));
        line.and_then(|l| l.rsplit(' ').next()).map_or(0.0, |v| v.parse().unwrap())
    }

    /// Waits until something is the case.
    pub fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < end, "never: {what}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The resident memory of the server, in bytes.
    pub fn resident(&self) -> u64 {
        let status = format!("/proc/{}/status", self.running.child.id());
        let text = std::fs::read_to_string(status).unwrap();
        let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

/// A connection, kept for as many requests as one likes.
pub struct Client {
    pub stream: BufReader<TcpStream>,
    host: String,
}

impl Client {
    pub fn to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
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
