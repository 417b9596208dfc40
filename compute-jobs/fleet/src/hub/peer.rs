//! One provider's link as the gateway has it: from handshake to end, and what keeps its locks ready meanwhile.
//!
//! Invariant: a peer is registered only with a key that the market has for it, and only with models whose offers the
//! chain shows with the same terms; when its link ends it is gone from the registry. Knows no single request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ashlar_compute_api::{Address, ContentRoot};
use hyper::client::conn::http2::SendRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{HubInner, purse};
use crate::frame::{FrameError, Incoming, Outgoing, encode};
use crate::handshake::{self, HandshakeError, LinkRefusal};
use crate::limits::{
    DOWN_FRAME_BYTES_MAX, FIRST_FRAME_MAX, HANDSHAKE_MAX, PROVIDERS_MAX, RECEIPT_WAIT_MAX, REQUESTS_MAX,
    UP_FRAME_BYTES_MAX,
};
use crate::transport;
use crate::wire::{
    DESCRIBE_PATH, Description, Down, LOCK_PATH, LockAnswer, LockOffer, Notice, OfferedModel, RECEIPT_PATH,
    Unanswered,
};

/// A provider that could not be given a lock is tried again after so many looks.
const FUND_PAUSE_LOOKS: u32 = 30;

/// A provider that is linked.
pub(super) struct Peer {
    pub(super) provider: Address,
    pub(super) signing_key: Address,
    pub(super) description: Description,
    /// What the chain confirms of its models.
    pub(super) models: Vec<OfferedModel>,
    /// Tells apart two links of one provider.
    pub(super) number: u64,
    requests: SendRequest<Outgoing>,
    permits: Arc<Semaphore>,
    pub(super) is_draining: AtomicBool,
    pub(super) answered: AtomicU64,
    pub(super) ended: CancellationToken,
}

/// Why something was not asked of a provider, or not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("the link broke: {0}")]
    Broke(#[from] hyper::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("status {0} is no answer")]
    Status(http::StatusCode),
    #[error("no answer in time")]
    Time,
    #[error("no answer")]
    Nothing,
}

/// Why a link did not come to be, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkEnd {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("no handshake within {} s", HANDSHAKE_MAX.as_secs())]
    Time,
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("the link broke: {0}")]
    Broke(#[from] hyper::Error),
    #[error("none of its models is offered on the chain as it says")]
    NoModels,
}

impl Peer {
    /// Its terms for a model.
    pub(super) fn offered(&self, root: ContentRoot, kind: u16) -> Option<&OfferedModel> {
        self.models.iter().find(|model| model.root == root && model.kind == kind)
    }

    /// Room for a request, if there is any.
    pub(super) fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let takes_work = !self.is_draining.load(Ordering::SeqCst) && !self.ended.is_cancelled();
        takes_work.then(|| Arc::clone(&self.permits).try_acquire_owned().ok())?
    }

    /// Share of its room that is taken.
    pub(super) fn load(&self) -> f64 {
        let all = f64::from(self.description.requests_max.clamp(1, REQUESTS_MAX));
        let free = u32::try_from(self.permits.available_permits()).unwrap_or(u32::MAX);
        1.0 - f64::from(free) / all
    }

    /// Begins a request.
    pub(super) async fn ask(
        &self,
        path: &'static str,
        body: Outgoing,
    ) -> Result<Incoming<hyper::body::Incoming>, PeerError> {
        let mut requests = self.requests.clone();
        let asked = requests.send_request(transport::request(path, body));
        let response = timeout(FIRST_FRAME_MAX, asked).await.map_err(|_| PeerError::Time)??;
        if response.status() != http::StatusCode::OK {
            return Err(PeerError::Status(response.status()));
        }
        Ok(Incoming::new(response.into_body(), DOWN_FRAME_BYTES_MAX))
    }

    /// Asks one thing and takes one answer.
    pub(super) async fn ask_once<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &'static str,
        question: &Q,
        longest: std::time::Duration,
    ) -> Result<A, PeerError> {
        let body = Outgoing::once(encode(question, UP_FRAME_BYTES_MAX)?);
        let mut answer = self.ask(path, body).await?;
        let answer = timeout(longest, answer.next()).await.map_err(|_| PeerError::Time)??;
        answer.ok_or(PeerError::Nothing)
    }
}

