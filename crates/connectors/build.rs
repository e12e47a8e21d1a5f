//! Lists the folders that hold a `connector.yaml`, so that a new connector touches no Rust.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let mut names = Vec::new();
    for entry in fs::read_dir(&root)? {
        let entry = entry?;
        if entry.path().join("connector.yaml").is_file() {
            names.push(entry.file_name().into_string().map_err(|_| "the name of a folder is not UTF-8")?);
        }
    }
    names.sort();
    let mut list = String::from("&[\n");
    for name in &names {
        let file = root.join(name).join("connector.yaml");
        writeln!(list, "    ({:?}, include_str!({:?})),", format!("{name}/connector.yaml"), file)?;
        println!("cargo::rerun-if-changed={name}/connector.yaml");
    }
    list.push_str("]\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("manifests.rs"), list)?;
    println!("cargo::rerun-if-changed=.");
    Ok(())
}
