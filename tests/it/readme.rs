//! Runs every command that README.md shows.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::workspace::{CONVOKE, Ended};

const README: &str = include_str!("../../README.md");

#[test]
fn every_command_of_the_readme_works_in_its_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let drop = folder.path().join("my-drop");
    fs::create_dir(&drop).expect("a folder");
    fs::write(drop.join("people.csv"), "email,name,updated_at\nAda@Example.com ,Ada,2026-01-01\n").expect("a file");
    let commands: Vec<_> = shell_lines().collect();
    assert!(commands.len() > 8, "the README's commands were not found: {commands:?}");
    for command in commands {
        run(command, folder.path());
    }
}

/// The lines of all `sh` blocks.
fn shell_lines() -> impl Iterator<Item = &'static str> {
    let blocks = README.split("```sh\n").skip(1);
    blocks.flat_map(|block| block.split("```").next().expect("a block ends").lines())
}

fn run(command: &str, folder: &Path) {
    if command == "tests/run" {
        // It is what runs this test.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mode = fs::metadata(root.join(command)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "`{command}` can be executed");
        return;
    }
    let arguments = command.strip_prefix("cargo run -- ").or_else(|| command.strip_prefix("convoke "));
    let arguments =
        arguments.unwrap_or_else(|| panic!("the README shows a command that this test cannot run: {command}"));
    let output = Command::new(CONVOKE)
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let ended = Ended::of(output);
    assert_eq!(ended.code, Some(0), "{command}: {}", ended.text());
}
