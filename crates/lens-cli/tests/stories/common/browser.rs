//! A browser under the tester's hands: Chromium, told what to do over the DevTools protocol, by a
//! pipe.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::PATIENCE;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// One tab of a browser; it does not outlive its test.
pub struct Tab {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    asked: u64,
    /// What happened meanwhile, in order.
    pub events: Vec<Value>,
    _profile: TempDir,
}

/// The browser that LENS_CHROMIUM names; without it the test fails.
pub fn program() -> PathBuf {
    let named = std::env::var_os("LENS_CHROMIUM").map(PathBuf::from);
    named.expect("LENS_CHROMIUM is not set: it names a Chromium or Chrome (docs/testing.md)")
}

impl Tab {
    /// A tab of the browser that LENS_CHROMIUM names.
    pub fn new() -> Tab {
        let program = program();
        let profile = tempfile::tempdir().unwrap();
        // The protocol is spoken on the descriptors 3 and 4, which only a shell hands over safely.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"])
            .arg(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let (session, events) = (None, Vec::new());
        let mut tab = Tab { child, to, from, session, asked: 0, events, _profile: profile };
        let target = tab.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = tab.call("Target.attachToTarget", target);
        tab.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            tab.call(&format!("{domain}.enable"), json!({}));
        }
        tab
    }

    /// Calls a method of the protocol.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        self.to.flush().unwrap();
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "{method}: the browser has ended");
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["id"] == json!(self.asked) {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// Opens an address, and waits until its scripts have run.
    pub fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({"url": url}));
        assert!(opened.get("errorText").is_none(), "{opened}");
        self.until(&format!("location.href=={url:?}&&document.readyState=='complete'"));
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text of the element with this selector, as a reader sees it.
    pub fn text(&mut self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector({selector:?}).innerText"));
        text.as_str().expect(selector).to_owned()
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        while self.value(expression) != json!(true) {
            let page = || "document.body.innerText";
            assert!(Instant::now() < end, "never: {expression}\n{}", self.value(page()));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Clicks on the middle of an element.
    pub fn click(&mut self, selector: &str) {
        let at = self.value(&format!(
            "(()=>{{const e=document.querySelector({selector:?});e.scrollIntoView({{block:'center',\
             behavior:'instant'}});const r=e.getBoundingClientRect();return [r.x+r.width/2,r.y+r.height/2]}})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": at[0], "y": at[1], "button": "left",
                "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Clicks into a field and types.
    pub fn fill(&mut self, selector: &str, text: &str) {
        self.click(selector);
        assert_eq!(self.value(&format!("document.activeElement.matches({selector:?})")), true);
        self.value("document.activeElement.select()");
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Presses a key, with 2 for Ctrl or 8 for Shift.
    pub fn press(&mut self, key: &str, code: u32, modifiers: u32) {
        // Enter alone also types something, which is what presses a button.
        let text = if key == "Enter" && modifiers == 0 { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key,
                "windowsVirtualKeyCode": code, "modifiers": modifiers});
            if kind == "keyDown" {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Makes the window as wide as a phone or a desk, by day or at night.
    pub fn window(&mut self, width: u32, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        // A click finds its button where it was looked for: nothing glides.
        let features = json!([{"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
        let size = json!({"width": width, "height": 800, "deviceScaleFactor": 1,
            "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Writes a picture of the whole page to the folder in LENS_SCREENSHOTS, where that is set.
    pub fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("LENS_SCREENSHOTS") else { return };
        let taken = self.call("Page.captureScreenshot", json!({"captureBeyondViewport": true}));
        let file = std::path::Path::new(&folder).join(format!("{name}.png.base64"));
        std::fs::write(file, taken["data"].as_str().unwrap()).unwrap();
    }

    /// Errors that the page has caused, in the browser's words; a refused request is not one of
    /// them.
    pub fn complaints(&self) -> Vec<String> {
        let kind = |e: &&Value| {
            e["method"] == "Runtime.exceptionThrown"
                || (e["method"] == "Log.entryAdded" && e["params"]["entry"]["source"] != "network")
                || e["method"] == "Runtime.consoleAPICalled"
        };
        self.events.iter().filter(kind).map(Value::to_string).collect()
    }

    /// Every address that the page has asked for.
    pub fn requested(&self) -> Vec<String> {
        let sent = self.events.iter().filter(|e| e["method"] == "Network.requestWillBeSent");
        sent.map(|e| e["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
