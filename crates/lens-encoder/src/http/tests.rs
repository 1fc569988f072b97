#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::address::{joined, origin};
use super::*;

#[test]
fn what_could_be_secret_is_not_shown() {
    let url = "https://me:pass@host.org:8/a/b.gguf?X-Signature=abc#x";
    assert_eq!(public_url(url), "https://host.org:8/a/b.gguf");
    assert!(has_user(url) && !has_user("https://host/a@b"));
    let secret = Secret::new(" hf_abc \n").unwrap();
    assert!(!format!("{secret:?}").contains("hf_abc"));
    assert_eq!(secret.hide_in("bad key hf_abc!"), "bad key ***!");
    assert_eq!(Secret::new("a b"), None);
    assert_eq!(Secret::new(" "), None);
}

#[test]
fn redirects_are_joined_as_browsers_do() {
    let base = "https://a.org/x/y?z=1";
    assert_eq!(joined(base, "https://b.org/"), "https://b.org/");
    assert_eq!(joined(base, "//b.org/c"), "https://b.org/c");
    assert_eq!(joined(base, "/c?d"), "https://a.org/c?d");
    assert_eq!(joined(base, "c"), "https://a.org/x/c");
    assert_eq!(joined("https://a.org", "c"), "https://a.org/c");
    assert_eq!(origin("https://A.org:443/x"), origin("https://a.org"));
    assert_ne!(origin("https://a.org:444/x"), origin("https://a.org"));
}

#[test]
fn pauses_grow_and_servers_are_heeded() {
    let retry = Retry { attempts: 5, first: Duration::from_millis(100) };
    let ms = |attempt| retry.pause(attempt, None).as_millis();
    assert!((50..=150).contains(&ms(0)) && (200..=600).contains(&ms(2)));
    assert!(ms(u32::MAX) <= 30_000);
    assert_eq!(retry.pause(0, Some(Duration::from_secs(7))), Duration::from_secs(7));
    assert_eq!(retry.pause(0, Some(Duration::from_secs(7000))), LONGEST_PAUSE);
}

#[test]
fn messages_are_found_in_many_shapes() {
    for body in [
        r#"{"error": {"message": "too long", "code": 400}}"#,
        r#"{"error": "too long", "error_type": "Validation"}"#,
        r#"{"detail": [{"loc": ["body"], "msg": "too long"}]}"#,
        "too\n long",
    ] {
        assert_eq!(said(body.as_bytes()), "too long");
    }
    assert_eq!(said(b""), "no message");
    assert!(said("ü".repeat(5000).as_bytes()).len() < 700);
}
