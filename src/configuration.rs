//! Configuration: one typed tree, written by a file, then the environment, then flags.
//!
//! Owns the order of the sources and the names of the variables: a leaf `limits.drain_timeout` is
//! `ASHLAR_LIMITS_DRAIN_TIMEOUT`. Invariant: a key nobody knows is an error, wherever it was written, and
//! every value remembers who wrote it. Deliberately knows nothing of what the settings do.

mod models;
mod quantities;
mod soundness;
mod sql;
mod tree;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::command_line::ServerFlags;
pub(crate) use models::Models;
pub(crate) use quantities::{ByteSize, ChainFinality, CodingChoice};
pub(crate) use soundness::Unsound;
pub(crate) use tree::{Configuration, Log, LogFormat};

const PREFIX: &str = "ASHLAR_";
/// Variables of ours that are not settings of the tree: credentials, what clients read, what test runners read.
const OTHER_VARIABLES: [&str; 9] = [
    "ASHLAR_ROOT_ACCESS_KEY",
    "ASHLAR_ROOT_SECRET_KEY",
    "ASHLAR_MASTER_KEY",
    "ASHLAR_CHAIN_KEY",
    "ASHLAR_CHAIN_KEYSTORE_PASSWORD",
    "ASHLAR_CONFIG",
    "ASHLAR_ENDPOINT",
    "ASHLAR_BIN",
    "ASHLAR_CACHE",
];

/// Who wrote a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A command line flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "{name}"),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    #[error("the configuration file {} cannot be read: {cause}; check --config", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error(
        "{writer} is not a valid configuration: {problem}; `ashlar config print` shows every key with its type"
    )]
    Invalid { writer: Source, problem: String },
    #[error("{name} is no setting{}; `ashlar config print` shows every key, and unset it if it is not meant for Ashlar", near.as_ref().map(|near| format!(" (did you mean {near}?)")).unwrap_or_default())]
    UnknownVariable { name: String, near: Option<String> },
    #[error("{}{unsound}", writer.as_ref().map(|writer| format!("{writer}: ")).unwrap_or_default())]
    Unsound { writer: Option<Source>, unsound: Unsound },
}

/// A checked configuration and where its values come from.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The settings.
    pub(crate) tree: Configuration,
    sources: BTreeMap<String, Source>,
}

/// What a command line says about the tree: dotted key, flag, value.
pub(crate) type FlagValue = (&'static str, &'static str, Value);

impl Loaded {
    /// What this process was started with: the file it names, its environment, its flags.
    pub(crate) fn from_process(flags: &ServerFlags) -> Result<Self, ConfigurationError> {
        Self::load(flags.config.as_deref(), std::env::vars_os(), flags.values())
    }

    /// Reads every source and checks the result.
    pub(crate) fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: Vec<FlagValue>,
    ) -> Result<Self, ConfigurationError> {
        let mut layers = Layers::new();
        if let Some(path) = file {
            layers.add_file(path)?;
        }
        layers.add_variables(variables)?;
        for (key, flag, value) in flags {
            layers.add(key, value, Source::Flag(flag))?;
        }
        let loaded = Self { tree: layers.tree()?, sources: layers.sources };
        loaded.tree.check().map_err(|unsound| ConfigurationError::Unsound {
            writer: loaded.source(unsound.key).cloned(),
            unsound,
        })?;
        Ok(loaded)
    }

    /// Who wrote the value of a dotted key; `None` where it is the default.
    pub(crate) fn source(&self, key: &str) -> Option<&Source> {
        self.sources.get(key)
    }
}

impl fmt::Display for Loaded {
    /// The whole tree as a file that reads back equal, values that are not defaults marked with their source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = table_of(&self.tree);
        let (tables, leaves): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_table());
        for (key, value) in leaves {
            self.fmt_leaf(f, key, key, value)?;
        }
        for (section, table) in tables {
            writeln!(f, "\n[{section}]")?;
            for (key, value) in table.as_table().into_iter().flatten() {
                self.fmt_leaf(f, key, &format!("{section}.{key}"), value)?;
            }
        }
        Ok(())
    }
}

