//! The story of somebody who opens the report in a browser: on a desk, on a phone, at night, on
//! paper.
//!
//! LENS_CHROMIUM names a Chromium (or Chrome) to open it in; without it these tests are ignored,
//! and fail where LENS_MODEL_TESTS=1 asks for all tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, cloud, pairs, safetensors};
use serde_json::json;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;
use test_needs::needs;

/// Texts that have done harm elsewhere.
const HOSTILE: &str = "</style></script><script>document.title='owned'</script>\
    <img src=x onerror=\"document.title='owned'\">\0\u{1b}[31m\u{202e}evil\u{2066} &amp; \u{fffe}";

/// A browser, and a home whose files it opens.
struct Browser {
    program: PathBuf,
    lens: Lens,
}

struct Seen {
    out: String,
    err: String,
}

impl Browser {
    fn with(lens: Lens) -> Browser {
        Browser { program: crate::browser::program(), lens }
    }

    /// Opens a file of the home.
    fn open(&self, file: &str, flags: &[&str]) -> Seen {
        let profile = tempfile::tempdir().unwrap();
        let output = Command::new(&self.program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(flags)
            .arg(format!("file://{}", self.lens.path(file).display()))
            .output()
            .expect("a browser that starts");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Seen { out: text(output.stdout), err: text(output.stderr) }
    }

    /// The bytes of a picture or document made of a page.
    fn printed(&self, file: &str, flag: &str, flags: &[&str]) -> Vec<u8> {
        let to = self.lens.path(if flag == "screenshot" { "printed.png" } else { "printed.pdf" });
        let _ = std::fs::remove_file(&to);
        let target = format!("--{flag}={}", to.display());
        let seen = self.open(file, &[&[target.as_str()], flags].concat());
        std::fs::read(&to).unwrap_or_else(|e| panic!("{e}: {}", seen.err))
    }

    /// How wide the content of a page is in a window of `width`, with everything unfolded.
    fn content_width(&self, file: &str, width: usize) -> usize {
        let page = self.lens.read(file).replace('&', "&amp;").replace('"', "&quot;");
        let harness = format!(
            "<!doctype html><body><iframe width=\"{width}\" height=\"700\" style=\"border:0\" \
             srcdoc=\"{page}\"></iframe><script>onload=()=>{{\
             const d=document.querySelector('iframe').contentDocument;\
             d.querySelectorAll('details').forEach(e=>e.open=true);\
             document.body.innerHTML='<p id=w>'+d.documentElement.clientWidth+' '\
             +d.documentElement.scrollWidth+'</p>';}}</script>"
        );
        self.lens.write("harness.html", harness);
        let seen = self.open("harness.html", &["--dump-dom", "--window-size=1600,900"]);
        let (_, found) = seen.out.split_once("id=\"w\">").expect("a measurement");
        let (inner, content) = found.split_once('<').unwrap().0.split_once(' ').unwrap();
        assert_eq!(inner, width.to_string(), "the window is as wide as it was to be");
        content.parse().unwrap()
    }
}

/// The first pixel of a PNG: of the first row, filters change nothing in it.
fn corner(png: &[u8]) -> [u8; 3] {
    let mut data = Vec::new();
    let mut at = 8;
    while at + 8 <= png.len() {
        let size = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        if &png[at + 4..at + 8] == b"IDAT" {
            data.extend_from_slice(&png[at + 8..at + 8 + size]);
        }
        at += 12 + size;
    }
    let mut first = [0u8; 4];
    flate2::read::ZlibDecoder::new(&data[..]).read_exact(&mut first).unwrap();
    [first[1], first[2], first[3]]
}

/// A reward model with a report in `rm`. Held-out pairs of hostile texts are labelled the wrong way
/// round, so that they are ranked against their label. Its head is the network, which has learning
/// curves, or with `chosen` the one that the run chooses by itself, which is logistic.
fn with_report(chosen: bool) -> Lens {
    let lens = Lens::new();
    let mut rows = pairs(0..80);
    rows.push(json!({"prompt": HOSTILE, "chosen": HOSTILE, "rejected": " "}));
    lens.rows("pairs.jsonl", &rows);
    let mut heldout = pairs(100..160);
    for row in heldout.iter_mut().step_by(4) {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let (prompt, chosen, rejected) = (text("prompt"), text("chosen"), text("rejected"));
        row["prompt"] = json!(format!("{HOSTILE} {prompt}"));
        row["chosen"] = json!(format!("{HOSTILE} {rejected}"));
        row["rejected"] = json!(format!("{} {chosen}", "long".repeat(700)));
    }
    lens.rows("heldout.jsonl", &heldout);
    let views = if chosen { "" } else { " --views fixed" };
    lens.ok(&format!(
        "run pairs.jsonl --eval heldout.jsonl --model tiny.gguf -o rm --quiet{views}"
    ));
    lens
}

#[needs(LENS_CHROMIUM, LENS_MODEL_TESTS)]
#[test]
fn the_page_holds_everything_and_runs_nothing() {
    // Eight charts and the map; a logistic head has no epochs to draw, which are two.
    for (chosen, expected) in [(false, 9), (true, 7)] {
        let browser = Browser::with(with_report(chosen));
        let seen = browser.open("rm/report.html", &["--dump-dom"]);
        assert!(!seen.err.contains("CONSOLE"), "{}", seen.err);
        assert!(seen.out.contains("<title>Reward model from pairs.jsonl</title>"), "{}", seen.out);
        assert!(!seen.out.contains("<script") && !seen.out.contains("<img"));
        // All with something in them.
        let charts: Vec<&str> = seen.out.split("<svg role=\"img\"").skip(1).collect();
        assert_eq!(charts.len(), expected);
        for chart in charts {
            let chart = chart.split("</svg>").next().unwrap();
            let paths: Vec<&str> =
                chart.split(" d=\"").skip(1).map(|p| p.split('"').next().unwrap()).collect();
            assert!(paths.len() >= 2 && paths.iter().all(|p| p.len() > 3), "{chart}");
            assert!(chart.contains("<title") && chart.contains("<desc"), "{chart}");
        }
        for part in
            ["synthetic chosen", "ranked against their label", "--eval heldout.jsonl", "[vae]"]
        {
            assert!(seen.out.contains(part), "{part}");
        }
        assert!(
            seen.out.contains("more characters]")
                && seen.out.contains("\u{27e8}U+202E\u{27e9}evil")
        );
    }
}

#[needs(LENS_CHROMIUM, LENS_MODEL_TESTS)]
#[test]
fn it_fits_a_phone_and_a_desk() {
    let browser = Browser::with(with_report(false));
    for width in [320, 360, 768, 1400] {
        assert!(browser.content_width("rm/report.html", width) <= width, "at {width}");
    }
}

#[needs(LENS_CHROMIUM, LENS_MODEL_TESTS)]
#[test]
fn it_is_dark_at_night_and_has_paper_in_mind() {
    let browser = Browser::with(with_report(false));
    let size = "--window-size=1200,900";
    let [dark, light] = ["0", "1"].map(|scheme| {
        let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
        browser.printed("rm/report.html", "screenshot", &[size, &scheme])
    });
    assert!(corner(&light).iter().all(|&c| c > 230), "{:?}", corner(&light));
    assert!(corner(&dark).iter().all(|&c| c < 40), "{:?}", corner(&dark));
    let pdf = browser.printed("rm/report.html", "print-to-pdf", &[]);
    assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 20_000, "{} bytes", pdf.len());
}

