//! Runs a dev chain by itself, for tests that kill it and for clients from outside.
//!
//! ```text
//! cargo run -p ashlar-dev-chain --example serve -- <directory> [--listen 127.0.0.1:0] [--interval-ms 0]
//!     [--final-depth 0] [--high-water FILE] [--chain-id N]
//! ```
//!
//! Prints `listening http://…` when it answers, and what went wrong to stderr. Funds the two accounts that every
//! test kit for Ethereum knows, so it is for tests alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::{U256, address};
use ashlar_dev_chain::{Chain, Clock, Configuration, DEFAULT_CHAIN_ID, DevChain, Production};
use ashlar_disk::RealDisk;

struct Options {
    directory: PathBuf,
    high_water: Option<PathBuf>,
    listen: SocketAddr,
    configuration: Configuration,
}

fn options() -> Result<Options, String> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("a directory is missing")?);
    let mut listen: SocketAddr = "127.0.0.1:0".parse().map_err(|error| format!("{error}"))?;
    let mut high_water = None;
    let rich = U256::from(10_000) * U256::from(10).pow(U256::from(18));
    let mut configuration = Configuration {
        chain_id: DEFAULT_CHAIN_ID,
        accounts: vec![
            (address!("f39fd6e51aad88f6f4ce6ab8827279cfffb92266"), rich),
            (address!("70997970c51812dc3a010c7d01b50e0d17dc79c8"), rich),
        ],
        ..Configuration::default()
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{name}: {error}"));
        match name.as_str() {
            "--listen" => listen = value.parse().map_err(|error| format!("{name}: {error}"))?,
            "--high-water" => high_water = Some(PathBuf::from(&value)),
            "--final-depth" => configuration.final_depth = number()?,
            "--chain-id" => configuration.chain_id = number()?,
            "--interval-ms" if number()? > 0 => {
                configuration.production = Production::Every(Duration::from_millis(number()?));
            }
            "--interval-ms" => {}
            _ => return Err(format!("{name} is unknown")),
        }
    }
    Ok(Options { directory, high_water, listen, configuration })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = options()?;
    let chain = Chain::open(
        &RealDisk::new(),
        &options.directory,
        options.high_water.as_deref(),
        options.configuration,
        Clock::System,
    )?;
    let chain = DevChain::start(chain, options.listen).await?;
    println!("listening {}", chain.url());
    tokio::signal::ctrl_c().await?;
    chain.stop().await;
    Ok(())
}
