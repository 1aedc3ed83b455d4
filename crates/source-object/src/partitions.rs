//! Hive partitions: folders `name=value`, each a text column of all records beneath it.

pub(crate) mod pruning;

/// What a folder is called that stands for NULL.
const NULL_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// A column's name, and its value for all records beneath the folder.
pub(crate) type Partition = (String, Option<String>);

/// The partitions of a key, outermost first. Of two with the same name the outer one counts: so a folder tells of everything
/// beneath it, whatever folders there are.
pub(crate) fn partitions_of(key: &str) -> Vec<Partition> {
    let folders = key.rsplit_once('/').map_or("", |(folders, _)| folders);
    let mut partitions: Vec<Partition> = Vec::new();
    for folder in folders.split('/') {
        let Some((name, value)) = folder.split_once('=').filter(|(name, _)| !name.is_empty()) else { continue };
        let name = decoded(name);
        if partitions.iter().all(|(known, _)| *known != name) {
            let value = (value != NULL_VALUE && !value.is_empty()).then(|| decoded(value));
            partitions.push((name, value));
        }
    }
    partitions
}

/// Undoes percent-encoding; what is none, or gives no text, stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let code = text.get(index + 1..index + 3).filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| bytes[index] == b'%') {
            Some(byte) => {
                plain.push(byte);
                index += 3;
            }
            None => {
                plain.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8(plain).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(name: &str, value: impl Into<Option<&'static str>>) -> Partition {
        (name.to_owned(), value.into().map(str::to_owned))
    }

    #[test]
    fn folders_that_name_a_value_are_partitions() {
        let cases = [
            ("a.parquet", vec![]),
            ("x=1.parquet", vec![]),
            ("in/dt=2026-01-01/a.parquet", vec![partition("dt", "2026-01-01")]),
            ("y=2026/m=1/a.parquet", vec![partition("y", "2026"), partition("m", "1")]),
            ("c=__HIVE_DEFAULT_PARTITION__/d=/a.parquet", vec![partition("c", None), partition("d", None)]),
            ("t=12%3A30%20Z/p%25=50%/a.parquet", vec![partition("t", "12:30 Z"), partition("p%", "50%")]),
            ("n=%ff/m=%C3%A4%2/=x/a.parquet", vec![partition("n", "%ff"), partition("m", "ä%2")]),
            ("x=1/y=2/x=3/a.parquet", vec![partition("x", "1"), partition("y", "2")]),
        ];
        for (key, expected) in cases {
            assert_eq!(partitions_of(key), expected, "{key}");
        }
    }
}
