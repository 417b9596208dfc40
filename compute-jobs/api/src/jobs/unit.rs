//! One unit of a job: who works on it, under which fence, and how that ended.
//!
//! ```text
//! Open ──lease──► Leased ──finish──► Done          fail, expire: Open again, or Failed when attempts are used up
//!                 Leased(first), announce, told, hedge: Leased(first, second); one finishes, the other goes unpaid
//! Open, Leased ──cancel──► Cancelled
//! ```
//!
//! Invariant: a fence is given once and is larger than all before; only a fence that has a lease may write a result, and
//! only one does; a lease beside another was told so before the other began, or is the other.

use serde::{Deserialize, Serialize};

use super::statement::UnitInput;
use crate::bytes::{Address, ContentRoot};
use crate::terms::Shard;

/// A unit as it stands. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Which unit of which job: the shard of its vouchers.
    pub shard: Shard,
    /// What it works on.
    pub input: UnitInput,
    /// Where it stands.
    pub state: UnitState,
    /// The newest fence, and the number of leases given so far.
    pub last_fence: u64,
    /// As many leases as it may have.
    pub attempts_max: u32,
    /// Leases that ended.
    pub attempts: Vec<Attempt>,
}

/// Where a unit stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// Nobody works on it.
    Open,
    /// One works on it, or two.
    Leased(Vec<Lease>),
    /// It has its result.
    Done(Output),
    /// All attempts failed, or one for good; its rows say so in the job's result.
    Failed {
        /// Why, for the rows.
        reason: String,
    },
    /// Not wanted any more.
    Cancelled,
}

/// The right to work on a unit for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Fences what it writes and what its vouchers say.
    pub fence: u64,
    /// Who has it.
    pub provider: Address,
    /// Since when.
    pub granted_at: u64,
    /// Until when, inclusive, unless it is renewed.
    pub expires_at: u64,
    /// Whether another works on the same.
    pub hedge: Hedge,
}

/// Whether a lease may go unpaid because another finishes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hedge {
    /// No: nobody else works on it.
    Alone,
    /// Its provider is to be told that another will; until it said that it knows, no other begins.
    Announced,
    /// Its provider knows.
    Told,
    /// It is the other, and was told when it was given.
    Second,
}

/// A unit's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Under which it was written.
    pub fence: u64,
    /// BLAKE3 of its bytes.
    pub content_root: ContentRoot,
    /// Units that are paid for it.
    pub usage: u64,
}

/// A lease that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// The lease's.
    pub fence: u64,
    /// Who had it.
    pub provider: Address,
    /// Since when.
    pub granted_at: u64,
    /// Until when.
    pub ended_at: u64,
    /// How.
    pub end: AttemptEnd,
}

/// How a lease ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// With the unit's result.
    Finished,
    /// Another finished first, as it was told could be: no more is paid.
    Overtaken,
    /// The provider said why not.
    Failed {
        /// Why.
        reason: String,
    },
    /// It was not renewed.
    Expired,
    /// The unit was cancelled; what was receipted stays paid.
    Cancelled,
}

/// What happens to a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitEvent {
    /// A provider gets it for so long.
    Lease {
        /// Who.
        provider: Address,
        /// From now.
        seconds: u64,
    },
    /// A provider is at it: so long from now.
    Heartbeat {
        /// Its lease's.
        fence: u64,
        /// From now.
        seconds: u64,
    },
    /// The provider shall be told that another may finish first.
    AnnounceHedge {
        /// Its lease's.
        fence: u64,
    },
    /// The provider said that it knows.
    Told {
        /// Its lease's.
        fence: u64,
    },
    /// A second provider gets it as well.
    Hedge {
        /// Who.
        provider: Address,
        /// From now.
        seconds: u64,
    },
    /// A provider has the result.
    Finish(Output),
    /// A provider gives up.
    Fail {
        /// Its lease's.
        fence: u64,
        /// Why.
        reason: String,
        /// Whether another could do better.
        is_final: bool,
    },
    /// Time passed.
    Expire,
    /// The job wants it no more.
    Cancel,
}

/// What somebody has to be told, besides the new state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A lease was given.
    Granted(Lease),
    /// A lease goes on until then.
    Renewed(Lease),
    /// A lease ended.
    Ended(Attempt),
}

/// Why something cannot happen to a unit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitRefusal {
    /// It has ended.
    #[error("the unit has ended")]
    Ended,
    /// Somebody has it.
    #[error("the unit is leased")]
    Leased,
    /// This fence has no lease, or none any more.
    #[error("fence {fence} has no lease")]
    Fenced {
        /// The one that was named.
        fence: u64,
    },
    /// It had all leases that it may have.
    #[error("all {attempts_max} attempts are used up")]
    AttemptsUsedUp {
        /// So many.
        attempts_max: u32,
    },
    /// Two work on it at most, and not the same one twice.
    #[error("the unit cannot be hedged so")]
    NotHedgeable,
    /// The first provider does not know yet that it may go unpaid.
    #[error("the provider of fence {fence} was not told")]
    NotTold {
        /// The first lease's.
        fence: u64,
    },
    /// Nothing was announced to this lease.
    #[error("nothing was announced to fence {fence}")]
    NotAnnounced {
        /// The lease's.
        fence: u64,
    },
}

impl Unit {
    /// A unit that nobody had yet.
    pub fn new(shard: Shard, input: UnitInput, attempts_max: u32) -> Self {
        Self { shard, input, state: UnitState::Open, last_fence: 0, attempts_max, attempts: Vec::new() }
    }

    /// Whether nothing can happen to it any more.
    pub fn has_ended(&self) -> bool {
        !matches!(self.state, UnitState::Open | UnitState::Leased(_))
    }

