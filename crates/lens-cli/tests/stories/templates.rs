//! Stories of templates that somebody else wrote: what they can take, and from whom.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::serving::Serving;
use crate::common::{Lens, Said, Signal, TinyModel, pairs};
use serde_json::json;
use std::process::Command;
use std::time::{Duration, Instant};

/// Twice a rendering's time, and what else a busy machine needs.
const SOON: Duration = Duration::from_secs(20);
const EMBED: &str = "embed rows.jsonl --model tiny.gguf --template t.jinja -o o.safetensors";

/// A template that does something to `ns.x` so many times.
fn looped(start: &str, times: u32, step: &str, end: &str) -> String {
    format!(
        "{{% set ns = namespace(x={start}) %}}{{% for i in range({times}) %}}\
         {{% set ns.x = {step} %}}{{% endfor %}}{end}"
    )
}

/// Programs that take all that there is.
fn hostile() -> Vec<(&'static str, String)> {
    let text = |text: &str| text.to_owned();
    vec![
        ("strings are doubled", looped("'wide'", 64, "ns.x ~ ns.x", "{{ ns.x }}")),
        ("lists are doubled", looped("[0]", 64, "ns.x + ns.x", "{{ ns.x | length }}")),
        ("lists are multiplied", looped("[0]", 64, "ns.x * 9", "{{ ns.x | length }}")),
        ("strings are multiplied", looped("'a'", 64, "ns.x * 99", "{{ ns.x }}")),
        ("replace grows", looped("'a'", 64, "ns.x.replace('a', 'aaa')", "{{ ns.x }}")),
        ("the filter replace grows", looped("'a'", 64, "ns.x | replace('a', 'aaa')", "{{ ns.x }}")),
        ("join grows", looped("'a'", 64, "ns.x.join([ns.x, ns.x])", "{{ ns.x }}")),
        ("the filter join grows", looped("'a'", 64, "[ns.x, ns.x] | join(ns.x)", "{{ ns.x }}")),
        ("format grows", looped("'a'", 64, "'{0}{0}'.format(ns.x)", "{{ ns.x }}")),
        ("maps hold maps twice", looped("{}", 64, "{'a': ns.x, 'b': ns.x}", "{{ ns.x | tojson }}")),
        ("a deep list is dropped", looped("[]", 80_000, "[ns.x]", "ok")),
        ("a deep list is written", looped("[]", 9_000, "[ns.x]", "{{ ns.x }}")),
        ("a deep list is JSON", looped("[]", 9_000, "[ns.x]", "{{ ns.x | tojson }}")),
        ("a deep list is printed", looped("[]", 9_000, "[ns.x]", "{{ ns.x | pprint }}")),
        ("it holds itself", text("{% set n = namespace() %}{% set n.n = n %}{{ n }}")),
        (
            "it holds itself as text",
            text("{% set n = namespace() %}{% set n.n = [n] %}{{ n ~ 1 }}"),
        ),
        (
            "it holds itself as JSON",
            text("{% set n = namespace() %}{% set n.n = {'n': n} %}{{ n | tojson }}"),
        ),
        (
            "it is compared with itself",
            text(
                "{% set n = namespace() %}{% set n.n = [n] %}{% set m = namespace() %}\
                 {% set m.n = [m] %}{{ n == m }}",
            ),
        ),
        ("a wide field", text("{{ '{:>1999999999}'.format('a') }}")),
        ("a wide number", text("{{ '%1999999999d' | format(1) }}")),
        ("a wide indentation", text("{{ messages | tojson(indent=1999999999) }}")),
        (
            "too much is written",
            text("{% set a = 'a' * 99999 %}{% for i in range(9999) %}{{ a }}{% endfor %}"),
        ),
        (
            "large texts are compared",
            text(
                "{% set a = 'a' * 9999999 %}{% set b = 'a' * 9999999 %}\
                 {% for i in range(90000) %}{% if a == b %}{% endif %}{% endfor %}",
            ),
        ),
        (
            "loops in loops",
            text(
                "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}\
                 {% endfor %}{% endfor %}{% endfor %}",
            ),
        ),
        ("a macro calls itself", text("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}")),
        (
            "a loop calls itself",
            text(
                "{% set ns = namespace(x=[1]) %}{% for i in [1, 2] recursive %}\
                 {{ loop([1, 2]) }}{% endfor %}",
            ),
        ),
        ("it includes itself", text("{% include 'chat' %}")),
        (
            "a large sum",
            text(
                "{{ range(99999) | list | batch(1) | map('sum') | list | length }}\
            {% for i in range(99999) %}{{ range(99999) | sum }}{% endfor %}",
            ),
        ),
        ("a sum without end", text("{{ range(1999999999) | sum }}")),
        ("powers of powers", text("{{ 10 ** 10 ** 10 ** 10 }}")),
        (
            "sorting again and again",
            text(
                "{% for i in range(9999) %}{{ range(99999) | map('string') | sort | length }}\
                 {{ range(9999) | groupby('x') | length }}{% endfor %}",
            ),
        ),
        (
            "brackets without end",
            format!("{{{{ {}1{} }}}}", "(".repeat(60_000), ")".repeat(60_000)),
        ),
        ("lists without end", format!("{{{{ {}1{} }}}}", "[".repeat(60_000), "]".repeat(60_000))),
        ("signs without end", format!("{{{{ {}1 }}}}", "-".repeat(127 << 10))),
        ("ifs without end", "{% if 1 %}".repeat(13_000)),
        ("filters without end", format!("{{{{ 1{} }}}}", "|list".repeat(25_000))),
        ("sums without end", format!("{{{{ 1{} }}}}", "+1".repeat(65_000))),
        ("it is too long", "a".repeat(200 << 10)),
    ]
}

