//! `ashlar`: an object store for AI data. This file picks what to do; everything else has a file of its own.
//!
//! Invariant: an error ends with one line that says what happened, why, and what to do next, and with exit
//! status 1 (2 for a command line that cannot be understood).

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod api;
mod client;
mod command_line;
mod commands;
mod configuration;
mod data_directory;
mod evidence;
mod logging;
mod output;
mod process;
mod progress;
mod recover;
mod roles;
mod up;

use std::future::Future;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;

use command_line::{Command, CommandLine, ConfigCommand, Role, ServerFlags};
use configuration::Loaded;

/// Many threads allocate buffers that others free, which this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match dispatch(CommandLine::parse().command) {
        Ok(code) => code,
        Err(error) if error.is::<output::ReaderGone>() => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            // Without standard error there is nobody to tell.
            let _told = writeln!(std::io::stderr(), "ashlar: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// The chain of causes in one line, without repeating what a cause says already.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(flags) => up::run(&flags),
        Command::Run { role, flags } => run_roles(&role, &flags),
        Command::Recover(flags) => recover::run(&flags),
        Command::Status { server } => ask(commands::status(&server)),
        Command::Nodes { server, command } => ask(commands::nodes(&server, command)),
        Command::Users { server, command } => ask(commands::users(&server, command)),
        Command::Keys { server, command } => ask(commands::api_keys(&server, command)),
        Command::Models { server, command } => ask(commands::models(&server, command)),
        Command::Buckets { server, command } => ask(commands::buckets(&server, command)),
        Command::Sql { server, statements, format } => ask(commands::sql(&server, statements, format)),
        Command::Proof { server, object, version_id, receipt } => {
            let object = object.parse().map_err(anyhow::Error::msg)?;
            ask(commands::proofs::proof(&server, &object, version_id.as_deref(), receipt.as_deref()))
        }
        Command::Da { server, command } => ask(commands::proofs::da(&server, &command)),
        Command::Verify(flags) => runtime()?.block_on(commands::proofs::verify(&flags)),
        Command::Config { command: ConfigCommand::Check(flags) } => {
            Loaded::from_process(&flags)?;
            output::print("The configuration can be started from.\n")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Config { command: ConfigCommand::Print(flags) } => {
            output::print(&Loaded::from_process(&flags)?.to_string())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Starts the roles that this build can run: gateway, metadata and storage, together in one process.
fn run_roles(roles: &[Role], flags: &ServerFlags) -> anyhow::Result<ExitCode> {
    for role in roles {
        if !matches!(role, Role::Gateway | Role::Metadata | Role::Storage) {
            let name = format!("{role:?}").to_lowercase();
            bail!("the role '{name}' is not in this build; gateway, metadata and storage are");
        }
    }
    for needed in [Role::Gateway, Role::Metadata, Role::Storage] {
        if !roles.contains(&needed) {
            bail!(
                "this build runs gateway, metadata and storage only together in one process; \
                 say `--role gateway,metadata,storage`, or `ashlar up`"
            );
        }
    }
    up::run(flags)
}

/// Runs a command that asks a server.
fn ask(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(command)?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("starting the runtime")
}
