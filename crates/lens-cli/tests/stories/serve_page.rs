//! The story of somebody who opens the server in a browser, pastes a prompt and some responses, and
//! wants to know which is better.
//!
//! LENS_CHROMIUM names a Chromium (or Chrome) to open it in; without it these tests are ignored,
//! and fail where LENS_MODEL_TESTS=1 asks for all tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::browser::Tab;
use crate::common::Lens;
use crate::common::serving::Serving;
use serde_json::json;
use test_needs::needs;

/// Texts that have done harm elsewhere.
const HOSTILE: &str = "</textarea><script>document.title='owned'</script>\
    <img src=x onerror=\"document.title='owned'\">\u{202e}evil\u{2066} &amp; {{7*7}} javascript:alert(1)";

/// What the page says of the reward of response `i`, as a number.
fn reward(tab: &mut Tab, i: usize) -> f64 {
    let text = tab.text(&format!("#cards > li:nth-child({}) .reward", i + 1));
    text.replace('\u{2212}', "-").parse().unwrap()
}

/// Opens the page, and waits for its model.
fn opened(serving: &Serving) -> Tab {
    let mut tab = Tab::new();
    tab.window(1200, false);
    tab.open(&format!("{}/", serving.url));
    tab.until("document.querySelector('#about').textContent.includes('trained on')");
    tab
}

const RESULTS: &str = "!document.querySelector('#results').hidden\
    &&!document.querySelector('#results').classList.contains('old')";

