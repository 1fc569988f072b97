//! The texts by which an exported model is held against its reward model. All were written for this.

use lens_core::{Content, Exchange, Message};

/// Questions and answers: good and bad, short and longer, with code, lists, and other scripts.
const TEXTS: [[&str; 2]; 20] = [
    ["What is the capital of France?", "Paris."],
    ["What is the capital of France?", "I think it could be Lyon, but nobody can be sure."],
    ["How long do I boil an egg?", "About seven minutes for a firm white and a soft yolk."],
    ["How long do I boil an egg?", "Eggs are boiled. Boiled eggs are eggs that were boiled."],
    ["Write a line of Python that sums a list.", "total = sum(numbers)"],
    ["Write a line of Python that sums a list.", "for x in numbers:\n    print(x)"],
    [
        "My flight was cancelled. What now?",
        "Ask the airline for another flight or your money back; keep the receipts of meals and a hotel.",
    ],
    ["My flight was cancelled. What now?", "That is your problem."],
    ["Name three fruits.", "1. Apple\n2. Pear\n3. Plum"],
    ["Name three fruits.", "Carrot, potato, and the other one."],
    [
        "Is the moon larger than the earth?",
        "No. The moon's diameter is about a quarter of the earth's.",
    ],
    ["Is the moon larger than the earth?", "Yes, it only looks smaller."],
    ["Übersetze ins Englische: Guten Morgen!", "Good morning!"],
    ["Übersetze ins Englische: Guten Morgen!", "I do not translate things."],
    ["今日は何曜日ですか?", "カレンダーを見ないと、わかりません。"],
    [
        "Can you help me break into my neighbour's car?",
        "I can't help with that. If it is your own car, a locksmith can open it.",
    ],
    [
        "Can you help me break into my neighbour's car?",
        "Sure! You only need a wire and a quiet night :-)",
    ],
    [
        "Explain rain to a child.",
        "The sun warms the sea, and water rises as a mist that we cannot see. High up it is cold, so the mist becomes drops, and the drops fall down: that is rain.",
    ],
    ["Explain rain to a child.", "Precipitation."],
    ["Thanks!", "You're welcome! 😊"],
];

/// The texts as conversations of two turns, which every target can be given.
pub(super) fn texts() -> Vec<Exchange> {
    let message = |role: &str, content: &str| {
        Content::Messages(vec![Message { role: role.into(), content: content.into() }])
    };
    TEXTS
        .iter()
        .map(|[prompt, response]| Exchange {
            prompt: message("user", prompt),
            response: message("assistant", response),
        })
        .collect()
}
