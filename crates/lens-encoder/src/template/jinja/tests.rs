#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::super::limits::Excess;
use super::*;

fn render(source: &str) -> String {
    let hello = Message { role: "user".into(), content: "a <b> \"ü\"".into() };
    let mut roles = TokenRoles::default();
    roles.set("bos", "<s>");
    roles.set("pad", "<pad>");
    roles.add("<extra>");
    Jinja::compile(source).unwrap().render(&[hello], false, &roles).unwrap()
}

fn refusal(source: &str) -> Failure {
    Jinja::compile(source).unwrap().render(&[], false, &TokenRoles::default()).unwrap_err()
}

#[test]
fn json_is_pythons() {
    assert_eq!(
        render("{{ messages[0] | tojson }}{{ {'a': [1, 2]} | tojson }}"),
        r#"{"role": "user", "content": "a <b> \"ü\""}{"a": [1, 2]}"#
    );
}

#[test]
fn blocks_leave_no_white_space() {
    assert_eq!(render("  {% if true %}\n  x\n  {% endif %}\ny\n"), "  x\ny");
    assert_eq!(
        render("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"),
        "1"
    );
}

#[test]
fn python_methods_and_dates_work() {
    assert_eq!(render("{{ ' Ab '.strip().upper() }}{{ 'a,b'.split(',')[1] }}"), "ABb");
    assert_eq!(render("{{ messages[0]['content'].startswith('a') }}"), "True");
    // What templates that strip thoughts are made of: turns backwards, a namespace, parts of a text.
    let thoughts = "{% set seen = namespace(n=0) %}{% for m in messages[::-1] %}\
        {% set seen.n = seen.n + 1 %}{{ m.role }}{{ 'x</think>y'.split('</think>')[-1] }}\
        {% endfor %}{{ seen.n }}";
    assert_eq!(render(thoughts), "usery1");
    assert_eq!(render("{{ strftime_now('%d %b %Y') }}"), "26 Jul 2024");
    assert_eq!(render("{%- generation -%} x {%- endgeneration %}"), "x");
}

#[test]
fn special_tokens_have_their_names_and_what_there_is_not_is_undefined() {
    assert_eq!(render("{{ bos_token }}{{ pad_token }}{{ eos_token }}"), "<s><pad>");
    assert_eq!(render("{{ eos_token is defined }}{{ tools is none }}"), "FalseTrue");
    assert_eq!(render("{{ additional_special_tokens | join(' ') }}"), "<extra>");
    assert_eq!(render("{{ enable_thinking is defined }}"), "False");
}

#[test]
fn refusals_say_why() {
    let raises = "{{ raise_exception('roles must alternate') }}";
    assert_eq!(refusal(raises), Failure::Refused("roles must alternate".into()));
    assert!(Jinja::compile("{% if %}").is_err());
}

#[test]
fn what_multiplies_is_stopped_by_the_engines_own_limits() {
    let steps = Failure::Exceeded(Excess::Steps);
    let memory = Failure::Exceeded(Excess::Memory);
    let depth = Failure::Exceeded(Excess::Depth);
    let doubled = |what: &str| {
        format!(
            "{{% set ns = namespace(x='aaaaaaaa') %}}{{% for i in range(60) %}}\
             {{% set ns.x = {what} %}}{{% endfor %}}{{{{ ns.x | length }}}}"
        )
    };
    for (source, expected) in [
        (doubled("ns.x ~ ns.x"), &steps),
        (doubled("ns.x + ns.x"), &steps),
        (doubled("[ns.x, ns.x] | join(ns.x)"), &steps),
        (doubled("ns.x | replace('a', 'aa')"), &steps),
        ("{% set x = 'a' * 9999 %}{{ x.replace('a', x) }}".into(), &memory),
        ("{% set x = 'a' * 9999 %}{{ x.join([x] * 9999) }}".into(), &steps),
        ("{{ 'a' * 99999999 }}".into(), &steps),
        ("{{ '{:>2000000000}'.format('a') }}".into(), &memory),
        ("{{ '%2000000000d' | format(1) }}".into(), &steps),
        ("{% set x = 'a' * 999999 %}{{ ('{0}' * 999).format(x) }}".into(), &memory),
        ("{{ 'a' | indent(2000000000, true) }}".into(), &steps),
        ("{{ range(1000000000) | sum }}".into(), &steps),
        ("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}".into(), &depth),
        ("{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns | tojson }}".into(), &depth),
    ] {
        let found = refusal(&source);
        match &found {
            // The engine's own bound of a range.
            Failure::Refused(words) => assert!(words.contains("range"), "{source}: {words}"),
            Failure::Exceeded(_) => assert_eq!(found, *expected, "{source}"),
        }
    }
    let text = "{% for i in range(3000) %}{{ 'a' * 999 }}{% endfor %}";
    assert_eq!(refusal(text), Failure::Exceeded(Excess::Output { most: 1 << 20 }));
    for spaces in [33, 10_000_000_000, i64::MAX as usize] {
        let source = format!("{{{{ 1 | tojson(indent={spaces}) }}}}");
        assert_eq!(refusal(&source), Failure::Exceeded(Excess::Indent { spaces }));
    }
}

#[test]
fn large_conversations_are_within_the_limits() {
    let turn =
        |i: usize| Message { role: "user".into(), content: format!("Turn {i}. ").repeat(99) };
    let messages: Vec<Message> = (0..2000).map(turn).collect();
    // It puts the conversation together twice, and looks at every turn from every side.
    let source = "{% set ns = namespace(n=0, last='') %}{% for m in messages[::-1] %}\
        {% if m.role == 'user' and not m.content.startswith('<tool>') %}\
        {% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{% for m in messages %}\
        {% set text = '<s>' + m.role + m.content.split('</think>')[-1].strip() + '</s>' %}\
        {{ text | trim }}{% endfor %}";
    let jinja = Jinja::compile(source).unwrap();
    let text = jinja.render(&messages, false, &TokenRoles::default()).unwrap();
    assert!(text.len() > 2_000_000, "{}", text.len());
}
