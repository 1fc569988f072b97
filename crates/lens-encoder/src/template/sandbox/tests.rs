#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! The protocol, with the renderer on a thread and with children that misbehave. What the system's
//! limits do is tested with the binary `lens`, which is its own renderer.

use super::frame::{Answer, Request, packed, read_body, read_length, write};
use super::serve::answer_all;
use super::*;
use crate::template::limits::{Excess, Failure};
use crate::tokenizer::TokenRoles;
use lens_core::Message;
use std::borrow::Cow;
use std::io::Cursor;
use std::time::{Duration, Instant};

fn hello() -> Vec<Message> {
    vec![Message { role: "user".into(), content: "Hello \"\n\u{1F600}".into() }]
}

/// What a renderer answers to requests.
fn answers(requests: &[Request]) -> Vec<Answer> {
    let asked: Vec<u8> = requests.iter().flat_map(|r| packed(r).unwrap()).collect();
    let mut answered = Vec::new();
    answer_all(Cursor::new(asked), &mut answered, |_| Ok(())).unwrap();
    let mut from = Cursor::new(answered);
    let mut bytes = Vec::new();
    let mut answers = Vec::new();
    while let Some(length) = read_length(&mut from).unwrap() {
        answers.push(read_body(&mut from, length, &mut bytes).unwrap());
    }
    answers
}

#[test]
fn a_renderer_compiles_and_renders_and_goes_on_after_a_failure() {
    let compile = |source: &'static str| Request::Compile { source: Cow::Borrowed(source) };
    let render = |open, roles: Option<&TokenRoles>| Request::Render {
        messages: Cow::Owned(hello()),
        open,
        roles: roles.cloned().map(Cow::Owned),
    };
    let mut roles = TokenRoles::default();
    roles.set("bos", "<s>");
    let source = "{{ bos_token }}{{ messages[0].content }}{{ add_generation_prompt }}";
    let text = |words: &str| Answer::Text(format!("{words}Hello \"\n\u{1F600}{}", "True"));
    let got = answers(&[
        compile(source),
        render(true, Some(&roles)),
        render(true, None),
        render(true, Some(&TokenRoles::default())),
        compile("{{ raise_exception('no') }}"),
        render(false, None),
        compile("{% for i in range(60) %}{{ 'a' * 99999999 }}{% endfor %}"),
        render(false, None),
        compile("{{ 1 }}"),
        render(false, None),
    ]);
    let expected = [
        Answer::Ready,
        Answer::Ready,
        text("<s>"),
        text("<s>"),
        text(""),
        Answer::Ready,
        Answer::Refused("no".into()),
        Answer::Ready,
        Answer::Exceeded(Excess::Steps),
        Answer::Ready,
        Answer::Text("1".into()),
    ];
    assert_eq!(got, expected);
    assert!(matches!(answers(&[compile("{% if %}")])[..], [Answer::Ready, Answer::Refused(_)]));
}

#[test]
fn a_renderer_ends_at_what_is_no_request() {
    for asked in [&b"\x02\0\0\0{}"[..], b"\x02\0\0\0{", b"\xff\xff\xff\xff{}"] {
        let ended = answer_all(Cursor::new(asked), Vec::new(), |_| Ok(()));
        assert!(ended.is_err(), "{asked:?}");
    }
    // No template yet.
    let request = Request::Render { messages: Cow::Owned(hello()), open: false, roles: None };
    let asked = Cursor::new(packed(&request).unwrap());
    assert!(answer_all(asked, Vec::new(), |_| Ok(())).is_err());
}

/// A child that answers with these bytes, in the shell's notation, and then does as `end` says.
fn child(answers: &[&Answer], end: &str) -> Program {
    let mut bytes = Vec::new();
    for answer in answers {
        write(&mut bytes, answer).unwrap();
    }
    let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let script = format!("printf '{octal}'; {end}");
    Program { path: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
}

fn failure(program: Program) -> Failure {
    let apart = match Apart::compile(program, "{{ 1 }}") {
        Ok(apart) => apart,
        Err(Unanswered::Failure(failure)) => return failure,
        Err(other) => panic!("{other:?}"),
    };
    match apart.render(&hello(), false, &TokenRoles::default()) {
        Err(Unanswered::Failure(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_child_that_answers_is_believed_and_one_that_ends_is_started_again() {
    let text = Answer::Text("text".into());
    let ends = child(&[&Answer::Ready, &Answer::Ready, &text], "exit 0");
    let apart = Apart::compile(ends, "{{ 1 }}").unwrap();
    for _ in 0..3 {
        assert_eq!(apart.render(&hello(), false, &TokenRoles::default()).unwrap(), "text");
    }
}

#[test]
fn how_a_child_ends_is_told() {
    let ready = [&Answer::Ready, &Answer::Ready];
    let crash = |status: &str| Excess::Crash { status: status.into() };
    for (end, expected) in [
        ("exit 3", crash("exit status: 3")),
        ("kill -SEGV $$", crash("signal: 11 (SIGSEGV)")),
        ("kill -XCPU $$", Excess::Time),
        ("echo memory allocation of 9 bytes failed >&2; kill -ABRT $$", Excess::Memory),
        ("echo thread main has overflowed its stack >&2; kill -ABRT $$", Excess::Depth),
    ] {
        // Nothing is left to read where the end is looked for, and no memory of it on the disk.
        let end = format!("ulimit -c 0; head -c 40 >/dev/null; {end}");
        assert_eq!(failure(child(&ready, &end)), Failure::Exceeded(expected), "{end}");
    }
}

#[test]
fn a_child_that_hangs_is_stopped() {
    let start = Instant::now();
    let hangs = child(&[&Answer::Ready, &Answer::Ready], "exec sleep 60");
    assert_eq!(failure(hangs), Failure::Exceeded(Excess::Time));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn what_is_no_renderer_is_no_process() {
    let path = "/nowhere/renderer".into();
    let nowhere = Apart::compile(Program { path, arguments: Vec::new() }, "{{ 1 }}");
    assert!(matches!(nowhere, Err(Unanswered::NoProcess(_))));
    // It says something else, or far more than was asked for.
    let other = child(&[&Answer::Text("text".into())], "exec sleep 60");
    assert!(matches!(Apart::compile(other, "{{ 1 }}"), Err(Unanswered::NoProcess(_))));
    let long = child(&[&Answer::Text("a".repeat(80 << 10))], "exec sleep 60");
    assert!(matches!(Apart::compile(long, "{{ 1 }}"), Err(Unanswered::NoProcess(_))));
}
