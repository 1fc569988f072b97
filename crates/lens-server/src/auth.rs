//! Authentication by bearer tokens, compared in constant time.

use crate::error::ServeError;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// Fewest bytes of a token; shorter ones can be guessed.
const MIN_LENGTH: usize = 8;

/// The bearer tokens that a server accepts. Only their hashes are kept.
#[derive(Clone, Default)]
pub struct BearerTokens(Vec<[u8; 32]>);

impl BearerTokens {
    /// Adds the tokens of `text`, one a line or separated by commas. Blank ones and lines that
    /// begin with `#` are skipped. `option` is where the text comes from, for the error.
    ///
    /// # Errors
    /// [`ServeError::Option`] for a text without a token, so that who meant to protect a server does
    /// not open it; for a token that is too short, or that no header can carry.
    pub fn add(&mut self, option: &'static str, text: &str) -> Result<(), ServeError> {
        let refuse = |detail: String| Err(ServeError::Option { option, detail });
        // Some editors begin a file with a mark.
        let text = text.trim_start_matches('\u{feff}');
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let tokens = lines.flat_map(|line| line.split(',')).map(str::trim);
        let before = self.0.len();
        for token in tokens.filter(|token| !token.is_empty()) {
            if !token.bytes().all(|b| b.is_ascii_graphic()) {
                return refuse("a token has visible ASCII characters only".to_owned());
            }
            if token.len() < MIN_LENGTH {
                return refuse(format!("a token needs at least {MIN_LENGTH} characters"));
            }
            self.0.push(Sha256::digest(token.as_bytes()).into());
        }
        if self.0.len() == before {
            return refuse("there is no token in it".to_owned());
        }
        Ok(())
    }

    /// Whether there is no token: then every request is admitted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request with these headers is admitted: no token is needed, or the request has
    /// exactly one header `Authorization: Bearer TOKEN` with one of the tokens. The time that this
    /// takes does not depend on the token sent.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        if self.is_empty() {
            return true;
        }
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (shown.next(), shown.next()) else { return false };
        let Ok(value) = value.to_str() else { return false };
        let Some((scheme, token)) = value.split_once(' ') else { return false };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return false;
        }
        let shown: [u8; 32] = Sha256::digest(token.trim().as_bytes()).into();
        let any = self.0.iter().fold(Choice::from(0), |any, known| any | known.ct_eq(&shown));
        any.into()
    }
}

impl fmt::Debug for BearerTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::http::HeaderValue;

    fn tokens(text: &str) -> BearerTokens {
        let mut tokens = BearerTokens::default();
        tokens.add("--token", text).unwrap();
        tokens
    }

    fn admits(tokens: &BearerTokens, values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        tokens.admit(&headers)
    }

    #[test]
    fn any_of_several_opens_and_nothing_else_does() {
        let tokens = tokens("first-token\n# a comment\n\nsecond-token, third-token\n");
        for token in ["first-token", "second-token", "third-token"] {
            assert!(admits(&tokens, &[&format!("Bearer {token}")]), "{token}");
            assert!(admits(&tokens, &[&format!("bearer {token}")]), "schemes have no case");
            assert!(!admits(&tokens, &[&format!("Bearer {}", token.to_uppercase())]));
            assert!(!admits(&tokens, &[&format!("Basic {token}")]));
            assert!(!admits(&tokens, &[token]));
            let twice = format!("Bearer {token}");
            assert!(!admits(&tokens, &[&twice, &twice]), "two headers are nobody's");
        }
        for wrong in ["Bearer ", "Bearer first-toke", "Bearer first-token2", "Bearer # a comment"] {
            assert!(!admits(&tokens, &[wrong]), "{wrong}");
        }
        assert!(!admits(&tokens, &[]));
        assert_eq!(format!("{tokens:?}"), "3 tokens");
    }

    #[test]
    fn without_tokens_everybody_may() {
        assert!(admits(&BearerTokens::default(), &[]) && BearerTokens::default().is_empty());
    }

    #[test]
    fn every_spelling_of_nothing_is_refused() {
        for nothing in [
            "",
            " ",
            "\t\r\n",
            "\n\n\n",
            ",",
            " , ,, ,\n,",
            "# a comment",
            "  # a comment\r\n#\n\n",
            "\u{feff}",
            "\u{feff}# a comment\n",
            "\u{a0}\u{2003}\u{3000}",
        ] {
            let mut tokens = tokens("first-token");
            let error = tokens.add("LENS_TOKENS", nothing).unwrap_err().to_string();
            assert_eq!(error, "LENS_TOKENS: there is no token in it", "{nothing:?}");
        }
    }

    #[test]
    fn a_token_that_can_be_guessed_or_not_sent_is_refused() {
        for bad in [
            "short",
            "null\0null\0",
            "\u{200b}\u{200b}\u{200b}",
            "with a space",
            "umlaut-\u{e4}\u{e4}\u{e4}",
        ] {
            let error = BearerTokens::default().add("--token", bad).unwrap_err().to_string();
            assert!(error.starts_with("--token: ") && !error.contains(bad), "{error}");
        }
    }
}
