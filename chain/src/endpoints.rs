//! Several endpoints of one chain: one that answers, or several that agree.
//!
//! Invariant: each is asked for its chain id before anything of it is believed, and one of another chain is an error,
//! not a fallback. Deliberately knows nothing of what is asked.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;

use crate::endpoint::{Endpoint, EndpointError, RpcError};
use crate::transport::EndpointLimits;

/// Endpoints of one chain.
#[derive(Debug)]
pub struct Endpoints {
    all: Vec<Member>,
    chain_id: u64,
    /// The one that answered last.
    preferred: AtomicUsize,
}

#[derive(Debug)]
struct Member {
    endpoint: Endpoint,
    /// Whether it said which chain it is of.
    checked: AtomicBool,
}

/// Why several endpoints give no answer together.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError {
    /// An endpoint's URL is none.
    #[error(transparent)]
    Url(#[from] EndpointError),
    /// None were given.
    #[error("no chain endpoint is configured")]
    None,
    /// One is in the list twice, and would agree with itself.
    #[error("chain endpoint {endpoint} is configured twice")]
    Twice {
        /// Which.
        endpoint: String,
    },
    /// The last error, where none answered or the answer was an error.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// One is of another chain.
    #[error("chain endpoint {endpoint} is of chain {found}, not {wanted}")]
    OtherChain {
        /// Which.
        endpoint: String,
        /// Its chain.
        found: u64,
        /// The chain that was asked for.
        wanted: u64,
    },
    /// They contradict each other.
    #[error("chain endpoints {one} and {other} disagree about {about}")]
    Disagree {
        /// What was asked.
        about: &'static str,
        /// One of them.
        one: String,
        /// Another.
        other: String,
    },
    /// Too few answered.
    #[error("{found} of {wanted} chain endpoints answered about {about}; last: {last}")]
    TooFew {
        /// What was asked.
        about: &'static str,
        /// How many answered.
        found: usize,
        /// How many must.
        wanted: usize,
        /// What the last of the others said.
        last: String,
    },
}

impl AskError {
    /// Whether time or another endpoint may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Rpc(error) => error.is_about_the_endpoint(),
            Self::TooFew { .. } => true,
            Self::Url(_)
            | Self::None
            | Self::Twice { .. }
            | Self::OtherChain { .. }
            | Self::Disagree { .. } => false,
        }
    }
}

impl Endpoints {
    /// Makes the list, in which no host and port comes twice, and asks each endpoint for its chain: at least one must answer, and none may be of another chain
    /// than `chain_id`. Those that do not answer now are asked before they are first believed.
    pub async fn connect(urls: &[String], chain_id: u64, limits: EndpointLimits) -> Result<Self, AskError> {
        let member = |url: &String| {
            Endpoint::new(url, limits).map(|endpoint| Member { endpoint, checked: AtomicBool::new(false) })
        };
        let all: Vec<Member> = urls.iter().map(member).collect::<Result<_, _>>()?;
        let mut names: Vec<&str> = all.iter().map(|member| member.endpoint.name()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(AskError::Twice { endpoint: twice[0].to_owned() });
        }
        let made = Self { all, chain_id, preferred: AtomicUsize::new(0) };
        let mut last = AskError::None;
        let mut answered = false;
        for ready in join_all(made.all.iter().map(|member| made.ready(member))).await {
            match ready {
                Ok(_) => answered = true,
                Err(AskError::Rpc(error)) => last = error.into(),
                Err(error) => return Err(error),
            }
        }
        if answered { Ok(made) } else { Err(last) }
    }

    /// Their chain.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// How many there are, whether they answer or not.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// An endpoint, once it said that it is of this chain.
    async fn ready<'s>(&self, member: &'s Member) -> Result<&'s Endpoint, AskError> {
        let endpoint = &member.endpoint;
        if !member.checked.load(Ordering::Relaxed) {
            let (found, wanted) = (endpoint.chain_id().await?, self.chain_id);
            if found != wanted {
                return Err(AskError::OtherChain { endpoint: endpoint.name().to_owned(), found, wanted });
            }
            member.checked.store(true, Ordering::Relaxed);
        }
        Ok(endpoint)
    }

    async fn ask<'s, T, F>(
        &'s self,
        member: &'s Member,
        ask: &impl Fn(&'s Endpoint) -> F,
    ) -> Result<T, AskError>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        Ok(ask(self.ready(member).await?).await?)
    }

    /// The first answer of an endpoint that can answer, beginning with the one that did last.
    pub async fn any<'s, T, F>(&'s self, ask: impl Fn(&'s Endpoint) -> F) -> Result<T, AskError>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = AskError::None;
        for step in 0..self.all.len() {
            let at = (first + step) % self.all.len();
            match self.ask(&self.all[at], &ask).await {
                Ok(answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) if error.is_temporary() => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// The answer of all endpoints that answer, who must be at least `wanted` and all say the same.
    pub async fn agreed<'s, T, F>(
        &'s self,
        wanted: usize,
        about: &'static str,
        ask: impl Fn(&'s Endpoint) -> F,
    ) -> Result<T, AskError>
    where
        T: PartialEq,
        F: Future<Output = Result<T, RpcError>>,
    {
        let mut agreed: Option<(T, &Endpoint)> = None;
        let (mut found, mut last) = (0, "there are no others".to_owned());
        let answers = join_all(self.all.iter().map(|member| self.ask(member, &ask))).await;
        for (member, answer) in self.all.iter().zip(answers) {
            let endpoint = &member.endpoint;
            match (answer, &agreed) {
                (Err(error @ AskError::OtherChain { .. }), _) => return Err(error),
                (Err(error), _) => last = error.to_string(),
                (Ok(answer), None) => {
                    found = 1;
                    agreed = Some((answer, endpoint));
                }
                (Ok(answer), Some((first, one))) => {
                    if answer != *first {
                        let (one, other) = (one.name().to_owned(), endpoint.name().to_owned());
                        return Err(AskError::Disagree { about, one, other });
                    }
                    found += 1;
                }
            }
        }
        match agreed {
            Some((answer, _)) if found >= wanted => Ok(answer),
            _ => Err(AskError::TooFew { about, found, wanted, last }),
        }
    }
}
