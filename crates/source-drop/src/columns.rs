//! The columns of the files that are to be read together: what one file has, another may lack.

use std::collections::HashSet;

use convoke_formats::may_be_value;

/// A file with a header that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileColumns {
    pub(crate) file: String,
    pub(crate) columns: Vec<String>,
}

/// Every column that any of the files has, in the order in which they are met.
pub(crate) fn all_columns(files: &[FileColumns]) -> Vec<String> {
    let mut seen = HashSet::new();
    files.iter().flat_map(|file| &file.columns).filter(|name| seen.insert(name.as_str())).cloned().collect()
}

/// Tells which files lack a column that another one has, if any does.
pub(crate) fn told_gaps(files: &[FileColumns]) -> Option<String> {
    /// Files that are named; the others are counted.
    const NAMED: usize = 3;
    let all = all_columns(files);
    let gaps: Vec<String> = files.iter().filter_map(|file| gap_of(file, &all)).collect();
    if gaps.is_empty() {
        return None;
    }
    let mut told = gaps[..gaps.len().min(NAMED)].join(", ");
    if gaps.len() > NAMED {
        told.push_str(&format!(", and {} more lack some", gaps.len() - NAMED));
    }
    Some(format!("not all files have the same columns: {told}"))
}

fn gap_of(file: &FileColumns, all: &[String]) -> Option<String> {
    let own: HashSet<&String> = file.columns.iter().collect();
    let mut missing = all.iter().filter(|name| !own.contains(name));
    let first = match missing.next()? {
        name if may_be_value(name) => "a column whose name looks like a value".to_owned(),
        name => format!("`{name}`"),
    };
    let more = match missing.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!("`{}` lacks {first}{more}", file.file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, columns: &[&str]) -> FileColumns {
        FileColumns { file: name.to_owned(), columns: columns.iter().map(|&column| column.to_owned()).collect() }
    }

    #[test]
    fn files_with_the_same_columns_have_no_gaps_in_whatever_order_they_stand() {
        let files = [file("b.csv", &["x", "y"]), file("a.csv", &["y", "x"])];
        assert_eq!(all_columns(&files), ["x", "y"]);
        assert_eq!(told_gaps(&files), None);
    }

    #[test]
    fn gaps_are_told_with_file_and_column_and_never_show_a_value() {
        let mut files =
            vec![file("c.csv", &["x", "y", "z"]), file("b.csv", &["x"]), file("a.csv", &["ada@example.com"])];
        let told = told_gaps(&files).unwrap();
        let expected = "`c.csv` lacks a column whose name looks like a value, `b.csv` lacks `y` and 2 more, `a.csv` lacks `x` and 2 more";
        assert!(told.contains(expected), "{told}");
        files.push(file("d.csv", &["x"]));
        assert!(told_gaps(&files).unwrap().contains("and 1 more lack some"));
    }
}