    /// Leases that it has now.
    pub fn leases(&self) -> &[Lease] {
        if let UnitState::Leased(leases) = &self.state { leases } else { &[] }
    }

    /// Whether this provider had it before: a retry is better elsewhere.
    pub fn was_tried_by(&self, provider: Address) -> bool {
        self.attempts.iter().any(|attempt| attempt.provider == provider)
    }

    /// The unit after `event` at `now`, and whom to tell what.
    pub fn apply(&self, event: UnitEvent, now: u64) -> Result<(Self, Vec<Effect>), UnitRefusal> {
        if self.has_ended() {
            return Err(UnitRefusal::Ended);
        }
        let mut next = self.clone();
        let mut effects = Vec::new();
        match event {
            UnitEvent::Lease { provider, seconds } => {
                if !self.leases().is_empty() {
                    return Err(UnitRefusal::Leased);
                }
                effects.push(next.grant(provider, seconds, Hedge::Alone, now)?);
            }
            UnitEvent::Hedge { provider, seconds } => {
                let [first] = self.leases() else { return Err(UnitRefusal::NotHedgeable) };
                if first.provider == provider {
                    return Err(UnitRefusal::NotHedgeable);
                }
                if first.hedge != Hedge::Told {
                    return Err(UnitRefusal::NotTold { fence: first.fence });
                }
                effects.push(next.grant(provider, seconds, Hedge::Second, now)?);
            }
            UnitEvent::Heartbeat { fence, seconds } => {
                let lease = next.lease(fence, now)?;
                lease.expires_at = lease.expires_at.max(now.saturating_add(seconds));
                effects.push(Effect::Renewed(*lease));
            }
            UnitEvent::AnnounceHedge { fence } => {
                let lease = next.lease(fence, now)?;
                if lease.hedge != Hedge::Alone {
                    return Err(UnitRefusal::NotHedgeable);
                }
                lease.hedge = Hedge::Announced;
            }
            UnitEvent::Told { fence } => {
                let lease = next.lease(fence, now)?;
                if lease.hedge != Hedge::Announced {
                    return Err(UnitRefusal::NotAnnounced { fence });
                }
                lease.hedge = Hedge::Told;
            }
            UnitEvent::Finish(output) => {
                next.lease(output.fence, now)?;
                let ends = |lease: &Lease| match lease.fence == output.fence {
                    true => AttemptEnd::Finished,
                    false => AttemptEnd::Overtaken,
                };
                next.end_leases(|_| true, ends, now, &mut effects);
                next.state = UnitState::Done(output);
            }
            UnitEvent::Fail { fence, reason, is_final } => {
                next.lease(fence, now)?;
                let ends = |_: &Lease| AttemptEnd::Failed { reason: reason.clone() };
                next.end_leases(|lease| lease.fence == fence, ends, now, &mut effects);
                next.go_on_without(&reason, is_final);
            }
            UnitEvent::Expire => {
                let is_over = |lease: &Lease| lease.expires_at < now;
                next.end_leases(is_over, |_| AttemptEnd::Expired, now, &mut effects);
                if !effects.is_empty() {
                    next.go_on_without("the lease was not renewed", false);
                }
            }
            UnitEvent::Cancel => {
                next.end_leases(|_| true, |_| AttemptEnd::Cancelled, now, &mut effects);
                next.state = UnitState::Cancelled;
            }
        }
        Ok((next, effects))
    }

    fn grant(
        &mut self,
        provider: Address,
        seconds: u64,
        hedge: Hedge,
        now: u64,
    ) -> Result<Effect, UnitRefusal> {
        if self.last_fence >= self.attempts_max.into() {
            return Err(UnitRefusal::AttemptsUsedUp { attempts_max: self.attempts_max });
        }
        self.last_fence += 1;
        let expires_at = now.saturating_add(seconds);
        let lease = Lease { fence: self.last_fence, provider, granted_at: now, expires_at, hedge };
        match &mut self.state {
            UnitState::Leased(leases) => leases.push(lease),
            state => *state = UnitState::Leased(vec![lease]),
        }
        Ok(Effect::Granted(lease))
    }

    /// The lease of a fence, if it is not over.
    fn lease(&mut self, fence: u64, now: u64) -> Result<&mut Lease, UnitRefusal> {
        let UnitState::Leased(leases) = &mut self.state else { return Err(UnitRefusal::Fenced { fence }) };
        let lease = leases.iter_mut().find(|lease| lease.fence == fence && now <= lease.expires_at);
        lease.ok_or(UnitRefusal::Fenced { fence })
    }

    fn end_leases(
        &mut self,
        which: impl Fn(&Lease) -> bool,
        end: impl Fn(&Lease) -> AttemptEnd,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        let UnitState::Leased(leases) = &mut self.state else { return };
        for lease in leases.extract_if(.., |lease| which(lease)) {
            let Lease { fence, provider, granted_at, .. } = lease;
            let attempt = Attempt { fence, provider, granted_at, ended_at: now, end: end(&lease) };
            self.attempts.push(attempt.clone());
            effects.push(Effect::Ended(attempt));
        }
    }

    /// After leases ended without a result.
    fn go_on_without(&mut self, reason: &str, is_final: bool) {
        match &mut self.state {
            // Nobody else works on it any more, so that the one who is left is paid whatever happens.
            UnitState::Leased(leases) if !leases.is_empty() => leases[0].hedge = Hedge::Alone,
            state if is_final || self.last_fence >= self.attempts_max.into() => {
                *state = UnitState::Failed { reason: reason.to_owned() };
            }
            state => *state = UnitState::Open,
        }
    }
}
