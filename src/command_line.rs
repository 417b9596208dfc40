//! The command line: what can be typed, and what of it writes into the configuration tree.
//!
//! Owns names and help texts. Deliberately does nothing: `main` dispatches, and a flag that is a setting
//! only becomes a [`FlagValue`], so that file, environment and flags stay one tree.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use toml::Value;

use crate::configuration::{CodingChoice, FlagValue};

/// An object store for AI data: S3 over erasure-coded, committed storage nodes.
#[derive(Debug, Parser)]
#[command(name = "ashlar", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Everything `ashlar` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process on one data directory
    #[command(args_override_self = true)]
    Up(ServerFlags),
    /// Run chosen roles
    #[command(args_override_self = true)]
    Run {
        /// Roles, separated by commas
        #[arg(long, required = true, value_delimiter = ',', value_name = "ROLE,…")]
        role: Vec<Role>,
        #[command(flatten)]
        flags: ServerFlags,
    },
    /// Bring metadata back from the published log, when it is lost and the nodes and the master key are not
    #[command(args_override_self = true)]
    Recover(RecoverFlags),
    /// How the server does
    Status {
        #[command(flatten)]
        server: ServerAddress,
    },
    /// Storage nodes
    Nodes {
        #[command(flatten)]
        server: ServerAddress,
        #[command(subcommand)]
        command: Option<NodesCommand>,
    },
    /// Users and their access keys
    Users {
        #[command(flatten)]
        server: ServerAddress,
        #[command(subcommand)]
        command: Option<UsersCommand>,
    },
    /// API keys, with which programs sign in to the OpenAI-compatible API
    Keys {
        #[command(flatten)]
        server: ServerAddress,
        #[command(subcommand)]
        command: Option<ApiKeysCommand>,
    },
    /// Models, which are objects, and the names that stand for them
    Models {
        #[command(flatten)]
        server: ServerAddress,
        #[command(subcommand)]
        command: Option<ModelsCommand>,
    },
    /// Buckets that you may see
    Buckets {
        #[command(flatten)]
        server: ServerAddress,
        #[command(subcommand)]
        command: Option<BucketsCommand>,
    },
    /// Run SQL
    Sql {
        #[command(flatten)]
        server: ServerAddress,
        /// The statements, separated by semicolons; the last one's answer is shown
        statements: String,
        /// How the answer is written
        #[arg(long, value_enum, default_value_t = SqlFormat::Table)]
        format: SqlFormat,
    },
    /// The proof that an object is in the log, as a file that anybody can check
    Proof {
        #[command(flatten)]
        server: ServerAddress,
        /// Which object, like s3://bucket/key
        object: String,
        /// Which version [default: the current one]
        #[arg(long, value_name = "ID")]
        version_id: Option<String>,
        /// The receipt of the write (`x-ashlar-receipt`) whose promise is to be shown kept or broken
        #[arg(long, value_name = "TEXT")]
        receipt: Option<String>,
    },
    /// Check that an object is in the log; needs a trust file and trusts nothing else
    Verify(VerifyFlags),
    /// The data-availability layer
    Da {
        #[command(flatten)]
        server: ServerAddress,
        #[command(subcommand)]
        command: DaCommand,
    },
    /// The configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SqlFormat {
    /// A table; at most 10,000 rows
    Table,
    /// One JSON object a line
    Json,
    /// CSV with a heading
    Csv,
    /// An Arrow IPC stream
    Arrow,
}

/// What a process can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// The S3 front door
    Gateway,
    /// The namespace
    Metadata,
    /// Storage nodes
    Storage,
    /// Publisher to a data-availability layer (planned)
    Da,
    /// SQL front doors (planned)
    Query,
    /// The compute market (planned)
    Jobs,
    /// A compute provider (planned)
    Provider,
    /// The embedded dev chain (planned)
    Chain,
}