/// A link from its first byte to its last.
pub(super) async fn serve<S>(
    hub: Arc<HubInner>,
    mut stream: S,
    handshaking: OwnedSemaphorePermit,
) -> Result<(), LinkEnd>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let hello = async {
        let (domain, identity) = (hub.escrow.domain(), &hub.config.identity);
        let claimed = handshake::challenge(&mut stream, domain, identity, rand::random()).await?;
        let verdict = admit(&hub, claimed.provider, claimed.signing_key).await;
        handshake::answer(&mut stream, &claimed, identity, verdict).await?;
        Ok::<_, HandshakeError>((claimed.provider, claimed.signing_key))
    };
    let (provider, signing_key) = timeout(HANDSHAKE_MAX, hello).await.map_err(|_| LinkEnd::Time)??;
    drop(handshaking);
    let ended = hub.stop.child_token();
    let _end = ended.clone().drop_guard();
    let (requests, connection) = transport::asking(stream, &hub.tasks, ended.clone()).await?;
    let (connected, broken) = (hub.tasks.clone(), ended.clone());
    let connection = connected.spawn(async move {
        tokio::select! {
            done = connection => {
                broken.cancel();
                done
            }
            () = broken.cancelled() => Ok(()),
        }
    });
    let met = meet(&hub, provider, signing_key, requests, ended.clone()).await;
    let (peer, mut notices) = match met {
        Ok(met) => met,
        Err(error) => return Err(error),
    };
    hub.register(&peer);
    tracing::info!(%provider, models = peer.models.len(), "a provider is linked");
    let funding = hub.tasks.spawn(keep_funded(Arc::clone(&hub), Arc::clone(&peer)));
    loop {
        let notice = tokio::select! {
            () = ended.cancelled() => break,
            notice = notices.next::<Notice>() => notice,
        };
        match notice {
            Ok(Some(Notice::Draining)) => peer.is_draining.store(true, Ordering::SeqCst),
            // What it offers changes with a new link: terms are checked once.
            Ok(Some(Notice::Is(_))) => {}
            Ok(None) => {
                // It has said all that it will; work under way goes on until the link ends.
                peer.is_draining.store(true, Ordering::SeqCst);
                ended.cancelled().await;
                break;
            }
            Err(error) => {
                tracing::debug!(%provider, %error, "a provider's notices ended");
                break;
            }
        }
    }
    ended.cancel();
    hub.unregister(&peer);
    funding.abort();
    if let Ok(Err(error)) = connection.await {
        return Err(error.into());
    }
    Ok(())
}

/// Whether a provider may link, as the market and the hub have it.
async fn admit(hub: &HubInner, provider: Address, signing_key: Address) -> Result<(), LinkRefusal> {
    if hub.reputations.lock().is_suspended(provider) {
        return Err(LinkRefusal::Suspended);
    }
    let others = hub.peers.lock().keys().filter(|linked| **linked != provider).count();
    if others >= PROVIDERS_MAX {
        return Err(LinkRefusal::Full);
    }
    match hub.escrow.provider(provider).await {
        Ok(None) => Err(LinkRefusal::Unregistered),
        Ok(Some(state)) if state.is_slashed => Err(LinkRefusal::Slashed),
        Ok(Some(state)) if state.signing_key != signing_key => Err(LinkRefusal::OtherKey),
        Ok(Some(_)) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "a provider could not be looked up");
            Err(LinkRefusal::Unavailable)
        }
    }
}

type Notices = Incoming<hyper::body::Incoming>;

