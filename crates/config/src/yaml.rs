//! YAML as a tree in which every key and value knows its place.
//!
//! Built on the parser's events, because they carry the places of keys and show a repeated key as often as it stands
//! there. Scalars keep their text: what it means is for the table of shapes to say, so `007` stays `007` where text
//! is wanted. Tags and several documents in one file are refused; aliases are resolved up to [`MAX_NODES`].

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Bounds what aliases of aliases can grow to; a real file holds some hundred nodes.
const MAX_NODES: usize = 50_000;

/// Deeper nesting than any key of ours has by far; keeps recursion over the tree within the stack.
const MAX_DEPTH: usize = 64;

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value with its place. Has no `Debug`: it may hold a secret.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Clone)]
pub(crate) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A scalar's text, and how it may be shown.
#[derive(Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Whether it stood there without quotes.
    pub(crate) plain: bool,
    /// The text as written, where references were replaced in it: a message shows this and never the value.
    pub(crate) written: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

/// What is wrong with a file as YAML.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct YamlProblem {
    pub(crate) place: Option<Place>,
    pub(crate) key: String,
    pub(crate) message: String,
}

/// Parses one document. A file without any content is an empty map.
pub(crate) fn parse(bytes: &[u8]) -> Result<Node, Vec<YamlProblem>> {
    let text = std::str::from_utf8(bytes).map_err(|error| vec![not_utf8(bytes, error.valid_up_to())])?;
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text.trim_start_matches('\u{feff}')) {
        match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => builder.fail(&error),
        }
        if builder.broken {
            break;
        }
    }
    builder.finish()
}

fn not_utf8(bytes: &[u8], valid_up_to: usize) -> YamlProblem {
    let line = 1 + bytes[..valid_up_to].iter().filter(|byte| **byte == b'\n').count();
    let place = Some(Place { line, column: 1 });
    YamlProblem { place, key: String::new(), message: "is not UTF-8; save the file as UTF-8".to_owned() }
}

/// A collection whose end has not been seen.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<(String, Place)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    problems: Vec<YamlProblem>,
    /// Set when the rest of the file cannot be understood.
    broken: bool,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) {
        let place = Place { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                let plain = style == ScalarStyle::Plain;
                self.add(Node { place, value: scalar(text.into_owned(), plain) }, anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                self.enter(Node { place, value: Value::List(Vec::new()) }, anchor);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                self.enter(Node { place, value: Value::Map(Vec::new()) }, anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.add(open.node, open.anchor);
                }
            }
            Event::Alias(anchor) => self.add_alias(anchor, place),
            Event::DocumentStart(_) if self.root.is_some() => {
                self.stop(place, "holds several documents; write one file for each");
            }
            Event::DocumentStart(_) | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {}
        }
    }

    fn enter(&mut self, node: Node, anchor: usize) {
        if self.open.len() >= MAX_DEPTH {
            self.stop(node.place, "is nested too deeply");
            return;
        }
        if self.awaits_key() {
            self.stop(node.place, "a key must be a plain text");
            return;
        }
        self.open.push(Open { node, anchor, key: None });
    }

    /// Whether the next node is a key of the innermost map.
    fn awaits_key(&self) -> bool {
        self.open.last().is_some_and(|open| matches!(open.node.value, Value::Map(_)) && open.key.is_none())
    }

    fn add(&mut self, node: Node, anchor: usize) {
        self.nodes += 1;
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::List(items), _) => items.push(node),
            (Value::Map(entries), Some((key, key_place))) => entries.push(Entry { key, key_place, value: node }),
            (Value::Map(_), None) => self.begin_entry(node),
            (Value::Null | Value::Scalar(_), _) => {}
        }
    }

    fn begin_entry(&mut self, key: Node) {
        let Some(open) = self.open.last_mut() else { return };
        let name = match key.value {
            Value::Scalar(scalar) => scalar.text,
            _ => return self.stop(key.place, "a key must be a plain text"),
        };
        if let Value::Map(entries) = &open.node.value
            && let Some(first) = entries.iter().find(|entry| entry.key == name)
        {
            let message = format!("is given twice; it stands in line {} already", first.key_place.line);
            open.key = Some((name.clone(), key.place));
            let path = self.path_to(&name);
            self.problems.push(YamlProblem { place: Some(key.place), key: path, message });
            return;
        }
        open.key = Some((name, key.place));
    }

    /// The key path of `name` in the innermost map.
    fn path_to(&self, name: &str) -> String {
        let outer = &self.open[..self.open.len().saturating_sub(1)];
        let mut path = String::new();
        for open in outer {
            match (&open.node.value, &open.key) {
                (Value::List(items), _) => path.push_str(&format!("[{}]", items.len())),
                (_, Some((key, _))) => path = join(&path, key),
                _ => {}
            }
        }
        join(&path, name)
    }

    fn add_alias(&mut self, anchor: usize, place: Place) {
        let Some(target) = self.anchors.get(&anchor).cloned() else {
            return self.stop(place, "an alias must come after the end of what it stands for");
        };
        self.nodes += count(&target);
        if self.nodes > MAX_NODES {
            return self.stop(place, "its aliases stand for too much");
        }
        let depth = self.open.len() + depth(&target);
        if depth > MAX_DEPTH {
            return self.stop(place, "is nested too deeply");
        }
        self.add(target, 0);
    }

    fn refuse_tag(&mut self, tagged: bool, place: Place) {
        if tagged {
            let message = "YAML tags (`!…`) are not supported; remove it".to_owned();
            self.problems.push(YamlProblem { place: Some(place), key: String::new(), message });
        }
    }

    fn fail(&mut self, error: &ScanError) {
        let place = Place { line: error.marker().line().max(1), column: error.marker().col() + 1 };
        self.stop(place, &format!("is not valid YAML: {}", error.info()));
    }

    fn stop(&mut self, place: Place, message: &str) {
        self.broken = true;
        self.problems.push(YamlProblem { place: Some(place), key: String::new(), message: message.to_owned() });
    }

    fn finish(self) -> Result<Node, Vec<YamlProblem>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        match self.root {
            None | Some(Node { value: Value::Null, .. }) => Ok(empty()),
            Some(root) => Ok(root),
        }
    }
}