/// Settings that have a flag; all others are set in the file or the environment.
#[derive(Debug, Default, Args)]
pub(crate) struct ServerFlags {
    /// Where metadata, secrets and, without --disk, the storage nodes lie [default: ./ashlar-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A folder on a disk of its own; repeat it to spread the storage nodes
    #[arg(long = "disk", value_name = "DIR")]
    disks: Vec<PathBuf>,
    /// Storage nodes [default: 6]
    #[arg(long, value_name = "N")]
    nodes: Option<u16>,
    /// Data and parity shards of a chunk [default: 4+2]
    #[arg(long, value_name = "K+M")]
    coding: Option<CodingChoice>,
    /// Configuration file (TOML); `ashlar config print` shows every key
    #[arg(long, value_name = "FILE", env = "ASHLAR_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where S3 listens [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR")]
    s3_listen: Option<SocketAddr>,
    /// Where health, metrics and the API listen [default: 127.0.0.1:9001]
    #[arg(long, value_name = "ADDR")]
    api_listen: Option<SocketAddr>,
    /// Where SQL is answered by the PostgreSQL protocol [default: 127.0.0.1:5433]
    #[arg(long, value_name = "ADDR")]
    pg_listen: Option<SocketAddr>,
    /// Where SQL is answered by Arrow Flight [default: 127.0.0.1:8815]
    #[arg(long, value_name = "ADDR")]
    flight_listen: Option<SocketAddr>,
    /// Where the embedded chain answers JSON-RPC [default: 127.0.0.1:8545]
    #[arg(long, value_name = "ADDR")]
    chain_listen: Option<SocketAddr>,
    /// Take secret keys in clear from other machines, because something in front encrypts
    #[arg(long)]
    allow_plaintext_auth: bool,
}

impl ServerFlags {
    /// The settings that were given.
    pub(crate) fn values(&self) -> Vec<FlagValue> {
        let text = |value: &dyn ToString| Value::String(value.to_string());
        let path = |path: &PathBuf| Value::String(path.to_string_lossy().into_owned());
        let mut values: Vec<FlagValue> = Vec::new();
        values.extend(self.data_dir.as_ref().map(|dir| ("data_dir", "data-dir", path(dir))));
        if !self.disks.is_empty() {
            values.push(("disks", "disk", Value::Array(self.disks.iter().map(path).collect())));
        }
        values.extend(self.nodes.map(|nodes| ("nodes", "nodes", Value::Integer(nodes.into()))));
        values.extend(self.coding.map(|coding| ("coding", "coding", text(&coding))));
        values.extend(self.s3_listen.map(|address| ("s3.listen", "s3-listen", text(&address))));
        values.extend(self.api_listen.map(|address| ("api.listen", "api-listen", text(&address))));
        values.extend(self.pg_listen.map(|address| ("pg.listen", "pg-listen", text(&address))));
        values.extend(self.flight_listen.map(|address| ("flight.listen", "flight-listen", text(&address))));
        values.extend(self.chain_listen.map(|address| ("chain.listen", "chain-listen", text(&address))));
        if self.allow_plaintext_auth {
            for key in ["api.allow_plaintext_auth", "pg.allow_plaintext_auth", "flight.allow_plaintext_auth"]
            {
                values.push((key, "allow-plaintext-auth", Value::Boolean(true)));
            }
        }
        values
    }
}

/// `ashlar recover`
#[derive(Debug, Args)]
pub(crate) struct RecoverFlags {
    /// Go on without what cannot be read back; it is listed
    #[arg(long)]
    pub(crate) accept_loss: bool,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerFlags,
}

/// `ashlar da …`
#[derive(Debug, Subcommand)]
pub(crate) enum DaCommand {
    /// Ask for random rows of a batch, and tell what their being served shows
    Sample {
        /// Which batch of the log [default: the newest that is anchored]
        #[arg(long, value_name = "N")]
        sequence: Option<u64>,
        /// How many rows
        #[arg(long, value_name = "N", default_value_t = 20)]
        rows: u32,
    },
}

/// `ashlar verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyFlags {
    #[command(flatten)]
    pub(crate) server: ServerAddress,
    /// Which object, like s3://bucket/key
    pub(crate) object: String,
    /// Which version [default: whichever the proof is of]
    #[arg(long, value_name = "ID")]
    pub(crate) version_id: Option<String>,
    /// Bytes to hold against it; `-` reads standard input
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// A proof that was saved; otherwise the server is asked for one
    #[arg(long, value_name = "FILE")]
    pub(crate) proof: Option<PathBuf>,
    /// The receipt of the write, to show its promise kept or broken
    #[arg(long, value_name = "TEXT")]
    pub(crate) receipt: Option<String>,
    /// What you trust: chain, contracts, publisher, checkpoint
    #[arg(long, value_name = "FILE", default_value = "ashlar-data/trust.json")]
    pub(crate) trust: PathBuf,
    /// Where to ask the chain; name two or more to have them agree
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    pub(crate) chain_rpc: Vec<String>,
    /// A block that you have from a source of your own, instead of asking: NUMBER:HASH
    #[arg(long, value_name = "BLOCK")]
    pub(crate) pin: Option<String>,
}

