//! From a server of the file to the options of an adapter, which says what is wrong with them.

use std::path::Path;

use crossdock_kafka::KafkaOptions;
use crossdock_postgres::PostgresOptions;
use crossdock_rabbitmq::RabbitOptions;

use super::{
    problem::{Problem, code},
    reader::Reader,
    server::{Server, has_password},
};

/// Options that an adapter reads by itself.
pub trait Adapter: Sized {
    /// Whether the value of an option is a secret.
    fn is_secret(name: &str) -> bool;

    /// Reads an address and options.
    fn read(address: &str, options: &[(&str, &str)]) -> Result<Self, Vec<Wrong>>;
}

/// Something that an adapter does not take. Holds no value.
pub struct Wrong {
    /// The option; none for the address.
    option: Option<String>,
    /// What is wrong.
    problem: String,
    /// What to do.
    help: String,
}

macro_rules! adapter {
    ($options:ty) => {
        impl Adapter for $options {
            fn is_secret(name: &str) -> bool {
                Self::is_secret(name)
            }

            fn read(address: &str, options: &[(&str, &str)]) -> Result<Self, Vec<Wrong>> {
                let parsed = Self::parse(address, options.iter().copied());
                parsed.map_err(|errors| {
                    let wrong = errors.into_iter();
                    wrong
                        .map(|error| Wrong { option: error.option, problem: error.problem, help: error.help })
                        .collect()
                })
            }
        }
    };
}

adapter!(PostgresOptions);
adapter!(KafkaOptions);
adapter!(RabbitOptions);

/// Options that name files; relative paths are relative to the folder of the configuration. A text in PEM stands for itself.
const FILES: [&str; 3] = ["tls.ca", "tls.certificate", "tls.key"];
const PEM: &str = "-----BEGIN";

impl Reader<'_> {
    /// The options of a server as its adapter reads them. Missing only if something was reported.
    pub fn adapted<T: Adapter>(&mut self, server: &Server, folder: &Path) -> Option<T> {
        let before = self.problems.items.len();
        for option in &server.options {
            let is_key = option.name == "tls.key" && option.value.contains(PEM);
            if T::is_secret(&option.name) || is_key || (option.literal && has_password(&option.value)) {
                self.secret_option(option);
            }
        }
        let values: Vec<_> = server
            .options
            .iter()
            .map(|option| match FILES.contains(&option.name.as_str()) && !option.value.contains(PEM) {
                true => folder.join(&option.value).display().to_string(),
                false => option.value.clone(),
            })
            .collect();
        let options: Vec<_> = server
            .options
            .iter()
            .zip(&values)
            .map(|(option, value)| (option.name.as_str(), value.as_str()))
            .collect();
        match T::read(&server.url, &options) {
            Ok(parsed) => Some(parsed).filter(|_| self.problems.items.len() == before),
            Err(wrong) => {
                wrong.into_iter().for_each(|wrong| self.report_wrong(server, wrong));
                None
            }
        }
    }

    fn report_wrong(&mut self, server: &Server, wrong: Wrong) {
        let option = server.options.iter().find(|option| Some(&option.name) == wrong.option.as_ref());
        let (code, at) = match option {
            Some(option) if wrong.problem.starts_with("there is no option") => {
                (code::UNKNOWN_FIELD, option.name_at.clone())
            }
            Some(option) => (code::WRONG_VALUE, option.value_at.clone()),
            None => (code::WRONG_VALUE, server.at.clone()),
        };
        self.report(Problem::new(code, at, wrong.problem).help(wrong.help));
    }
}
