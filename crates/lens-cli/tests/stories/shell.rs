//! What a shell and `man` know of the binary: completion scripts and manual pages.

#![allow(clippy::unwrap_used)]

use crate::common::Lens;
use std::io::Write;
use std::process::{Command, Stdio};

/// The commands, as `lens --help` lists them.
fn commands(lens: &Lens) -> Vec<String> {
    let help = lens.ok("--help").out;
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let name = |line: &str| line.strip_prefix("  ")?.split_whitespace().next().map(str::to_owned);
    let names: Vec<String> =
        list.lines().filter(|l| !l.starts_with("   ")).filter_map(name).collect();
    assert!(names.len() > 12, "{names:?}");
    names.into_iter().filter(|name| name != "help").collect()
}

/// The long options that the help of a command lists.
fn options(help: &str) -> Vec<String> {
    let long = |line: &str| {
        let words = line.trim_start();
        let at = words.strip_prefix("--").or_else(|| words.get(4..)?.strip_prefix("--"))?;
        let end = at.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(at.len());
        words.starts_with('-').then(|| format!("--{}", &at[..end]))
    };
    help.lines().filter_map(long).collect()
}

/// What bash offers for the last of `words`, with the script sourced.
fn offered(script: &str, words: &[&str]) -> Vec<String> {
    let [.., before, last] = words else { unreachable!("too few words") };
    let quoted: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
    let ask = format!(
        "COMP_WORDS=({}); COMP_CWORD={}; _lens lens '{last}' '{before}'; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        quoted.join(" "),
        words.len() - 1
    );
    let mut bash = Command::new("bash")
        .args(["--norc", "--noprofile"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all(format!("{script}\n{ask}\n").as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_their_values() {
    let lens = Lens::new();
    let script = lens.ok("completions bash").out;
    lens.write("lens.bash", &script);
    let parsed = Command::new("bash").arg("-n").arg(lens.path("lens.bash")).output().unwrap();
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));

    assert_eq!(offered(&script, &["lens", "synth"]), ["synthesise"]);
    let all = offered(&script, &["lens", ""]);
    for command in commands(&lens) {
        assert!(all.contains(&command), "{command} is not among {all:?}");
    }
    assert_eq!(offered(&script, &["lens", "run", "--max-l"]), ["--max-length"]);
    assert_eq!(
        offered(&script, &["lens", "run", "--weights", ""]),
        ["auto", "f32", "bf16", "stored"]
    );
    assert_eq!(offered(&script, &["lens", "embed", "--pooling", "prompt"]), ["prompt-last"]);
    assert_eq!(offered(&script, &["lens", "bench", "enc"]), ["encode"]);
}

#[test]
fn every_shell_gets_a_script_that_knows_every_command() {
    let lens = Lens::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = lens.ok(&format!("completions {shell}")).out;
        for command in commands(&lens) {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        assert!(script.contains("special-tokens"), "{shell}");
    }
    let error = lens.fails(2, "completions cmd");
    assert!(error.contains("possible values: bash, elvish, fish, powershell, zsh"), "{error}");
}

#[test]
fn every_command_has_a_manual_page_with_all_its_options() {
    let lens = Lens::new();
    std::fs::create_dir(lens.path("man1")).unwrap();
    assert_eq!(lens.ok("man man1").out, "");
    let mut expected: Vec<String> = commands(&lens).iter().map(|c| format!("lens-{c}.1")).collect();
    expected.extend(["lens.1", "lens-bench-encode.1", "lens-bench-train.1"].map(str::to_owned));
    expected.sort();
    assert_eq!(lens.names("man1"), expected);

    for page in expected {
        let text = lens.read(&format!("man1/{page}"));
        let name = page.trim_end_matches(".1");
        assert!(text.lines().any(|l| l.starts_with(&format!(".TH {name} "))), "{page}: no title");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"] {
            assert!(text.contains(&format!(".SH {section}")), "{page}: no {section}");
        }
        // roff writes a hyphen that is not a dash as `\-`.
        let text = text.replace("\\-", "-");
        let words = name.split('-').skip(1).collect::<Vec<_>>().join(" ");
        let listed = options(&lens.ok(&format!("{words} --help")).out);
        assert!(listed.len() >= 8, "{page}: {listed:?}");
        for option in listed {
            assert!(text.contains(&option), "{page}: {option} is missing");
        }
    }

    let error = lens.fails(1, "man no/such/folder");
    assert!(error.contains("no/such/folder"), "{error}");
    assert!(!lens.path("no").exists());
}