impl Loaded {
    fn fmt_leaf(&self, f: &mut fmt::Formatter<'_>, key: &str, dotted: &str, value: &Value) -> fmt::Result {
        write!(f, "{key} = {value}")?;
        match self.source(dotted) {
            Some(source) => writeln!(f, "  # from {source}"),
            None => writeln!(f),
        }
    }
}

/// The tree under construction.
struct Layers {
    table: Table,
    sources: BTreeMap<String, Source>,
}

impl Layers {
    fn new() -> Self {
        Self { table: table_of(&Configuration::default()), sources: BTreeMap::new() }
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigurationError> {
        let source = Source::File(path.to_owned());
        let invalid = |problem: String| ConfigurationError::Invalid { writer: source.clone(), problem };
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigurationError::Unreadable { path: path.to_owned(), cause })?;
        // Read once into the tree itself, because that error names line and column.
        toml::from_str::<Configuration>(&text)
            .map_err(|error| invalid(error.to_string().trim_end().to_owned()))?;
        let table: Table = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        for (key, value) in leaves(&table) {
            self.put(&key, value.clone());
            self.sources.insert(key, source.clone());
        }
        Ok(())
    }

    fn add_variables(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigurationError> {
        let known: BTreeMap<String, (String, Value)> = leaves(&table_of(&Configuration::default()))
            .map(|(key, value)| (variable_of(&key), (key, value.clone())))
            .collect();
        let mut given: Vec<(String, OsString)> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        given.sort();
        for (name, text) in given {
            let source = Source::Variable(name.clone());
            let Some((key, default)) = known.get(&name) else {
                if OTHER_VARIABLES.contains(&name.as_str()) || is_service_link(&name) {
                    continue;
                }
                return Err(ConfigurationError::UnknownVariable { near: nearest(&name, known.keys()), name });
            };
            let invalid = |problem: String| ConfigurationError::Invalid { writer: source.clone(), problem };
            let text = text.into_string().map_err(|_| invalid("it is not UTF-8".to_owned()))?;
            let value = value_from_text(&text, default).map_err(invalid)?;
            self.add(key, value, source)?;
        }
        Ok(())
    }

    fn add(&mut self, key: &str, value: Value, source: Source) -> Result<(), ConfigurationError> {
        self.put(key, value);
        self.tree().map_err(|error| match error {
            ConfigurationError::Invalid { problem, .. } => {
                ConfigurationError::Invalid { writer: source.clone(), problem }
            }
            other => other,
        })?;
        self.sources.insert(key.to_owned(), source);
        Ok(())
    }

    fn put(&mut self, key: &str, value: Value) {
        match key.split_once('.') {
            None => {
                self.table.insert(key.to_owned(), value);
            }
            Some((section, leaf)) => {
                if let Some(Value::Table(table)) = self.table.get_mut(section) {
                    table.insert(leaf.to_owned(), value);
                }
            }
        }
    }

    fn tree(&self) -> Result<Configuration, ConfigurationError> {
        self.table.clone().try_into().map_err(|error: toml::de::Error| ConfigurationError::Invalid {
            writer: Source::Flag("config"),
            problem: error.message().to_owned(),
        })
    }
}

fn table_of(tree: &Configuration) -> Table {
    Table::try_from(tree).expect("every setting can be written as TOML")
}

/// Dotted keys and values, two levels deep, as the tree is.
fn leaves(table: &Table) -> impl Iterator<Item = (String, &Value)> {
    table.iter().flat_map(|(key, value)| match value {
        Value::Table(section) => {
            section.iter().map(|(leaf, value)| (format!("{key}.{leaf}"), value)).collect::<Vec<_>>()
        }
        _ => vec![(key.clone(), value)],
    })
}

fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

/// The text of a variable as the kind of value that the setting has.
fn value_from_text(text: &str, like: &Value) -> Result<Value, String> {
    match like {
        Value::Integer(_) => {
            text.trim().parse().map(Value::Integer).map_err(|_| format!("'{text}' is not a number"))
        }
        Value::Boolean(_) => {
            text.trim().parse().map(Value::Boolean).map_err(|_| format!("'{text}' is neither true nor false"))
        }
        Value::Array(_) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Variables that container platforms set for a service that happens to be called `ashlar`.
fn is_service_link(name: &str) -> bool {
    let rest = name.trim_start_matches(PREFIX);
    rest == "PORT" || ["SERVICE_HOST", "SERVICE_PORT", "PORT_"].iter().any(|start| rest.starts_with(start))
}

/// The known name with the fewest differing characters, where it is close enough to be meant.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    let scored = known.map(|known| (edits(name, known), known));
    scored.min().filter(|(edits, _)| *edits <= 3).map(|(_, known)| known.clone())
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn flags_win_over_variables_and_those_over_the_file() {
        let file = file("nodes = 7\ncoding = '3+1'\n[s3]\nregion = 'eu-1'\n[limits]\ndrain_timeout = '5s'\n");
        let environment = variables(&[
            ("ASHLAR_NODES", "8"),
            ("ASHLAR_S3_REGION", "eu-2"),
            ("ASHLAR_DISKS", "/a, /b"),
            ("PATH", "/bin"),
        ]);
        let flags = vec![("nodes", "nodes", Value::Integer(9))];
        let loaded = Loaded::load(Some(file.path()), environment, flags).unwrap();
        assert_eq!(loaded.tree.nodes, 9);
        assert_eq!(loaded.tree.s3.region, "eu-2");
        assert_eq!(loaded.tree.coding, CodingChoice { k: 3, m: 1 });
        assert_eq!(loaded.tree.disks, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(loaded.source("nodes"), Some(&Source::Flag("nodes")));
        assert_eq!(loaded.source("limits.drain_timeout"), Some(&Source::File(file.path().to_owned())));
        assert_eq!(loaded.source("memory.rows"), None);
    }

    #[test]
    fn what_is_printed_reads_back_equal() {
        let loaded = Loaded::load(None, variables(&[("ASHLAR_MEMORY_ROWS", "100MiB")]), vec![]).unwrap();
        let printed = loaded.to_string();
        assert!(printed.contains("rows = \"100MiB\"  # from ASHLAR_MEMORY_ROWS"), "{printed}");
        let again = Loaded::load(Some(file(&printed).path()), [], vec![]).unwrap();
        assert_eq!(again.tree, loaded.tree);
    }

    #[test]
    fn unknown_keys_are_errors_wherever_they_stand() {
        let message = |file_text: &str, environment: &[(&str, &str)]| {
            let file = file(file_text);
            Loaded::load(Some(file.path()), variables(environment), vec![]).unwrap_err().to_string()
        };
        assert!(message("node = 3", &[]).contains("unknown field `node`"));
        assert!(message("[s3]\nlisten_on = 'x'", &[]).contains("unknown field `listen_on`"));
        let near = message("", &[("ASHLAR_S3_LISTN", "x")]);
        assert!(near.contains("did you mean ASHLAR_S3_LISTEN?"), "{near}");
        assert!(!message("", &[("ASHLAR_WHATEVER_ELSE", "x")]).contains("did you mean"));
    }

    #[test]
    fn wrong_values_name_their_source() {
        let message = |environment: &[(&str, &str)]| {
            Loaded::load(None, variables(environment), vec![]).unwrap_err().to_string()
        };
        assert!(message(&[("ASHLAR_NODES", "many")]).starts_with("ASHLAR_NODES"));
        assert!(message(&[("ASHLAR_S3_LISTEN", "nowhere")]).starts_with("ASHLAR_S3_LISTEN"));
        assert!(message(&[("ASHLAR_NODES", "2")]).starts_with("ASHLAR_NODES: nodes: 2 storage nodes"));
        assert!(message(&[("ASHLAR_NODES", "99999")]).starts_with("ASHLAR_NODES"));
    }

    #[test]
    fn variables_of_tools_and_platforms_are_left_alone() {
        let environment = [
            ("ASHLAR_ENDPOINT", "x"),
            ("ASHLAR_ROOT_ACCESS_KEY", "x"),
            ("ASHLAR_PORT", "tcp://10.0.0.1:9000"),
            ("ASHLAR_SERVICE_HOST", "10.0.0.1"),
            ("ASHLAR_PORT_9000_TCP_ADDR", "10.0.0.1"),
        ];
        Loaded::load(None, variables(&environment), vec![]).unwrap();
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Loaded::load(Some(Path::new("/no/such/ashlar.toml")), [], vec![]).unwrap_err();
        assert!(error.to_string().contains("/no/such/ashlar.toml"));
    }
}
