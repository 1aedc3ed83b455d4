//! References in strings: `${env:NAME}`, `${env:NAME:-default}`, `${file:path}`.
//!
//! They are resolved after parsing and in string values only, so no value can change a file's structure. What comes in
//! this way is never shown: a message quotes the text as it was written.

use std::path::Path;

use crate::environment::Environment;
use crate::report::Report;
use crate::yaml::{Node, Scalar, Value, join};

/// Bounds a secret's file; a mistaken path to something large is an error, not a long wait.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// Resolves references throughout a tree.
pub(crate) struct Interpolation<'a> {
    pub(crate) environment: &'a dyn Environment,
    /// Against which `${file:…}` paths are resolved.
    pub(crate) base_dir: &'a Path,
}

impl Interpolation<'_> {
    pub(crate) fn resolve(&self, node: &mut Node, path: &str, report: &mut Report) {
        let place = node.place;
        match &mut node.value {
            Value::Null => {}
            Value::Scalar(scalar) => {
                if let Err(message) = self.resolve_scalar(scalar) {
                    report.problem(place, path, message);
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.resolve(item, &format!("{path}[{index}]"), report);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    self.resolve(&mut entry.value, &join(path, &entry.key), report);
                }
            }
        }
    }

    fn resolve_scalar(&self, scalar: &mut Scalar) -> Result<(), String> {
        if !scalar.text.contains("${") {
            return Ok(());
        }
        let written = scalar.text.clone();
        let mut resolved = String::new();
        let mut rest = written.as_str();
        while let Some(start) = rest.find("${") {
            let (before, reference) = rest.split_at(start);
            if let Some(escaped) = before.strip_suffix('$') {
                resolved.push_str(escaped);
                resolved.push_str("${");
                rest = &reference[2..];
                continue;
            }
            resolved.push_str(before);
            let Some(end) = reference.find('}') else {
                return Err("a reference `${` has no closing `}`; write `$${` for the characters themselves".to_owned());
            };
            resolved.push_str(&self.look_up(&reference[2..end])?);
            rest = &reference[end + 1..];
        }
        resolved.push_str(rest);
        scalar.text = resolved;
        scalar.written = Some(written);
        Ok(())
    }

    fn look_up(&self, reference: &str) -> Result<String, String> {
        match reference.split_once(':') {
            Some(("env", variable)) => self.variable(variable),
            Some(("file", path)) if !path.is_empty() => self.file(path),
            _ => Err(format!(
                "unknown reference `${{{reference}}}`; write `${{env:NAME}}`, `${{env:NAME:-default}}` or `${{file:path}}`, and \
                 `$${{` for the characters themselves"
            )),
        }
    }

    fn variable(&self, reference: &str) -> Result<String, String> {
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("`{name}` cannot name an environment variable"));
        }
        match (self.environment.variable(name), default) {
            (Some(value), _) if !value.is_empty() => Ok(value),
            (_, Some(default)) => Ok(default.to_owned()),
            (Some(_), None) => {
                Err(format!("environment variable `{name}` is empty; set it, or {}", give_default(name)))
            }
            (None, None) => Err(format!("environment variable `{name}` is not set; set it, or {}", give_default(name))),
        }
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let full_path = self.base_dir.join(path);
        let bytes = match self.environment.read(&full_path) {
            Ok(bytes) => bytes,
            Err(error) => return Err(format!("file `{}` cannot be read: {error}", full_path.display())),
        };
        if bytes.len() > MAX_FILE_BYTES {
            return Err(format!("file `{}` is larger than {} KiB", full_path.display(), MAX_FILE_BYTES / 1024));
        }
        let text = String::from_utf8(bytes).map_err(|_| format!("file `{}` is not UTF-8", full_path.display()))?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    }
}

fn give_default(name: &str) -> String {
    format!("write `${{env:{name}:-default}}`")
}
