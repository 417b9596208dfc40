//! Logs: where they go, how they look, and what of other crates' noise is left out.
//!
//! Invariant: standard output carries only answers; every log line goes to standard error, for people on a
//! terminal and as JSON otherwise. A closed standard error never stops the process.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::configuration::{Log, LogFormat};

/// What other crates say that we say better: s3s of every refused request, hyper of every connection that a
/// client drops.
const NOISE: [&str; 3] = [ashlar_s3_gateway::LOG_DIRECTIVE, "hyper=warn", "hyper_util=warn"];

/// Starts logging as configured; answers what is wrong with the filter, if anything.
pub(crate) fn start(log: &Log) -> Result<(), String> {
    let mut filter = EnvFilter::try_new(log.filter.replace(' ', "")).map_err(|error| error.to_string())?;
    for directive in NOISE {
        let name = directive.split('=').next().expect("a split has a first part");
        // Whoever names one of them in the filter wants to hear it.
        if !log.filter.contains(name) {
            filter = filter.add_directive(directive.parse().expect("the directives above are well-formed"));
        }
    }
    let terminal = io::stderr().is_terminal();
    let human = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false)
        .with_ansi(human && terminal);
    let installed = if human {
        subscriber.with_target(false).try_init()
    } else {
        subscriber.json().flatten_event(true).try_init()
    };
    installed.map_err(|error| error.to_string())
}