/// The words of a command in little address space, as of a user who has limited it.
fn limited(lens: &Lens, words: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "ulimit -v 3000000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_lens")])
        .args(words.split_whitespace())
        .current_dir(lens.path(""))
        .env_clear()
        .env("HOME", lens.path(""));
    command
}

fn desk() -> Lens {
    let lens = Lens::new();
    let row = |n: usize| json!({"prompt": format!("Question {n}"), "response": "Yes."});
    lens.rows("rows.jsonl", &(0..9).map(row).collect::<Vec<_>>());
    lens
}

/// The command fails soon and says why, and nothing else.
fn refused(lens: &Lens, what: &str, words: &str) -> String {
    let start = Instant::now();
    let said = Said::from(limited(lens, words).output().unwrap());
    let took = start.elapsed();
    assert_eq!(said.code, 1, "{what}: {}{}", said.out, said.err);
    assert!(said.err.contains("error: "), "{what}: {}", said.err);
    for noise in ["panicked", "overflow", "memory allocation", "backtrace"] {
        assert!(!said.err.contains(noise), "{what}: {}", said.err);
    }
    assert!(said.err.len() < 4000, "{what}: {}", said.err);
    assert!(took < SOON, "{what}: {took:?}");
    assert!(!lens.path("o.safetensors").exists(), "{what}");
    said.err
}

#[test]
fn a_template_that_takes_too_much_is_an_error_that_names_it() {
    let lens = desk();
    for (what, template) in hostile() {
        lens.write("t.jinja", &template);
        let error = refused(&lens, what, EMBED);
        assert!(error.contains("template 'custom'"), "{what}: {error}");
    }
}

