//! What a provider answers to a gateway besides work: who it is, whether it takes a lock, a receipt again, a count.
//!
//! Invariant: a lock is accepted only for an offer of this provider and with time to settle, and its book is opened once
//! the acceptance stays. Every answer is one message within a bounded time. Does not know what runs under a lock.

use std::sync::Arc;

use ashlar_compute_api::terms::Lock;
use ashlar_compute_api::vouchers::{Level, LockTerms};
use ashlar_compute_api::{Address, ContentRoot};
use hyper::body::Incoming as Body;
use tokio::time::timeout;

use super::{Inner, work};
use crate::escrow::LockStage;
use crate::frame::{Incoming, Outbox, Outgoing, outgoing};
use crate::limits::{DOWN_FRAME_BYTES_MAX, FIRST_FRAME_MAX, UP_FRAME_BYTES_MAX, short};
use crate::wire::{
    Ask, COUNT_PATH, CountAsk, Counted, DESCRIBE_PATH, Down, LOCK_PATH, LockAnswer, LockOffer, Notice,
    RECEIPT_PATH, Refused, Unanswered, WORK_PATH,
};

impl Inner {
    /// Answers a request of the gateway; its work goes on in the group.
    pub(super) fn answer(self: Arc<Self>, request: http::Request<Body>) -> http::Response<Outgoing> {
        let (out, body) = outgoing(DOWN_FRAME_BYTES_MAX);
        let path = request.uri().path().to_owned();
        let asked = request.into_body();
        let tasks = self.tasks.clone();
        match path.as_str() {
            DESCRIBE_PATH => drop(tasks.spawn(self.describe(out))),
            WORK_PATH => drop(tasks.spawn(work::serve(self, asked, out))),
            LOCK_PATH => drop(tasks.spawn(self.take_lock(asked, out))),
            RECEIPT_PATH => drop(tasks.spawn(self.answer_again(asked, out))),
            COUNT_PATH => drop(tasks.spawn(self.count(asked, out))),
            _ => {
                let mut response = http::Response::new(body);
                *response.status_mut() = http::StatusCode::NOT_FOUND;
                return response;
            }
        }
        http::Response::new(body)
    }

    async fn describe(self: Arc<Self>, out: Outbox) {
        if out.send(&Notice::Is(self.description.clone())).await.is_err() {
            return;
        }
        let mut draining = self.draining.subscribe();
        let is_draining = async { draining.wait_for(|is_draining| *is_draining).await.is_ok() };
        let is_draining = tokio::select! {
            () = out.closed() => false,
            is_draining = is_draining => is_draining,
        };
        if is_draining {
            // A gateway that has left needs no word.
            let _ = out.send(&Notice::Draining).await;
        }
    }

    async fn take_lock(self: Arc<Self>, asked: Body, out: Outbox) {
        let mut asked = Incoming::new(asked, UP_FRAME_BYTES_MAX);
        let Ok(Ok(Some(offer))) = timeout(FIRST_FRAME_MAX, asked.next::<LockOffer>()).await else { return };
        let answer = match self.accept(offer.buyer, &offer.terms).await {
            Ok(()) => LockAnswer::Accepted,
            Err(reason) => LockAnswer::Refused { reason: short(reason) },
        };
        let _ = out.send(&answer).await;
    }

    /// Accepts a lock on the chain and opens its book. Asked again, does what is left to do.
    async fn accept(&self, buyer: Address, terms: &LockTerms) -> Result<(), String> {
        let (domain, account) = (self.escrow.domain(), self.escrow.account());
        let id = terms.lock_id(&domain, buyer);
        if self.locks.get(id).is_ok() {
            return Ok(());
        }
        if *self.draining.borrow() {
            return Err("the provider takes no more work".to_owned());
        }
        let offered = self.description.models.iter().find(|model| {
            (model.offer, model.offer_version) == (terms.offer, terms.offer_version)
                && (model.root, model.unit_price) == (terms.model_root, terms.unit_price)
        });
        if terms.provider != account || offered.is_none() {
            return Err("the lock is not for an offer of this provider".to_owned());
        }
        self.locks.has_room_for(buyer).map_err(|error| error.to_string())?;
        let lock = Lock { domain, buyer, signing_key: self.config.signing_key.address(), terms: *terms };
        lock.check().map_err(|error| error.to_string())?;
        let time = terms.settle_by - terms.work_by;
        if time < self.config.settle_seconds {
            return Err(format!("{time} s to settle in, and {} s are wanted", self.config.settle_seconds));
        }
        // The chain has it, or there is nothing to accept: the id commits to buyer and terms.
        let stage = async || {
            let found = self.escrow.lock(id).await.map_err(|error| error.to_string())?;
            found.map(|found| found.stage).ok_or_else(|| "the chain has no such lock".to_owned())
        };
        let mut found = stage().await?;
        if found == LockStage::Open {
            if self.now() > terms.accept_by {
                return Err("the lock could be accepted until before now".to_owned());
            }
            self.escrow.accept(id).await.map_err(|error| error.to_string())?;
            found = stage().await?;
        }
        match found {
            LockStage::Accepted { signing_key } if signing_key == lock.signing_key => {
                let adopted = self.locks.adopt(lock, self.config.settle_seconds).await;
                adopted.map_err(|error| error.to_string())
            }
            LockStage::Accepted { .. } => Err("the lock was accepted with another key".to_owned()),
            LockStage::Open => Err("the acceptance did not stay".to_owned()),
            LockStage::Closed => Err("the lock has ended".to_owned()),
        }
    }

    /// A voucher again whose receipt was lost on the way.
    async fn answer_again(self: Arc<Self>, asked: Body, out: Outbox) {
        let mut asked = Incoming::new(asked, UP_FRAME_BYTES_MAX);
        let Ok(Ok(Some(again))) = timeout(FIRST_FRAME_MAX, asked.next::<Unanswered>()).await else { return };
        let Unanswered { voucher, signature } = again;
        let settled = async {
            let account = self.locks.get(voucher.lock)?;
            let runtime = self.runtime(account.lock().terms.model_root);
            let class = runtime.map_or(ContentRoot::ZERO, |(runtime, _)| runtime.model().determinism_class);
            let level = Level::Bound;
            self.locks.countersign(&account, &voucher, &signature, class, level, self.now()).await
        };
        let answer = match settled.await {
            Ok(settled) => Down::Receipt { receipt: settled.receipt, signature: settled.provider },
            Err(error) => Down::Unpaid { reason: short(error) },
        };
        let _ = out.send(&answer).await;
    }

    async fn count(self: Arc<Self>, asked: Body, out: Outbox) {
        let Ok(_permit) = self.permit() else {
            let _ = out.send(&Counted::Refused(Refused::Busy { retry_after_seconds: 1 })).await;
            return;
        };
        let mut asked = Incoming::new(asked, UP_FRAME_BYTES_MAX);
        let Ok(Ok(Some(of))) = timeout(FIRST_FRAME_MAX, asked.next::<CountAsk>()).await else { return };
        let invalid = |reason: &str| Counted::Refused(Refused::Invalid { reason: reason.to_owned() });
        let answer = match (self.runtime(of.model), Ask::decode(&of.ask)) {
            (Some((runtime, _)), Ok(ask)) => match work::count(&*runtime, &ask).await {
                Ok(units) => Counted::Units(units),
                Err(error) => invalid(&short(error)),
            },
            (None, _) => invalid("the model is not run here"),
            (_, Err(_)) => invalid("the request is not one of this version"),
        };
        let _ = out.send(&answer).await;
    }
}
