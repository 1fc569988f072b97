//! The schemas of an OpenAPI document, held against real requests and answers.
//!
//! [`Document`] knows the words of JSON Schema that the document uses. Another word is an error, so
//! that nothing that is written in a schema goes unchecked. It is written here because a validator
//! from a registry changes the features of dependencies, which would then be compiled twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// A description of routes, made strict: an object has no fields but those that its schema names.
pub struct Document {
    whole: Value,
    /// Every place of a schema (a JSON pointer) that some request or answer has been at.
    visited: BTreeSet<String>,
}

impl Document {
    pub fn new(mut whole: Value) -> Document {
        close(&mut whole["components"]["schemas"]);
        close(&mut whole["components"]["responses"]);
        close(&mut whole["paths"]);
        Document { whole, visited: BTreeSet::new() }
    }

    /// Every operation: path, method (upper case), and what is written of it.
    pub fn operations(&self) -> Vec<(String, String, Value)> {
        let mut all = Vec::new();
        for (path, operations) in self.whole["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                all.push((path.clone(), method.to_uppercase(), operation.clone()));
            }
        }
        all
    }

    /// The place of an operation's request schema, where it has one.
    pub fn request(&self, path: &str, method: &str) -> Option<String> {
        let place = format!("{}/requestBody/content/application~1json/schema", at(path, method));
        self.whole.pointer(&place).map(|_| place)
    }

    /// The place of what is written of an answer with this status.
    pub fn response(&self, path: &str, method: &str, status: u16) -> Option<String> {
        let place = format!("{}/responses/{status}", at(path, method));
        self.whole.pointer(&place).map(|response| match response["$ref"].as_str() {
            Some(reference) => reference.trim_start_matches('#').to_owned(),
            None => place,
        })
    }

    pub fn get(&self, place: &str) -> &Value {
        self.whole.pointer(place).unwrap_or_else(|| panic!("nothing at {place}"))
    }

    /// Whether a value fits the schema at a place.
    pub fn fits(&self, place: &str, value: &Value) -> bool {
        self.errors(self.get(place), value).is_empty()
    }

    /// A value must fit the schema at a place, which has then been visited.
    #[track_caller]
    pub fn check(&mut self, place: &str, value: &Value) {
        let errors = self.errors(self.get(place), value);
        assert!(errors.is_empty(), "{place}\n{}\n{value}", errors.join("\n"));
        self.visit(place.to_owned(), value);
    }

    /// What of a value does not fit a schema (JSON Schema 2020-12).
    pub fn errors(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        self.collect(schema, value, "", &mut errors);
        errors
    }

    fn collect(&self, schema: &Value, value: &Value, at: &str, errors: &mut Vec<String>) {
        let fitting = |branches: &Value| {
            let fits = |branch: &&Value| self.errors(branch, value).is_empty();
            branches.as_array().unwrap().iter().filter(fits).count()
        };
        let closed = schema.get("additionalProperties") == Some(&json!(false));
        for (word, says) in schema.as_object().unwrap_or_else(|| panic!("no schema: {schema}")) {
            let fits = match word.as_str() {
                // Notes for people, and for programs that write clients.
                "description" | "default" | "deprecated" | "contentEncoding"
                | "contentMediaType" => true,
                "$ref" => {
                    let place = says.as_str().unwrap().strip_prefix('#').unwrap();
                    self.collect(self.get(place), value, at, errors);
                    true
                }
                "type" => match says {
                    Value::Array(kinds) => kinds.iter().any(|kind| is_of(kind, value)),
                    kind => is_of(kind, value),
                },
                "properties" => {
                    for (field, inner) in object(value) {
                        match says.get(field) {
                            Some(schema) => {
                                self.collect(schema, inner, &format!("{at}/{field}"), errors);
                            }
                            None if closed => errors.push(format!("{at}/{field} is not described")),
                            None => {}
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    assert!(closed && schema.get("properties").is_some(), "{schema}");
                    true
                }
                "required" => {
                    let fields = says.as_array().unwrap();
                    let there = |f: &Value| value.get(f.as_str().unwrap()).is_some();
                    !value.is_object() || fields.iter().all(there)
                }
                "items" => {
                    for (i, inner) in value.as_array().into_iter().flatten().enumerate() {
                        self.collect(says, inner, &format!("{at}/{i}"), errors);
                    }
                    true
                }
                "minItems" => {
                    value.as_array().is_none_or(|a| a.len() as u64 >= says.as_u64().unwrap())
                }
                "maxItems" => {
                    value.as_array().is_none_or(|a| a.len() as u64 <= says.as_u64().unwrap())
                }
                "minimum" => value.as_f64().is_none_or(|x| x >= says.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|x| x <= says.as_f64().unwrap()),
                "enum" => says.as_array().unwrap().contains(value),
                "const" => says == value,
                "anyOf" => fitting(says) >= 1,
                "oneOf" => fitting(says) == 1,
                "allOf" => fitting(says) == says.as_array().unwrap().len(),
                "not" => !self.errors(says, value).is_empty(),
                other => panic!("`{other}` is not known here: {schema}"),
            };
            if !fits {
                errors.push(format!("{at}: {value} is not {word} {says}"));
            }
        }
    }

    /// Notes the fields, branches and listed values of a schema that a fitting value has.
    fn visit(&mut self, place: String, value: &Value) {
        let schema = self.get(&place).clone();
        if let Some(reference) = schema["$ref"].as_str() {
            self.visit(reference.trim_start_matches('#').to_owned(), value);
        }
        for (field, _) in object(&schema["properties"]) {
            if let Some(inner) = value.get(field) {
                let inner_place = format!("{place}/properties/{}", escaped(field));
                self.visited.insert(inner_place.clone());
                self.visit(inner_place, inner);
            }
        }
        if schema.get("items").is_some() {
            for inner in value.as_array().into_iter().flatten() {
                self.visit(format!("{place}/items"), inner);
            }
        }
        for word in ["anyOf", "oneOf", "allOf"] {
            for i in 0..schema[word].as_array().map_or(0, Vec::len) {
                let branch = format!("{place}/{word}/{i}");
                if self.fits(&branch, value) {
                    self.visited.insert(branch.clone());
                    self.visit(branch, value);
                }
            }
        }
        for (i, listed) in schema["enum"].as_array().into_iter().flatten().enumerate() {
            if listed == value {
                self.visited.insert(format!("{place}/enum/{i}"));
            }
        }
        if let Some(kinds) = schema["type"].as_array() {
            let null = kinds.iter().position(|k| (k == "null") == value.is_null());
            self.visited.insert(format!("{place}/type/{}", null.unwrap()));
        }
    }

    /// Fields, branches and listed values that no request and no answer has had.
    pub fn unvisited(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut seen = BTreeSet::new();
        for (path, method, operation) in self.operations() {
            let mut roots: Vec<String> = self.request(&path, &method).into_iter().collect();
            for status in operation["responses"].as_object().unwrap().keys() {
                let response = self.response(&path, &method, status.parse().unwrap()).unwrap();
                roots.push(format!("{response}/content/application~1json/schema"));
            }
            for root in roots.into_iter().filter(|r| self.whole.pointer(r).is_some()) {
                self.places(root, &mut all, &mut seen);
            }
        }
        all.retain(|place| !self.visited.contains(place));
        all
    }

    /// Schemas that no operation refers to.
    pub fn unused(&self) -> Vec<String> {
        let text = self.whole.to_string();
        let mut all = Vec::new();
        for kind in ["schemas", "responses"] {
            for name in self.whole["components"][kind].as_object().unwrap().keys() {
                if !text.contains(&format!("\"#/components/{kind}/{name}\"")) {
                    all.push(name.clone());
                }
            }
        }
        all
    }

    fn places(&self, place: String, all: &mut Vec<String>, seen: &mut BTreeSet<String>) {
        if !seen.insert(place.clone()) {
            return;
        }
        let schema = self.get(&place);
        if let Some(reference) = schema["$ref"].as_str() {
            self.places(reference.trim_start_matches('#').to_owned(), all, seen);
        }
        for (field, _) in object(&schema["properties"]) {
            let inner = format!("{place}/properties/{}", escaped(field));
            all.push(inner.clone());
            self.places(inner, all, seen);
        }
        if schema.get("items").is_some() {
            self.places(format!("{place}/items"), all, seen);
        }
        for word in ["anyOf", "oneOf", "allOf"] {
            for i in 0..schema[word].as_array().map_or(0, Vec::len) {
                let branch = format!("{place}/{word}/{i}");
                all.push(branch.clone());
                self.places(branch, all, seen);
            }
        }
        for i in 0..schema["enum"].as_array().map_or(0, Vec::len) {
            all.push(format!("{place}/enum/{i}"));
        }
        for i in 0..schema["type"].as_array().map_or(0, Vec::len) {
            all.push(format!("{place}/type/{i}"));
        }
    }
}

/// Whether a value is of a type, by its name in JSON Schema.
fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|x| x.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type: {other}"),
    }
}

fn at(path: &str, method: &str) -> String {
    format!("/paths/{}/{}", escaped(path), method.to_lowercase())
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Lets no object have fields that its schema does not name.
fn close(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if is_object_schema(fields) && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(all) => all.iter_mut().for_each(close),
        _ => {}
    }
}

/// A schema of an object, and not an object with a field called `properties`.
fn is_object_schema(fields: &Map<String, Value>) -> bool {
    fields.get("type") == Some(&json!("object")) && fields.contains_key("properties")
}