#[test]
fn wherever_a_template_comes_from_it_is_held_to_the_same() {
    let deep = looped("[]", 80_000, "[ns.x]", "ok");
    let lens = Lens::with_reward_model();
    lens.rows("rows.jsonl", &[json!({"prompt": "What?", "response": "Yes."})]);
    // In a model file.
    let model = TinyModel { chat_template: Some(deep.clone()), ..TinyModel::default() };
    lens.model("hostile.gguf", &model);
    let embed = "embed rows.jsonl --model hostile.gguf -o o.safetensors";
    let error = refused(&lens, "a model file", embed);
    assert!(error.contains("template 'chat': it"), "{error}");
    // In a reward model.
    let mut manifest = lens.json("rm/lens.json");
    let encoder = &mut manifest["encoder"];
    encoder["template"] = json!({"custom": deep});
    encoder["identity"]["template"] = "custom".into();
    lens.write("rm/lens.json", manifest.to_string());
    let error = refused(&lens, "a reward model", "score rm rows.jsonl");
    assert!(error.contains("template 'custom': it"), "{error}");
}

#[test]
fn a_row_that_takes_too_much_costs_itself_and_many_end_the_job() {
    let lens = Lens::new();
    let row = |text: &str| json!({"prompt": text, "response": "Yes."});
    // What the template does is harmless for short texts, and ends the process for others.
    lens.write(
        "t.jinja",
        "{% set ns = namespace(x=[]) %}{% if messages[0].content | length > 20 %}\
         {% for i in range(80000) %}{% set ns.x = [ns.x] %}{% endfor %}{% endif %}\
         {{ messages[0].content }}",
    );
    let long = "A question that is long";
    lens.rows("rows.jsonl", &[row("One?"), row(long), row("Two?"), row("Three?")]);
    let said = Said::from(limited(&lens, EMBED).output().unwrap());
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.err.contains("left out: rows.jsonl:2: template 'custom' refuses it: it "),
        "{}",
        said.err
    );
    let shown = lens.ok("info o.safetensors").out;
    assert!(shown.contains("[3, 32]"), "{shown}");
    std::fs::remove_file(lens.path("o.safetensors")).unwrap();
    let rows: Vec<_> = (0..50).map(|i| row(&format!("{long} {i}"))).collect();
    lens.rows("rows.jsonl", &rows);
    let error = refused(&lens, "many rows", EMBED);
    assert!(error.contains("error: template 'custom': it "), "{error}");
}

/// The processes whose parent is that one.
#[cfg(target_os = "linux")]
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name, in brackets, may hold anything.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    ids.filter(is_child).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_that_renders_has_nothing_and_ends_with_its_parent() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    lens.write("t.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    lens.ok("run pairs.jsonl --model tiny.gguf --template t.jinja --views fixed -o rm --quiet");
    let mut command = lens.command("serve rm --bind 127.0.0.1:0");
    command.env("LENS_TOKENS", "sk-secret");
    let server = Serving::of(command);
    let parent = server.id();
    let [child] = children(parent)[..] else { panic!("{:?}", children(parent)) };
    let of_child = |file: &str| format!("/proc/{child}/{file}");
    assert_eq!(std::fs::read(of_child("environ")).unwrap(), b"");
    assert_eq!(std::fs::read_link(of_child("cwd")).unwrap().to_str(), Some("/"));
    let limits = std::fs::read_to_string(of_child("limits")).unwrap();
    for limit in ["Max open files            0", "Max core file size        0"] {
        assert!(limits.contains(limit), "{limits}");
    }
    // Nothing but pipes to its parent, however often they are named.
    for entry in std::fs::read_dir(of_child("fd")).unwrap() {
        let to = std::fs::read_link(entry.unwrap().path()).unwrap();
        assert!(to.to_string_lossy().starts_with("socket:"), "{}", to.display());
    }
    server.signal(Signal::KILL);
    let end = Instant::now() + Duration::from_secs(20);
    while std::path::Path::new(&of_child("status")).exists() {
        let stat = std::fs::read_to_string(of_child("stat")).unwrap_or_default();
        if stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z') {
            break;
        }
        assert!(Instant::now() < end, "the child outlives its parent: {stat}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
