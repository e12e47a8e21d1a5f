//! The house holds: crates know only what they may know, adapters prove their contract, SQL stays in the store crates.

use std::{collections::BTreeMap, path::Path, process::Command};

use crossdock_tests::workspace;
use serde_json::Value;

/// What each crate may depend on, inside the workspace, outside of tests. A connector may know the desk and nothing else.
fn may_know(name: &str) -> &'static [&'static str] {
    match name {
        "core" => &[],
        "expr" | "codec" | "embedded" | "kafka" | "rabbitmq" | "postgres" | "sim" => &["core"],
        "sdk" => &["core", "expr"],
        "engine" => &["core", "expr"],
        "api" => &["core", "engine"],
        "testkit" => &["core", "sdk", "sim"],
        connector if connector.starts_with("connector") => &["sdk"],
        "crossdock" => &[
            "api",
            "codec",
            "connector-http",
            "connectors",
            "core",
            "embedded",
            "engine",
            "expr",
            "kafka",
            "postgres",
            "rabbitmq",
            "sdk",
            "sim",
        ],
        "tests" => &["sim"],
        other => panic!("{other} has no place in the house: add it to the map in crates/README.md and here"),
    }
}

fn short(name: &str) -> &str {
    name.strip_prefix("crossdock-").unwrap_or(name)
}

/// The crates of the workspace with what they depend on inside it; dev-dependencies are left out.
fn crates() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .expect("cargo tells the metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(|package| (short(text(&package["name"])).to_owned(), inside(package))).collect()
}

fn inside(package: &Value) -> Vec<String> {
    let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
    dependencies
        .filter(|dependency| {
            dependency["kind"] != "dev" && text(&dependency["name"]).starts_with("crossdock")
        })
        .map(|dependency| short(text(&dependency["name"])).to_owned())
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[test]
fn arrows_point_down() {
    let crates = crates();
    assert!(crates.len() >= 10, "the metadata has the crates: {crates:?}");
    for (name, knows) in &crates {
        for other in knows {
            assert!(may_know(name).contains(&other.as_str()), "{name} must not know {other}");
        }
    }
}

#[test]
fn a_folder_has_the_name_of_its_crate() {
    for name in crates().keys().filter(|name| *name != "tests") {
        assert!(workspace().join("crates").join(name).join("Cargo.toml").exists(), "crates/{name}");
    }
}

#[test]
fn every_adapter_proves_its_contract() {
    for name in
        crates().keys().filter(|name| ["embedded", "kafka", "rabbitmq", "postgres"].contains(&name.as_str()))
    {
        let suite = workspace().join("crates").join(name).join("tests/conformance.rs");
        assert!(suite.exists(), "{} is missing", suite.display());
    }
}

#[test]
fn sql_stays_in_the_store_crates() {
    let statements = ["SELECT ", "INSERT INTO ", "DELETE FROM ", "UPDATE ", "CREATE TABLE "];
    // Tests and benchmarks write to the outbox as an application does.
    for name in crates().keys().filter(|name| !["embedded", "postgres", "tests"].contains(&name.as_str())) {
        for (file, source) in sources(&workspace().join("crates").join(name).join("src")) {
            for statement in statements {
                let quoted = format!("\"{statement}");
                assert!(!source.contains(&quoted), "{file} holds SQL");
            }
        }
    }
}

#[test]
fn core_knows_neither_a_runtime_nor_a_client() {
    for (file, source) in sources(&workspace().join("crates/core/src")) {
        for stranger in ["tokio::", "reqwest::", "sqlx::", "rdkafka::", "lapin::", "hyper::", "axum::"] {
            assert!(!source.contains(stranger), "{file} knows {stranger}");
        }
    }
}

fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).expect("a source")));
        }
    }
    found
}
