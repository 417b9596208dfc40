//! The chain that anchors the log: the embedded one, or another that is asked over JSON-RPC, and who pays there.
//!
//! Invariant: one account, one sender, because each decides its nonces alone. On the embedded chain publisher and governor
//! are accounts of their own; on another chain one funded account is both.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, U256};
use anyhow::{Context, ensure};
use ashlar_chain::{
    Call, EndpointLimits, Endpoints, FeePolicy, FileTransactionStore, Finality, TransactionKey,
    TransactionSender,
};
use ashlar_dev_chain::{Chain, Clock, Configuration as ChainConfiguration, DevChain};
use ashlar_disk::RealDisk;
use ashlar_verify::ChainKind;
use zeroize::Zeroizing;

use super::Keys;
use crate::configuration::{ChainFinality, Configuration};

/// What an account of the embedded chain begins with: more than all gas of a lifetime.
const FUNDS_ETHER: u64 = 1_000_000_000;
/// How often a transaction is looked for on the embedded chain, and on another.
const POLL_EMBEDDED: Duration = Duration::from_millis(20);
const POLL: Duration = Duration::from_secs(1);
/// How often batches under way are looked after.
const STEP_EMBEDDED: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_secs(2);
const KEY_VARIABLE: &str = "ASHLAR_CHAIN_KEY";
const PASSWORD_VARIABLE: &str = "ASHLAR_CHAIN_KEYSTORE_PASSWORD";

/// An account that does things once, each under a name.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) sender: Arc<TransactionSender>,
    pub(super) poll: Duration,
}

impl Account {
    /// Sends a call under its name and waits for it; a call that was made before is found again.
    pub(super) async fn perform(&self, name: B256, call: &Call) -> anyhow::Result<()> {
        self.sender.send(name, call).await?;
        let inclusion = self.sender.wait(name, 0, self.poll).await?;
        ensure!(inclusion.succeeded, "transaction {} reverted", inclusion.hash);
        self.sender.forget(name).await?;
        Ok(())
    }
}

/// The chain, and the accounts on it.
pub(super) struct Connected {
    /// Where it is the embedded one.
    pub(super) embedded: Option<DevChain>,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) url: String,
    pub(super) publisher: Account,
    pub(super) governor: Account,
    pub(super) finality: Finality,
    pub(super) kind: ChainKind,
    /// How often batches under way are looked after.
    pub(super) step: Duration,
}

/// Starts the embedded chain, or connects to the other.
pub(super) async fn connect(tree: &Configuration, keys: &Keys) -> anyhow::Result<Connected> {
    let is_embedded = tree.chain.rpc.is_empty();
    let embedded = if is_embedded { Some(embedded_chain(tree, keys).await?) } else { None };
    let urls = embedded.as_ref().map_or_else(|| tree.chain.rpc.clone(), |chain| vec![chain.url()]);
    let endpoints = Endpoints::connect(&urls, tree.chain.id, EndpointLimits::default());
    let endpoints = Arc::new(endpoints.await.context("asking the chain")?);
    let folder = tree.data_dir.join("publisher").join("transactions");
    let store = FileTransactionStore::open(Arc::new(RealDisk::new()), &folder);
    let store = Arc::new(store.context("opening the publisher's transactions")?);
    let poll = if is_embedded { POLL_EMBEDDED } else { POLL };
    let account = async |key: TransactionKey| {
        let store = Arc::clone(&store) as _;
        let sender = TransactionSender::open(Arc::clone(&endpoints), key, store, FeePolicy::default());
        let sender = sender.await.map(Arc::new).context("opening a sender of transactions")?;
        anyhow::Ok(Account { sender, poll })
    };
    let (publisher, governor) = match is_embedded {
        true => (account(keys.publisher.clone()).await?, account(keys.governor.clone()).await?),
        false => {
            let key = own_key(&tree.chain.keystore, keys).await?;
            let address = key.address();
            let funds = endpoints
                .any(|endpoint| endpoint.balance(address))
                .await
                .context("asking for the account")?;
            ensure!(
                funds > U256::ZERO,
                "account {address} has nothing on chain {} to pay with; send it funds, or name another account with \
                 chain.keystore or {KEY_VARIABLE}",
                tree.chain.id
            );
            let account = account(key).await?;
            (account.clone(), account)
        }
    };
    Ok(Connected {
        embedded,
        endpoints,
        url: urls.into_iter().next().unwrap_or_default(),
        publisher,
        governor,
        finality: match tree.chain.finality {
            // A block of the embedded chain is never taken back.
            _ if is_embedded => Finality::Depth(0),
            ChainFinality::Finalized => Finality::Finalized,
            ChainFinality::Depth(blocks) => Finality::Depth(blocks),
        },
        kind: if is_embedded { ChainKind::Embedded } else { ChainKind::Rpc },
        step: if is_embedded { STEP_EMBEDDED } else { STEP },
    })
}

/// The key of the account on another chain.
async fn own_key(keystore: &Path, keys: &Keys) -> anyhow::Result<TransactionKey> {
    if !keystore.as_os_str().is_empty() {
        let password = std::env::var(PASSWORD_VARIABLE).map(Zeroizing::new);
        let password =
            password.with_context(|| format!("set {PASSWORD_VARIABLE} to the keystore's password"))?;
        let keystore = keystore.to_owned();
        let work = move || TransactionKey::from_keystore(&keystore, &password);
        return Ok(tokio::task::spawn_blocking(work).await.context("opening the keystore")??);
    }
    match std::env::var_os(KEY_VARIABLE) {
        Some(_) => Ok(TransactionKey::from_environment(KEY_VARIABLE)?),
        None => Ok(keys.publisher.clone()),
    }
}

async fn embedded_chain(tree: &Configuration, keys: &Keys) -> anyhow::Result<DevChain> {
    let funds = U256::from(FUNDS_ETHER) * U256::from(10).pow(18.try_into()?);
    let configuration = ChainConfiguration {
        chain_id: tree.chain.id,
        accounts: vec![(keys.publisher.address(), funds), (keys.governor.address(), funds)],
        ..ChainConfiguration::default()
    };
    let folder = tree.data_dir.join("chain");
    let high_water = tree.data_dir.join("chain-high-water");
    let chain = tokio::task::spawn_blocking(move || {
        Chain::open(&RealDisk::new(), &folder, Some(&high_water), configuration, Clock::System)
    });
    let chain = chain.await.context("opening the chain")?.context("opening the embedded chain")?;
    let started = DevChain::start(chain, tree.chain.listen).await;
    started.with_context(|| {
        format!(
            "{} cannot be listened on; end what uses it, or choose another with --chain-listen",
            tree.chain.listen
        )
    })
}
