//! The kind of value that a column holds: what all of its values have in common.

use serde_json::{Number, Value};

/// Objects with more different keys than this are written as JSON text, not as columns of their own.
const MOST_FIELDS: usize = 64;

/// What all values of a column are, nulls aside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kind {
    /// There is none.
    #[default]
    Empty,
    /// True or false.
    Bool,
    /// Numbers.
    Number {
        /// Whether each is a whole number that an i64 holds.
        integer: bool,
        /// Whether an f64 holds each exactly as it stands.
        real: bool,
    },
    /// Text.
    Text,
    /// Lists, whose items are of one kind.
    List(Box<Kind>),
    /// Objects, with the kind of each key's values, in the order in which the keys are met.
    Object(Vec<(String, Kind)>),
    /// Values of several kinds: each is written as JSON text.
    Json,
}

impl Kind {
    /// Numbers that may have a fraction.
    pub const REAL: Kind = Kind::Number { integer: false, real: true };

    /// A list of values of a kind.
    pub fn list(of: Kind) -> Kind {
        Kind::List(Box::new(of))
    }

    /// Widens the kind so that it holds this value too.
    pub fn take_in(&mut self, value: &Value) {
        match (&mut *self, value) {
            (_, Value::Null)
            | (Kind::Json, _)
            | (Kind::Bool, Value::Bool(_))
            | (Kind::Text, Value::String(_)) => {}
            (Kind::Number { integer, real }, Value::Number(number)) => {
                *integer &= number.is_i64();
                *real &= is_real(number);
            }
            (Kind::List(items), Value::Array(values)) => {
                values.iter().for_each(|value| items.take_in(value));
            }
            (Kind::Object(fields), Value::Object(object)) => {
                for (name, value) in object {
                    match fields.iter_mut().find(|(known, _)| known == name) {
                        Some((_, kind)) => kind.take_in(value),
                        None => fields.push((name.clone(), Kind::of(value))),
                    }
                }
                if fields.len() > MOST_FIELDS {
                    *self = Kind::Json;
                }
            }
            (Kind::Empty, value) => *self = Kind::of(value),
            _ => *self = Kind::Json,
        }
    }

    /// The kind of one value.
    fn of(value: &Value) -> Kind {
        match value {
            Value::Null => Kind::Empty,
            Value::Bool(_) => Kind::Bool,
            Value::Number(n) => Kind::Number { integer: n.is_i64(), real: is_real(n) },
            Value::String(_) => Kind::Text,
            Value::Array(_) | Value::Object(_) => {
                let mut kind = match value {
                    Value::Array(_) => Kind::list(Kind::Empty),
                    _ => Kind::Object(Vec::new()),
                };
                kind.take_in(value);
                kind
            }
        }
    }
}

/// Whether an f64 holds the number exactly.
fn is_real(number: &Number) -> bool {
    /// From here on not every whole number has an f64.
    const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    match (number.as_i64(), number.as_u64()) {
        (Some(whole), _) => whole.unsigned_abs() <= EXACT,
        (None, Some(whole)) => whole <= EXACT,
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(values: &[Value]) -> Kind {
        let mut kind = Kind::Empty;
        values.iter().for_each(|value| kind.take_in(value));
        kind
    }

    #[test]
    fn nulls_say_nothing_and_values_of_one_kind_stay_what_they_are() {
        assert_eq!(kind(&[json!(null), json!("a"), json!(null)]), Kind::Text);
        assert_eq!(kind(&[json!(true), json!(null)]), Kind::Bool);
        assert_eq!(kind(&[json!(1), json!(-2)]), Kind::Number { integer: true, real: true });
        assert_eq!(kind(&[json!(1), json!(0.5)]), Kind::REAL);
        assert_eq!(kind(&[json!(null)]), Kind::Empty);
        assert_eq!(kind(&[json!(1), json!("1")]), Kind::Json);
        assert_eq!(kind(&[json!([1]), json!({"a": 1})]), Kind::Json);
    }

    #[test]
    fn whole_numbers_beyond_the_exact_ones_are_not_rounded() {
        let large = json!(9_007_199_254_740_993_i64);
        assert_eq!(kind(std::slice::from_ref(&large)), Kind::Number { integer: true, real: false });
        // Neither an i64 nor an f64 holds both of them.
        assert_eq!(kind(&[large, json!(0.5)]), Kind::Number { integer: false, real: false });
        assert_eq!(kind(&[json!(u64::MAX)]), Kind::Number { integer: false, real: false });
    }

    #[test]
    fn objects_have_every_key_that_any_of_them_has() {
        let found = kind(&[json!([{"role": "user"}]), json!([{"content": "a", "role": null}])]);
        let fields = vec![("role".to_owned(), Kind::Text), ("content".to_owned(), Kind::Text)];
        assert_eq!(found, Kind::list(Kind::Object(fields)));
        let many: Vec<Value> = (0..=MOST_FIELDS).map(|i| json!({ format!("key{i}"): 1 })).collect();
        assert_eq!(kind(&many), Kind::Json);
    }
}