/// A map without entries.
pub(crate) fn empty() -> Node {
    Node { place: Place { line: 1, column: 1 }, value: Value::Map(Vec::new()) }
}

fn scalar(text: String, plain: bool) -> Value {
    if plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Scalar(Scalar { text, plain, written: None })
}

fn children(node: &Node) -> Box<dyn Iterator<Item = &Node> + '_> {
    match &node.value {
        Value::List(items) => Box::new(items.iter()),
        Value::Map(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
        Value::Null | Value::Scalar(_) => Box::new(std::iter::empty()),
    }
}

fn count(node: &Node) -> usize {
    1 + children(node).map(count).sum::<usize>()
}

fn depth(node: &Node) -> usize {
    1 + children(node).map(depth).max().unwrap_or(0)
}

/// Joins a key path and the next key.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Node {
    /// The value under `key`, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of `key`, if this is a map that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// What the defaults file says about any entry of a map whose keys the user chooses: the value of `<…>`.
    pub(crate) fn placeholder(&self) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key.starts_with('<')).map(|entry| &entry.value),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// What kind of node this is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a block of keys",
        }
    }

    /// The node as JSON: unquoted scalars become booleans, numbers and null as YAML's core schema has it.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Scalar(scalar) => scalar.to_json(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                let members = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
                serde_json::Value::Object(members.collect())
            }
        }
    }
}

impl Scalar {
    /// The text as a message may show it.
    pub(crate) fn shown(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.text)
    }

    fn to_json(&self) -> serde_json::Value {
        if !self.plain {
            return self.text.clone().into();
        }
        match self.text.as_str() {
            "true" | "True" | "TRUE" => return true.into(),
            "false" | "False" | "FALSE" => return false.into(),
            _ => {}
        }
        if let Ok(integer) = self.text.parse::<i64>() {
            return integer.into();
        }
        let looks_numeric = self.text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
        match self.text.parse::<f64>() {
            Ok(number) if looks_numeric && number.is_finite() => number.into(),
            _ => self.text.clone().into(),
        }
    }
}

#[cfg(test)]
mod tests;
