//! The Crossdock program.
mod config;
mod connectors;
fn main() {
    let path = std::env::args().nth(1).unwrap_or_default();
    match config::load(path.as_ref(), &|name| std::env::var(name).ok(), &connectors::connectors()) {
        Ok(loaded) => println!("{:?} {}", loaded.data, loaded.plan.flows.len()),
        Err(problems) => println!("{}", problems.render(config::Look::Ascii)),
    }
}
