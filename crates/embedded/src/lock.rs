//! One process at a time owns a data directory.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use crate::open::OpenError;

/// The locked `lock` file. The lock ends with the value, or with the process however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Locks the directory, which is created if it is not there.
    pub(crate) fn take(directory: &Path) -> Result<Self, OpenError> {
        // Payloads and dead letters are for the hub's user alone. A folder that is there keeps its mode.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| OpenError::unusable(directory, source))?;
        let path = directory.join("lock");
        let unusable = |source| OpenError::unusable(&path, source);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { directory: directory.to_owned(), pid: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(unusable)?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would leave the lock to a child that was forked meanwhile, until that one executes its program.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(error = %error, "failed to unlock the data folder; the end of the process does it");
        }
    }
}

fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    let read = file.take(20).read_to_string(&mut pid);
    if read.is_ok() && !pid.is_empty() { pid } else { "unknown".to_owned() }
}
