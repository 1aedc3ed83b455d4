//! The first record of a file: the names of its columns.

use std::collections::HashMap;

/// Other spellings of header names, looked up without regard to case and surrounding space.
#[derive(Clone, Debug)]
pub(crate) struct Aliases(HashMap<String, String>);

impl Aliases {
    pub(crate) fn new(aliases: &[(String, String)]) -> Self {
        Self(aliases.iter().map(|(spelling, name)| (folded(spelling), name.clone())).collect())
    }

    /// Turns header cells into column names; the error says what is wrong with the file.
    pub(crate) fn column_names<'a>(
        &self,
        cells: impl Iterator<Item = &'a [u8]>,
        encoding: &str,
    ) -> Result<Vec<String>, String> {
        let mut names: Vec<String> = Vec::new();
        for (index, cell) in cells.enumerate() {
            let number = index + 1;
            let Ok(text) = std::str::from_utf8(cell) else {
                return Err(format!(
                    "the header of column {number} is not {encoding}; declare the `encoding` of the file"
                ));
            };
            let name = self.0.get(&folded(text)).map_or(text.trim(), String::as_str);
            if name.is_empty() {
                return Err(format!("column {number} has no name in the header line; name it or remove it"));
            }
            if let Some(earlier) = names.iter().position(|known| known == name) {
                return Err(same_name(name, (earlier + 1, number)));
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }
}

fn same_name(name: &str, (earlier, later): (usize, usize)) -> String {
    if may_be_value(name) {
        return format!(
            "columns {earlier} and {later} have the same name; rename or remove one, or add the header line if it is missing"
        );
    }
    format!("columns {earlier} and {later} are both named `{name}`; rename or remove one")
}

/// Whether this looks like a cell of a record, which may be personal data: the first line of a file without a header.
pub fn may_be_value(name: &str) -> bool {
    /// Longer than anybody's header names, and as long as free text is.
    const LONGEST_NAME: usize = 64;
    name.contains('@') || !name.contains(char::is_alphabetic) || name.chars().count() > LONGEST_NAME
}

fn folded(text: &str) -> String {
    text.trim().to_lowercase()
}
