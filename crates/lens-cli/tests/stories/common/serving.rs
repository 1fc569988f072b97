//! `lens serve` under test, and clients as patient or as rude as a test needs them.

#[path = "../../../../lens-server/tests/common/http.rs"]
mod http;

use super::{Lens, PATIENCE, Running, Said, Signal};
pub use http::{Client, Reply};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

/// `lens serve`, listening.
pub struct Serving {
    running: Running,
    pub url: String,
    pub address: SocketAddr,
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

    /// The process.
    pub fn id(&self) -> u32 {
        self.running.child.id()
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
