//! How a person types a command of this program, in a second terminal.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Where commands look for a hub if nothing is said.
const USUAL: &str = "127.0.0.1:8080";

/// The program's name as it must be typed, and the hub's address if it must be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    program: String,
    url: Option<String>,
}

impl Typed {
    /// For this process and the hub at this address.
    pub fn here(hub: SocketAddr) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::current_exe().map_or("crossdock".to_owned(), |own| program(&own, &path));
        // A variable may point elsewhere, also in the second terminal.
        let said = hub.to_string() != USUAL || std::env::var_os("CROSSDOCK_URL").is_some();
        Self { program, url: said.then(|| format!("http://{hub}")) }
    }

    /// A command that needs no hub.
    pub fn local(&self, arguments: &str) -> String {
        format!("{} {arguments}", self.program)
    }

    /// A command that speaks to the hub.
    pub fn remote(&self, arguments: &str) -> String {
        match &self.url {
            Some(url) => format!("{} {arguments} --url {url}", self.program),
            None => self.local(arguments),
        }
    }
}

/// `crossdock` if a shell finds this very program under that name, else its full path.
fn program(own: &Path, path: &OsStr) -> String {
    let own = own.canonicalize().unwrap_or(own.to_owned());
    let first =
        std::env::split_paths(path).map(|folder| folder.join("crossdock")).find(|file| file.is_file());
    let found = first.as_deref().and_then(|file| file.canonicalize().ok());
    if found.is_some_and(|found: PathBuf| found == own) {
        return "crossdock".to_owned();
    }
    quoted(&own.to_string_lossy())
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@:".contains(&byte);
    if word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str) -> PathBuf {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(&file, "").expect("a file");
        file.canonicalize().expect("the file is there")
    }

    #[test]
    fn the_short_name_is_used_only_if_it_leads_here() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, other) = (file(folder.path(), "a/crossdock"), file(folder.path(), "b/crossdock"));
        let path = |folders: &[&Path]| std::env::join_paths(folders).expect("plain names");
        let (a, b) = (own.parent().expect("a"), other.parent().expect("b"));
        assert_eq!(program(&own, &path(&[a, b])), "crossdock");
        assert_eq!(program(&own, &path(&[b, a])), own.display().to_string());
        assert_eq!(program(&own, OsStr::new("")), own.display().to_string());
    }

    #[test]
    fn the_address_is_said_only_if_it_is_another_one() {
        let typed =
            |url: Option<&str>| Typed { program: "crossdock".to_owned(), url: url.map(str::to_owned) };
        assert_eq!(typed(None).remote("status"), "crossdock status");
        let url = typed(Some("http://127.0.0.1:9"));
        assert_eq!(url.remote("status"), "crossdock status --url http://127.0.0.1:9");
        assert_eq!(url.local("init my-hub"), "crossdock init my-hub");
    }

    #[test]
    fn a_path_with_odd_characters_is_quoted() {
        assert_eq!(quoted("/opt/it's here/crossdock"), r"'/opt/it'\''s here/crossdock'");
        assert_eq!(quoted("/opt/crossdock"), "/opt/crossdock");
    }
}
