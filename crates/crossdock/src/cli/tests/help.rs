//! `--help` of every command.

use clap::CommandFactory as _;

use super::Cli;

/// Every command that there is, as it is typed.
fn commands(command: &clap::Command, path: Vec<String>, all: &mut Vec<Vec<String>>) {
    for inner in command.get_subcommands() {
        let path = [path.clone(), vec![inner.get_name().to_owned()]].concat();
        commands(inner, path.clone(), all);
        all.push(path);
    }
}

fn help(path: &[String]) -> String {
    let arguments =
        ["crossdock".to_owned()].into_iter().chain(path.iter().cloned()).chain(["--help".to_owned()]);
    let shown = Cli::command().term_width(80).try_get_matches_from(arguments).unwrap_err();
    shown.render().to_string()
}

#[test]
fn every_command_has_help() {
    let mut all = vec![Vec::new()];
    commands(&Cli::command(), Vec::new(), &mut all);
    assert_eq!(all.len(), 41, "{all:?}");
    for path in all {
        let name = ["help".to_owned()].into_iter().chain(path.iter().cloned()).collect::<Vec<_>>().join("_");
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "../snapshots" }, {
            insta::assert_snapshot!(name, help(&path));
        });
    }
}

#[test]
fn no_line_of_help_is_wider_than_a_terminal() {
    let mut all = Vec::new();
    commands(&Cli::command(), Vec::new(), &mut all);
    for path in all {
        let help = help(&path);
        let wide = help.lines().find(|line| line.chars().count() > 80 && !line.starts_with("Usage: "));
        assert_eq!(wide, None, "{path:?}");
    }
}

#[test]
fn the_grammar_holds_together() {
    Cli::command().debug_assert();
}
