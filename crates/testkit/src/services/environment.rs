//! Where the servers and their programs are.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The value of a variable; panics with the command that provides it if there is none.
pub(super) fn require(variable: &str) -> String {
    find(variable).unwrap_or_else(|| {
        panic!(
            "this test needs real servers and {variable} is not set. Type this, then run it again: make up"
        )
    })
}

/// From the environment, or else from the file that `make up` writes. An empty value counts as none.
pub(super) fn find(variable: &str) -> Option<String> {
    let given = env::var(variable).ok().or_else(|| {
        let file = fs::read_to_string(written_by_make_up()?).ok()?;
        value_in(&file, variable)
    });
    given.filter(|value| !value.is_empty())
}

/// The folder of the running test's crate lies in the checkout; so does this crate's, when nobody tells the former.
fn written_by_make_up() -> Option<PathBuf> {
    let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let files = Path::new(&folder).ancestors().map(|ancestor| ancestor.join("target/services.env"));
    files.into_iter().find(|file| file.is_file())
}

/// Lines of `NAME=value`, the value as it is.
fn value_in(file: &str, variable: &str) -> Option<String> {
    let lines = file.lines().filter_map(|line| line.split_once('='));
    lines.into_iter().find(|(name, _)| *name == variable).map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::value_in;

    #[test]
    fn a_value_may_hold_what_a_shell_would_read_otherwise() {
        let file = "CROSSDOCK_TEST_AMQP=amqp://a:b=c@host\nCROSSDOCK_TEST_KAFKA_HOME=/a folder/it's $here\n";
        assert_eq!(value_in(file, "CROSSDOCK_TEST_AMQP").as_deref(), Some("amqp://a:b=c@host"));
        assert_eq!(value_in(file, "CROSSDOCK_TEST_KAFKA_HOME").as_deref(), Some("/a folder/it's $here"));
        assert_eq!(value_in(file, "CROSSDOCK_TEST_KAFKA"), None);
    }
}