#[needs(LENS_CHROMIUM, LENS_MODEL_TESTS)]
#[test]
fn the_better_of_two_responses_is_shown_with_its_probability() {
    let lens = Lens::with_reward_model();
    let serving = Serving::start(&lens, "rm");
    let mut tab = opened(&serving);
    assert_eq!(
        tab.text("#about"),
        "Reward model rm, trained on 48 pairs of pairs.jsonl, on embeddings of tiny.gguf."
    );
    tab.fill("#prompt", "Question 70: what of it?");
    tab.fill("#response-0", "Number 490 is no");
    tab.fill("#response-1", "It is number 490, so yes!");
    tab.click("#score");
    tab.until(RESULTS);
    // The same as everywhere else.
    let asked = json!({"prompt": "Question 70: what of it?",
        "responses": ["Number 490 is no", "It is number 490, so yes!"]});
    let answer = serving.post("/v1/reward", &asked).ok();
    let expected = |i: usize| answer["results"][i]["reward"].as_f64().unwrap();
    for i in 0..2 {
        assert!((reward(&mut tab, i) - expected(i)).abs() < 1e-3, "{i}");
    }
    let best = usize::from(expected(1) > expected(0));
    let verdict = tab.text("#verdict");
    let p = answer["wins"][best][1 - best].as_f64().unwrap();
    let (first, second) = (["A", "B"][best], ["B", "A"][best]);
    let start =
        format!("Response {first} wins: preferred to Response {second} with a probability of ");
    assert!(verdict.starts_with(&start), "{verdict}");
    let shown = if p > 0.999 { "over 99.9%".to_owned() } else { format!("{:.1}%", 100.0 * p) };
    assert!(verdict.contains(&shown), "{verdict} {p}");
    assert_eq!(tab.text("#cards > .best h3"), format!("Response {first}"));
    assert_eq!(tab.text("#cards > .best .badge.win"), "preferred");
    // Bars are as long as rewards are large.
    let widths =
        tab.value("[...document.querySelectorAll('.bar')].map(b=>+b.getAttribute('width'))");
    let ratio = widths[0].as_f64().unwrap() / widths[1].as_f64().unwrap();
    assert!((ratio / (expected(0) / expected(1)).abs() - 1.0).abs() < 0.05, "{widths} {answer}");
    // A text that is changed makes the rewards old, and no pairs are at hand.
    tab.fill("#response-0", "Number 490 is yes");
    assert_eq!(tab.text("#stale"), "The texts have changed since.");
    assert_eq!(tab.value("document.querySelector('#nearest-field').hidden"), true);
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

#[needs(LENS_CHROMIUM, LENS_MODEL_TESTS)]
#[test]
fn hostile_texts_are_shown_as_text_also_those_of_training_pairs() {
    let lens = Lens::with_reward_model();
    let row = json!({"prompt": HOSTILE, "chosen": HOSTILE, "rejected": "no"});
    lens.rows("near.jsonl", &[row]);
    let serving = Serving::start(&lens, "rm --pairs near.jsonl");
    let mut tab = opened(&serving);
    tab.fill("#prompt", HOSTILE);
    tab.fill("#response-0", HOSTILE);
    tab.fill("#response-1", "no");
    tab.click("#score");
    tab.until(RESULTS);
    tab.value("document.querySelectorAll('details').forEach(d=>d.open=true)");
    let shown = HOSTILE
        .replace('\u{202e}', "\u{27e8}U+202E\u{27e9}")
        .replace('\u{2066}', "\u{27e8}U+2066\u{27e9}");
    assert_eq!(tab.text("#cards > li:first-child > .quote"), shown);
    let pair = tab.text("#cards > li:first-child details");
    // Both sides of the one pair are near, each shown with its prompt.
    assert_eq!(pair.matches(&shown).count(), 4, "{pair}");
    assert!(pair.contains("Nearest to its chosen response, cosine 1.000"), "{pair}");
    assert_eq!(tab.value("document.title"), "LENS reward model");
    assert_eq!(tab.value("document.querySelectorAll('script,img,iframe').length"), 1);
    assert_eq!(tab.complaints(), Vec::<String>::new());
    // Nothing but this server is asked.
    let asked = tab.requested();
    assert!(asked.iter().all(|url| url.starts_with(&serving.url)), "{asked:?}");
    for (name, width, dark) in [("desk", 1200, false), ("phone", 360, false), ("dark", 1200, true)]
    {
        tab.window(width, dark);
        assert_eq!(tab.value("document.documentElement.scrollWidth <= innerWidth"), true, "{name}");
        let [r, g, b] = colour(&mut tab);
        assert!(
            if dark { r.max(g).max(b) < 40 } else { r.min(g).min(b) > 230 },
            "{name} {r} {g} {b}"
        );
        tab.picture(name);
    }
}

/// The background of the page.
fn colour(tab: &mut Tab) -> [u8; 3] {
    let colour = tab.value("getComputedStyle(document.body).backgroundColor");
    let inner =
        colour.as_str().unwrap().trim_start_matches("rgb(").trim_end_matches(')').to_owned();
    let parts: Vec<u8> = inner.split(", ").map(|c| c.parse().unwrap()).collect();
    parts.try_into().unwrap()
}

#[needs(LENS_CHROMIUM, LENS_MODEL_TESTS)]
#[test]
fn it_is_used_without_a_mouse_and_without_eyes() {
    let lens = Lens::with_reward_model();
    let serving = Serving::start(&lens, "rm --name second=rm");
    let mut tab = opened(&serving);
    let focused =
        |tab: &mut Tab| tab.value("document.activeElement.id").as_str().unwrap().to_owned();
    tab.press("Tab", 9, 0);
    assert_eq!(tab.value("document.activeElement.className"), "skip");
    for expected in ["model", "prompt"] {
        tab.press("Tab", 9, 0);
        assert_eq!(focused(&mut tab), expected);
    }
    tab.call("Input.insertText", json!({"text": "Question 3: what of it?"}));
    tab.value("document.querySelector('#add').focus()");
    tab.press("Enter", 13, 0);
    // The new response has the focus.
    tab.until("document.querySelectorAll('.response').length==3");
    assert_eq!(focused(&mut tab), "response-2");
    for (i, text) in ["It is number 21, so yes!", "Number 21 is no", "Number"].iter().enumerate() {
        tab.value(&format!("document.querySelector('#response-{i}').focus()"));
        tab.call("Input.insertText", json!({"text": text}));
    }
    tab.press("Enter", 13, 2);
    tab.until(RESULTS);
    assert!(tab.text("#verdict").contains("the next best"), "{}", tab.text("#verdict"));
    assert_eq!(tab.value("document.querySelectorAll('#table tbody tr').length"), 3);
    // Every field and button has a name, results are said, and a removed response is gone.
    tab.call("Accessibility.enable", json!({}));
    let tree = tab.call("Accessibility.getFullAXTree", json!({}));
    let named: Vec<(&str, &str)> = tree["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|n| n["ignored"] == json!(false))
        .filter_map(|n| Some((n["role"]["value"].as_str()?, n["name"]["value"].as_str()?)))
        .collect();
    for role in ["textbox", "button", "combobox", "checkbox", "image", "link"] {
        assert!(!named.iter().any(|(r, n)| *r == role && n.is_empty()), "{role}: {named:?}");
    }
    for node in
        [("textbox", "Response C"), ("button", "Remove response C"), ("combobox", "Reward model")]
    {
        assert!(named.contains(&node), "{node:?}: {named:?}");
    }
    assert!(named.iter().any(|(r, n)| *r == "image" && n.starts_with("reward ")), "{named:?}");
    tab.click("[aria-label='Remove response A']");
    tab.until("document.querySelectorAll('.response').length==2");
    assert_eq!(tab.value("document.querySelector('#response-0').value"), "Number 21 is no");
    assert_eq!(tab.value("[...document.querySelectorAll('.remove')].every(b=>b.hidden)"), true);
    // The other model is asked when it is picked.
    tab.value("(()=>{const m=document.querySelector('#model');m.value='second';m.dispatchEvent(new Event('change',{bubbles:true}))})()");
    assert!(tab.text("#about").starts_with("Reward model second"));
    tab.click("#score");
    tab.until(RESULTS);
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

#[needs(LENS_CHROMIUM, LENS_MODEL_TESTS)]
#[test]
fn the_token_is_asked_for_and_forgotten_and_refusals_are_told() {
    let lens = Lens::with_reward_model();
    let serving = Serving::start(&lens, "rm --token wonderful-secret");
    let mut tab = Tab::new();
    tab.open(&format!("{}/", serving.url));
    tab.until("!document.querySelector('#token-field').hidden");
    assert_eq!(tab.text("#message"), "This server asks for a token.");
    tab.fill("#response-0", "a");
    tab.click("#score");
    tab.until("document.querySelector('#message').textContent=='Response B is empty.'");
    tab.fill("#response-1", "b");
    tab.fill("#prompt", "p");
    tab.fill("#token", "wrong");
    tab.click("#score");
    tab.until(
        "document.querySelector('#message').textContent.startsWith('The token is not accepted')",
    );
    assert_eq!(tab.value("document.querySelector('#results').hidden"), true);
    tab.fill("#token", "wonderful-secret");
    tab.press("Enter", 13, 0);
    tab.until(RESULTS);
    assert_eq!(tab.text("#message"), "");
    // Nothing of it stays in the browser.
    let kept = tab.value(
        "document.cookie+JSON.stringify(localStorage)+JSON.stringify(sessionStorage)+location.href",
    );
    assert!(!kept.as_str().unwrap().contains("secret"), "{kept}");
    assert!(tab.requested().iter().all(|url| !url.contains("secret")));
    tab.open(&format!("{}/?again", serving.url));
    tab.until("!document.querySelector('#token-field').hidden");
    assert_eq!(tab.value("document.querySelector('#token').value"), "");
    // A server that has gone.
    tab.fill("#token", "wonderful-secret");
    tab.fill("#response-0", "a");
    tab.fill("#response-1", "b");
    serving.stop();
    tab.click("#score");
    tab.until("document.querySelector('#message').textContent.includes('does not answer')");
    assert_eq!(tab.text("#score"), "Compare");
}