/// A reward model of arrays in `arrays`, and one without synthesis and held-out pairs in `plain`.
fn of_arrays_and_plain() -> Lens {
    let lens = Lens::new();
    let (good, bad) = (cloud(90, 6, 0.2), cloud(90, 6, -0.2));
    let arrays: [(&str, [usize; 2], &[f32]); 2] =
        [("chosen", [90, 6], &good), ("rejected", [90, 6], &bad)];
    lens.write("a.safetensors", safetensors(&arrays));
    lens.ok("train a.safetensors --splits 2 --augment 2 -o arrays --quiet");
    lens.rows("pairs.jsonl", &pairs(0..40));
    lens.ok(
        "run pairs.jsonl --model tiny.gguf --views fixed --augment 1 --holdout 0 -o plain --quiet",
    );
    lens
}

#[test]
fn a_model_of_arrays_and_one_without_synthesis_have_pages_too() {
    let lens = of_arrays_and_plain();
    let page = lens.read("arrays/report.html");
    assert!(page.contains("Held-out accuracy of every split"), "{page}");
    assert!(page.contains("lens train a.safetensors --config lens.toml"));
    assert_eq!(page.matches("<svg role=\"img\"").count(), 5);

    let page = lens.read("plain/report.html");
    assert!(page.contains("how good the reward model is was not measured"), "{page}");
    assert!(!page.contains("synthetic chosen"));
    // What is not known is not drawn; nothing names a folder of this machine.
    assert_eq!(page.matches("<svg role=\"img\"").count(), 3);
    assert!(!page.contains(&*lens.path("").to_string_lossy()));
}

