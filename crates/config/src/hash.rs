//! The configuration hash: what a plan and a checkpoint are bound to.

use convoke_core::spec::SyncSpec;

/// Hashes everything that changes what a plan contains: the spec (which holds no secret) and the digests of its suppression
/// lists, in the order of `spec.suppressions`.
///
/// BLAKE3 over canonical JSON (keys sorted, no spaces), hexadecimal.
pub fn config_hash(spec: &SyncSpec, suppression_digests: &[String]) -> String {
    let canonical = serde_json::json!({ "spec": spec, "suppressions": suppression_digests });
    let mut text = String::new();
    write_canonical(&canonical, &mut text);
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Writes JSON with sorted keys, whatever order the map keeps.
fn write_canonical(value: &serde_json::Value, text: &mut String) {
    match value {
        serde_json::Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_str());
            write_joined(text, ('{', '}'), sorted, |text, (name, member)| {
                text.push_str(&serde_json::Value::from(name.as_str()).to_string());
                text.push(':');
                write_canonical(member, text);
            });
        }
        serde_json::Value::Array(items) => {
            write_joined(text, ('[', ']'), items, |text, item| write_canonical(item, text));
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn write_joined<Item>(
    text: &mut String,
    (open, close): (char, char),
    items: impl IntoIterator<Item = Item>,
    mut write: impl FnMut(&mut String, Item),
) {
    text.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(text, item);
    }
    text.push(close);
}