/// Hears what a provider says of itself, and keeps what the chain confirms.
async fn meet(
    hub: &HubInner,
    provider: Address,
    signing_key: Address,
    requests: SendRequest<Outgoing>,
    ended: CancellationToken,
) -> Result<(Arc<Peer>, Notices), LinkEnd> {
    let mut peer = Peer {
        provider,
        signing_key,
        description: Description { devices: Default::default(), models: Default::default(), requests_max: 0 },
        models: Vec::new(),
        number: hub.links.fetch_add(1, Ordering::SeqCst),
        requests,
        permits: Arc::new(Semaphore::new(0)),
        is_draining: AtomicBool::new(false),
        answered: AtomicU64::new(0),
        ended,
    };
    let nothing = Outgoing::once(encode(&(), UP_FRAME_BYTES_MAX).map_err(PeerError::Frame)?);
    let mut notices = peer.ask(DESCRIBE_PATH, nothing).await?;
    let first = timeout(FIRST_FRAME_MAX, notices.next()).await.map_err(|_| PeerError::Time)?;
    let Some(Notice::Is(description)) = first.map_err(PeerError::Frame)? else {
        return Err(PeerError::Nothing.into());
    };
    for model in description.models.iter() {
        let found = hub.escrow.offer(provider, model.offer).await;
        let is_so = found.ok().flatten().is_some_and(|(version, offer)| {
            (version, offer.kind, offer.model_root, offer.unit_price)
                == (model.offer_version, model.kind, model.root, model.unit_price)
        });
        if is_so {
            peer.models.push(model.clone());
        } else {
            tracing::warn!(%provider, offer = model.offer, "an offer is not on the chain as the provider says");
        }
    }
    if peer.models.is_empty() {
        return Err(LinkEnd::NoModels);
    }
    let room = description.requests_max.min(REQUESTS_MAX);
    peer.permits = Arc::new(Semaphore::new(usize::try_from(room).unwrap_or(0)));
    peer.description = description;
    Ok((Arc::new(peer), notices))
}

/// Keeps a lock ready for each of a provider's offers.
async fn keep_funded(hub: Arc<HubInner>, peer: Arc<Peer>) {
    let mut timer = interval(hub.config.fund_interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pauses = vec![0u32; peer.models.len()];
    loop {
        tokio::select! {
            () = peer.ended.cancelled() => return,
            _ = timer.tick() => {}
        }
        if peer.is_draining.load(Ordering::SeqCst) {
            return;
        }
        for (offered, pause) in peer.models.iter().zip(&mut pauses) {
            if *pause > 0 {
                *pause -= 1;
                continue;
            }
            if let Err(why) = fund(&hub, &peer, offered).await {
                tracing::info!(provider = %peer.provider, offer = offered.offer, why, "an offer has no lock yet");
                *pause = FUND_PAUSE_LOOKS;
            }
        }
    }
}

/// Brings a lock for an offer to where requests are paid from it, if one is wanted.
async fn fund(hub: &HubInner, peer: &Peer, offered: &OfferedModel) -> Result<(), String> {
    let told = |error: purse::PurseError| error.to_string();
    let Some(account) = hub.purse.wanting(peer.provider, offered, hub.now()).await.map_err(told)? else {
        return Ok(());
    };
    let offer = LockOffer { buyer: hub.escrow.account(), terms: *account.terms() };
    let answer = peer.ask_once(LOCK_PATH, &offer, hub.config.accept_max).await;
    match answer.map_err(|error| error.to_string())? {
        LockAnswer::Accepted => {}
        LockAnswer::Refused { reason } => {
            hub.purse.undo(&account).await.map_err(told)?;
            return Err(reason);
        }
    }
    hub.purse.confirm(&account, peer.signing_key).await.map_err(told)?;
    for (voucher, signature) in account.unanswered().await {
        let again = Unanswered { voucher, signature };
        let shard = ashlar_compute_api::terms::Shard { job: voucher.job, number: voucher.shard };
        let answer = peer.ask_once(RECEIPT_PATH, &again, RECEIPT_WAIT_MAX).await;
        // Without a receipt the place is not used again: what was signed for it stays counted as spent.
        if let Ok(Down::Receipt { receipt, signature }) = answer
            && let Err(error) = account.receipted(shard, &receipt, &signature).await
        {
            tracing::warn!(%error, lock = %account.id(), "a receipt was not taken");
        }
    }
    account.make_ready();
    Ok(())
}