#[needs(LENS_CHROMIUM, LENS_MODEL_TESTS)]
#[test]
fn pages_of_arrays_and_without_synthesis_fit_a_phone() {
    let browser = Browser::with(of_arrays_and_plain());
    for file in ["arrays/report.html", "plain/report.html"] {
        assert!(!browser.open(file, &["--dump-dom"]).err.contains("CONSOLE"));
        assert!(browser.content_width(file, 360) <= 360, "{file}");
    }
}

#[needs(LENS_CHROMIUM, LENS_MODEL_TESTS)]
#[test]
fn a_study_and_an_evaluation_have_pages_that_fit_a_phone() {
    let lens = with_report(false);
    let scored = |i: usize| {
        json!({"prompt": format!("{HOSTILE} {i}"), "responses": ["yes", HOSTILE, "so"],
            "scores": [1.0, 0.0, f64::from(i as u8 % 3)]})
    };
    lens.rows("best.jsonl", &(0..12).map(scored).collect::<Vec<_>>());
    lens.ok("eval rm heldout.jsonl best.jsonl --report eval.html --quiet");
    let (good, bad) = (cloud(90, 6, 0.2), cloud(90, 6, -0.2));
    let arrays: [(&str, [usize; 2], &[f32]); 2] =
        [("chosen", [90, 6], &good), ("rejected", [90, 6], &bad)];
    lens.write("a.safetensors", safetensors(&arrays));
    let study = json!({"title": HOSTILE.replace('\0', ""), "question": HOSTILE.replace('\0', "")});
    let quoted = |key: &str| study[key].to_string();
    lens.write(
        "s.toml",
        format!(
            "title = {}\nquestion = {}\nsplits = 2\nseeds = [20, 40]\nfactors = [2, 4]\n\
             [settings]\nhead.epochs = 2\nvae.epochs = 2\nvae.hidden = 4\n\
             [grid]\nsynthesis.noise_variance = [0.001, 0.1]\n",
            quoted("title"),
            quoted("question")
        ),
    );
    lens.ok("study s.toml a.safetensors -o study --quiet");
    let browser = Browser::with(lens);
    for (file, charts) in [("eval.html", 5), ("study/report.html", 8)] {
        let seen = browser.open(file, &["--dump-dom"]);
        assert!(!seen.err.contains("CONSOLE"), "{file}: {}", seen.err);
        assert!(!seen.out.contains("<script") && !seen.out.contains("<title>owned"), "{file}");
        assert_eq!(seen.out.matches("<svg role=\"img\"").count(), charts, "{file}");
        for width in [320, 360, 1400] {
            assert!(browser.content_width(file, width) <= width, "{file} at {width}");
        }
    }
}
