//! Special tokens by the roles that the files give them.

use serde::{Deserialize, Serialize};

/// The roles that transformers knows: `bos` is the variable `bos_token` in templates.
pub(super) const ROLES: [&str; 7] = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];

/// The special tokens of a model by their roles, as templates name them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRoles {
    /// Variable (`bos_token`) and token, of those that there are.
    named: Vec<(String, String)>,
    /// Special tokens without a role.
    additional: Vec<String>,
}

impl TokenRoles {
    /// Gives a role to a token; an empty name is none.
    pub fn set(&mut self, role: &str, token: &str) {
        self.set_variable(&format!("{role}_token"), token);
    }

    /// As [`TokenRoles::set`], by the name of the variable.
    pub fn set_variable(&mut self, variable: &str, token: &str) {
        if !token.is_empty() && !self.named.iter().any(|(known, _)| known == variable) {
            self.named.push((variable.to_owned(), token.to_owned()));
        }
    }

    /// Adds a token without a role.
    pub fn add(&mut self, token: &str) {
        self.additional.push(token.to_owned());
    }

    /// The token of a role.
    pub fn get(&self, role: &str) -> Option<&str> {
        let mut named = self.named();
        named.find(|(variable, _)| variable.strip_suffix("_token") == Some(role)).map(|(_, t)| t)
    }

    /// Variables with their tokens.
    pub fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        self.named.iter().map(|(variable, token)| (variable.as_str(), token.as_str()))
    }

    /// The tokens without a role.
    pub fn additional(&self) -> &[String] {
        &self.additional
    }
}
