//! The folder of the demo: its configuration, and beside it the data.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::systems::Systems;
use crate::{
    config::{self, Loaded, Look},
    connectors,
};

/// The configuration, as a person could run it.
const CONFIG: &str = include_str!("crossdock.yaml");

/// Where the demo lives.
pub struct Folder {
    path: PathBuf,
    /// Removes the folder with this value, unless it is kept.
    thrown_away: Option<TempDir>,
}

impl Folder {
    /// A folder that is kept, or one that goes with this value. One that is kept must be new or empty: the shop numbers its
    /// orders from the beginning.
    pub fn make(keep: Option<&Path>) -> anyhow::Result<Self> {
        let folder = match keep {
            Some(path) => Self::kept(path)?,
            None => {
                let folder = tempfile::Builder::new().prefix("crossdock-demo-").tempdir();
                let folder = folder.context("failed to make a temporary folder")?;
                Self { path: folder.path().to_owned(), thrown_away: Some(folder) }
            }
        };
        let file = folder.file();
        std::fs::write(&file, CONFIG).with_context(|| format!("failed to write {}", file.display()))?;
        Ok(folder)
    }

    fn kept(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => {
                bail!("{} is not empty: name a new folder for the demo to keep its data in", path.display())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                std::fs::create_dir_all(path)
                    .with_context(|| format!("failed to make {}", path.display()))?;
            }
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
        Ok(Self { path: path.to_owned(), thrown_away: None })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there after the demo.
    pub fn is_kept(&self) -> bool {
        self.thrown_away.is_none()
    }

    fn file(&self) -> PathBuf {
        self.path.join("crossdock.yaml")
    }

    /// Loads the configuration as `crossdock run` would, with the systems' addresses and secrets.
    pub fn load(&self, listen: SocketAddr, systems: &Systems) -> anyhow::Result<Loaded> {
        let variables = |name: &str| systems.variable(name, listen);
        config::load(&self.file(), &variables, &connectors::connectors()).map_err(|problems| {
            anyhow::anyhow!("the demo's configuration is wrong\n{}", problems.render(Look::Ascii))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_configuration_loads_without_a_warning() {
        let (folder, systems) =
            (Folder::make(None).expect("a folder"), Systems::start().await.expect("systems"));
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let loaded = folder.load(listen, &systems).expect("it is right");
        assert_eq!((loaded.plan.flows.len(), loaded.plan.connections.len(), loaded.listen), (2, 3, listen));
        assert!(loaded.warnings.items.is_empty(), "{}", loaded.warnings.render(Look::Ascii));
        assert!(loaded.data.starts_with(folder.path()));
    }

    #[test]
    fn what_is_not_kept_is_gone_and_what_is_kept_must_be_new() {
        let thrown_away = Folder::make(None).expect("a folder").path().to_owned();
        assert!(!thrown_away.exists());

        let around = tempfile::tempdir().expect("a folder");
        let kept = around.path().join("a/demo");
        drop(Folder::make(Some(&kept)).expect("a new folder"));
        assert!(kept.join("crossdock.yaml").exists());
        let error = Folder::make(Some(&kept)).err().expect("it is not empty").to_string();
        assert!(error.contains("is not empty"), "{error}");
    }
}