/// Where the server is, who asks, and how the answer is shown.
#[derive(Debug, Args)]
pub(crate) struct ServerAddress {
    /// The server's API
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "ASHLAR_ENDPOINT",
        default_value = "http://127.0.0.1:9001"
    )]
    pub(crate) endpoint: String,
    /// Profile of ~/.aws/credentials, instead of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Send keys in clear to another machine
    #[arg(long, global = true)]
    pub(crate) allow_plaintext_auth: bool,
    /// Answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// `ashlar nodes …`
#[derive(Debug, Subcommand)]
pub(crate) enum NodesCommand {
    /// All storage nodes
    List,
    /// One storage node
    Show {
        /// Its number
        node: u16,
    },
}

/// `ashlar users …`
#[derive(Debug, Subcommand)]
pub(crate) enum UsersCommand {
    /// All users
    List,
    /// One user
    Show {
        /// The user's name
        name: String,
    },
    /// Make a user with one access key; its secret is shown this once
    Add {
        /// The new user's name
        name: String,
    },
    /// Remove a user and its access keys; refused while it owns a bucket
    Remove {
        /// The user's name
        name: String,
    },
    /// Access keys of a user
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
}

/// `ashlar users keys …`
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// A user's access keys; secrets are never shown again
    List {
        /// The user's name
        user: String,
    },
    /// Make another access key; its secret is shown this once
    Add {
        /// The user's name
        user: String,
    },
    /// Remove an access key; it stops working at once
    Remove {
        /// The user's name
        user: String,
        /// The access key
        access_key: String,
    },
}

/// `ashlar keys …`
#[derive(Debug, Subcommand)]
pub(crate) enum ApiKeysCommand {
    /// Your API keys; root sees everybody's
    List {
        /// Of one user
        #[arg(long)]
        user: Option<String>,
    },
    /// Make an API key; it is shown this once
    Create {
        /// What you call it
        name: String,
        /// For another user
        #[arg(long)]
        user: Option<String>,
        /// From when on it is nothing any more, like 2030-01-31T00:00:00Z
        #[arg(long, value_name = "MOMENT")]
        expires: Option<String>,
        /// Only these routes: chat, completions, embeddings, models, files, batches, fine_tuning
        #[arg(long = "route", value_delimiter = ',', value_name = "ROUTE,…")]
        routes: Vec<String>,
        /// Only these models, by name or content root
        #[arg(long = "model", value_delimiter = ',', value_name = "MODEL,…")]
        models: Vec<String>,
        /// The most that it may spend, in wei
        #[arg(long, value_name = "WEI")]
        spend_cap: Option<String>,
    },
    /// Remove an API key; it stops working at once
    Delete {
        /// Its id
        id: String,
    },
}

/// `ashlar models …`
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// All models
    List,
    /// One model with its files
    Show {
        /// Its name
        name: String,
    },
    /// Make a name stand for the files that lie under s3://models/NAME/ now: one .gguf file, or model.safetensors with
    /// config.json and tokenizer.json
    Import {
        /// Its name
        name: String,
    },
}

/// `ashlar buckets …`
#[derive(Debug, Subcommand)]
pub(crate) enum BucketsCommand {
    /// All buckets that you may see
    List,
    /// One bucket
    Show {
        /// Its name
        name: String,
    },
    /// What answers to changes of a bucket wait for: `quorum` (shards and commit), `certified` (published as well), or
    /// `anchored` (on the chain to stay)
    DurableWhen {
        /// Its name
        name: String,
        /// To change it
        level: Option<String>,
    },
}

/// `ashlar config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether the configuration can be started from
    Check(ServerFlags),
    /// Print every setting with its value and, where it is not the default, its source
    Print(ServerFlags),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn only_flags_that_were_given_are_values() {
        let parse = |line: &str| match CommandLine::parse_from(line.split(' ')).command {
            Command::Up(flags) => flags.values(),
            other => panic!("{other:?}"),
        };
        assert!(parse("ashlar up").is_empty());
        let values = parse("ashlar up --disk /a --disk /b --coding 2+1 --nodes 4");
        let keys: Vec<&str> = values.iter().map(|(key, ..)| *key).collect();
        assert_eq!(keys, ["disks", "nodes", "coding"]);
    }

    #[test]
    fn the_server_may_be_named_before_or_after_the_subcommand() {
        for line in
            ["ashlar users --endpoint http://a:1 list", "ashlar users list --endpoint http://a:1 --json"]
        {
            let Command::Users { server, .. } = CommandLine::parse_from(line.split(' ')).command else {
                panic!("{line}")
            };
            assert_eq!(server.endpoint, "http://a:1");
        }
    }
}
