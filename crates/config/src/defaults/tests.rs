//! The defaults file is rendered from the table of keys and its own values, so it explains every key, once.

use std::fmt::Write as _;

use convoke_core::spec::Guards;

use super::*;
use crate::keys;
use crate::shape::{Key, Presence, Shape, built, quoted};
use crate::yaml::Value;

const WIDTH: usize = 110;

const HEAD: &str = "\
Everything that can be configured, with its default. Write into your own files only what differs: \
`convoke.yaml` takes the keys under `convoke`, `connections.yaml` those under `connections`, each file in \
`syncs/` those under `sync`.\n\n\
`~` means that there is no default. A name in angle brackets is yours to choose, as often as needed. Where a \
list is possible, the keys of one item are shown. Strings may hold `${env:NAME}`, `${env:NAME:-default}` and \
`${file:path}`; `$${` stands for `${`. Relative paths start at the directory that holds the configuration \
directory.";

struct Renderer {
    text: String,
    /// Tables of keys that are explained already.
    explained: Vec<*const Key>,
}

impl Renderer {
    fn comment(&mut self, indent: usize, text: &str) {
        for paragraph in text.split('\n') {
            let mut line = String::new();
            for word in paragraph.split(' ') {
                if !line.is_empty() && indent + 3 + line.len() + word.len() > WIDTH {
                    writeln!(self.text, "{:indent$}# {line}", "").expect("a string");
                    line.clear();
                }
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            let line = format!("{:indent$}# {line}", "");
            writeln!(self.text, "{}", line.trim_end()).expect("a string");
        }
    }

    fn keys(&mut self, keys: &'static [Key], default: Option<&Node>, indent: usize) {
        let is_new = !self.explained.contains(&keys.as_ptr());
        self.explained.push(keys.as_ptr());
        for key in built(keys) {
            if is_new {
                self.explain(key, indent);
            }
            self.key(key.name, &key.shape, default.and_then(|node| node.get(key.name)), indent);
        }
    }

    fn explain(&mut self, key: &Key, indent: usize) {
        let mut text = key.doc.to_owned();
        match key.shape {
            Shape::Choice(words) => write!(text, " One of {}.", quoted(words.iter().copied())).expect("a string"),
            Shape::OneOf(_) => text.push_str(" Exactly one of the following."),
            Shape::OneOrMany(_) => text.push_str(" One, or a list."),
            _ => {}
        }
        if key.presence == Presence::Required {
            text.push_str(" Required.");
        }
        self.comment(indent, &text);
    }

    fn key(&mut self, name: &str, shape: &Shape, default: Option<&Node>, indent: usize) {
        let nested = |renderer: &mut Self| writeln!(renderer.text, "{:indent$}{name}:", "").expect("a string");
        match shape {
            Shape::Object(keys) | Shape::OneOf(keys) => {
                nested(self);
                self.keys(keys, default, indent + 2);
            }
            Shape::Filter(keys) => {
                self.alternative(keys, indent);
                self.scalar(name, default, indent);
            }
            Shape::Map { value, .. } => {
                nested(self);
                let placeholder = default.map(|node| match &node.value {
                    Value::Map(entries) => entries[0].key.clone(),
                    _ => panic!("`{name}` needs a placeholder"),
                });
                let placeholder = placeholder.unwrap_or_else(|| "<name>".to_owned());
                self.key(&placeholder, value, default.and_then(Node::placeholder), indent + 2);
            }
            Shape::OneOrMany(shape) => self.key(name, shape, default, indent),
            Shape::ScalarOrObject { object, .. } => match default {
                Some(Node { value: Value::Map(_), .. }) => {
                    nested(self);
                    self.keys(object, default, indent + 2);
                }
                _ => {
                    self.alternative(object, indent);
                    self.scalar(name, default, indent);
                }
            },
            _ => self.scalar(name, default, indent),
        }
    }

    fn alternative(&mut self, keys: &'static [Key], indent: usize) {
        if self.explained.contains(&keys.as_ptr()) {
            return;
        }
        self.explained.push(keys.as_ptr());
        self.comment(indent, "As a block:");
        for key in built(keys) {
            self.comment(indent, &format!("- {}: {}", key.name, key.doc));
        }
    }

    fn scalar(&mut self, name: &str, default: Option<&Node>, indent: usize) {
        let value = match default.map(|node| &node.value) {
            Some(Value::Scalar(scalar)) if scalar.text.starts_with(['*', ',']) => format!("\"{}\"", scalar.text),
            Some(Value::Scalar(scalar)) => scalar.text.clone(),
            _ => "~".to_owned(),
        };
        writeln!(self.text, "{:indent$}{name}: {value}", "").expect("a string");
    }
}

fn render() -> String {
    let mut renderer = Renderer { text: String::new(), explained: Vec::new() };
    renderer.comment(0, HEAD);
    for (name, shape) in [("convoke", keys::CONVOKE), ("connections", keys::CONNECTIONS), ("sync", keys::SYNC)] {
        renderer.text.push('\n');
        renderer.key(name, &shape, section(name), 0);
    }
    renderer.text
}

#[test]
fn the_file_explains_every_key_once_as_the_table_of_keys_has_it() {
    let rendered = render();
    if rendered != DEFAULTS {
        let path = std::env::temp_dir().join(format!("convoke.default.{}.yaml", std::process::id()));
        std::fs::write(&path, rendered).unwrap();
        panic!("the defaults file is not what the table of keys says; what it should be is in {}", path.display());
    }
}

#[test]
fn default_guards_are_those_of_the_design() {
    let nothing = crate::yaml::empty();
    let spec = crate::sync::default_guards(&crate::field::Field::root(&nothing, section("sync")));
    assert_eq!(format!("{spec:?}"), format!("{:?}", Some(Guards::default())));
}
