//! The steps on the chain: block, contracts, registry, checkpoint; and the level, which follows from them.
//!
//! Invariant: state is read under a state root whose header's hash somebody vouches for whom the trust file
//! admits; every slot that is shown is checked, needed or not. Does not know why the state is asked for.

use std::collections::BTreeMap;

use super::{Found, Run};
use crate::block::{Block, BlockId};
use crate::evidence::Answer;
use crate::hex_bytes::Hash;
use crate::log::Header;
use crate::proof::State;
use crate::registry::{Namespace, header_slot, namespace_slots};
use crate::trie::{self, TrieError};
use crate::trust::ChainKind;
use crate::verdict::{Failed, Failure, Level, Step};

/// What the chain showed.
pub(super) struct Chain {
    pub(super) level: Level,
    pub(super) block: BlockId,
    pub(super) block_time: u64,
    pub(super) newest_sequence: u64,
    pub(super) last_position: u64,
}

/// Fewest endpoints whose agreement counts.
const ENDPOINTS_MIN: usize = 2;

impl Run<'_> {
    /// Takes the steps on the chain; with a `header`, it must be anchored.
    pub(super) fn chain(&mut self, header: Option<&Header>) -> Result<Chain, Failed> {
        let (state, block, level) = self.step(Step::Block, |run| {
            let state = run.evidence.state.as_ref().or(run.proof.state.as_ref()).ok_or(Failure::NoState)?;
            let block = Block::decode(&state.block_header.0).map_err(Failure::BlockHeader)?;
            let level = run.vouched(block.id)?;
            Ok(((state, block, level), format!("block {} {}: {level:?}", block.id.number, block.id.hash)))
        })?;
        let storage_root = self.step(Step::Contracts, |run| run.contracts(state, &block))?;
        let (words, namespace) = self.step(Step::State, |run| run.registry(state, &storage_root, header))?;
        self.step(Step::Checkpoint, |run| run.checkpoint(&block, &words, &namespace, header))?;
        Ok(Chain {
            level,
            block: block.id,
            block_time: block.timestamp,
            newest_sequence: namespace.sequence,
            last_position: namespace.last_position,
        })
    }

    /// Who vouches for the block, and what that is worth.
    fn vouched(&self, block: BlockId) -> Result<Level, Failure> {
        let not = |reason| Failure::Vouched { block, reason };
        let pinned = match (&self.evidence.endpoints, self.trust.chain) {
            (Some(answers), kind) => {
                let distinct = agreeing(answers, block, self.trust.chain_id).map_err(not)?;
                return match kind {
                    ChainKind::Embedded if distinct > 0 => Ok(Level::SelfAttested),
                    ChainKind::Embedded => Err(not("no endpoint was asked")),
                    ChainKind::Rpc if distinct >= ENDPOINTS_MIN => Ok(Level::RpcTrusted),
                    ChainKind::Rpc => Err(not("fewer than two endpoints were asked")),
                    ChainKind::Header => Err(not("the trust file admits pinned hashes only")),
                };
            }
            (None, _) => self.evidence.pinned.unwrap_or_else(|| self.trust.checkpoint.block()),
        };
        if pinned != block {
            return Err(not("another block is pinned"));
        }
        Ok(if self.trust.chain == ChainKind::Embedded { Level::SelfAttested } else { Level::HeaderVerified })
    }

    /// The storage root of the registry, after the code of both contracts was compared.
    fn contracts(&self, state: &State, block: &Block) -> Found<Hash> {
        let trust = self.trust;
        let account = |contract, address: &[u8; 20], nodes, expected: Hash| {
            let account = trie::account(&block.state_root, address, nodes)
                .map_err(|error| Failure::Trie { what: contract, error })?;
            if account.code_hash != expected {
                return Err(Failure::Code { contract, found: account.code_hash, expected });
            }
            Ok(account)
        };
        let registry =
            account("registry", &trust.registry.0, &state.registry_account, trust.registry_code_hash)?;
        account("verifier", &trust.verifier.0, &state.verifier_account, trust.verifier_code_hash)?;
        Ok((registry.storage_root, format!("registry {} and verifier {}", trust.registry, trust.verifier)))
    }

    /// All words that are shown, and what they say of the namespace.
    fn registry(
        &self,
        state: &State,
        storage_root: &Hash,
        header: Option<&Header>,
    ) -> Found<(BTreeMap<Hash, Hash>, Namespace)> {
        let trust = self.trust;
        let mut words = BTreeMap::new();
        for slot in &state.storage {
            let word = trie::word(storage_root, &slot.slot, &slot.nodes)
                .map_err(|error: TrieError| Failure::Trie { what: "slot of the registry", error })?;
            if words.insert(slot.slot, word).is_some() {
                return Err(Failure::SlotTwice { slot: slot.slot });
            }
        }
        let word = |slot: &Hash, what| words.get(slot).copied().ok_or(Failure::Slot { what });
        let [first, second] = namespace_slots(&trust.namespace);
        let namespace =
            Namespace::decode([word(&first, "namespace")?, word(&second, "namespace's verifier")?]);
        for (what, found, expected) in [
            ("publisher", namespace.publisher, trust.publisher),
            ("verifier", namespace.verifier, trust.verifier),
        ] {
            if found != expected {
                return Err(Failure::Role { what, found, expected });
            }
        }
        let Some(header) = header else {
            return Ok(((words, namespace), format!("the newest batch is {}", namespace.sequence)));
        };
        let sequence = header.sequence;
        let found = word(&header_slot(&trust.namespace, sequence), "header hash")?;
        if found != header.hash {
            return Err(Failure::Anchored { sequence, found, expected: header.hash });
        }
        Ok(((words, namespace), format!("header {found} is anchored at sequence {sequence}")))
    }

    /// Whether the chain still has what the user knew of it.
    fn checkpoint(
        &self,
        block: &Block,
        words: &BTreeMap<Hash, Hash>,
        namespace: &Namespace,
        header: Option<&Header>,
    ) -> Found<()> {
        let checkpoint = &self.trust.checkpoint;
        let not = |what| Err(Failure::Rewound(what));
        if block.id.number < checkpoint.block_number {
            return not("the block is older");
        }
        if block.id.number == checkpoint.block_number && block.id.hash != checkpoint.block_hash {
            return not("another block stands at its height");
        }
        let descends = match &self.evidence.endpoints {
            _ if block.id == checkpoint.block() => true,
            Some(answers) if answers.iter().all(|of| of.checkpoint_hash == Some(checkpoint.block_hash)) => {
                true
            }
            Some(_) => return not("an endpoint does not have its block"),
            None => false,
        };
        if namespace.sequence < checkpoint.sequence {
            return not("the log is shorter");
        }
        let slot = header_slot(&self.trust.namespace, checkpoint.sequence);
        let word = words.get(&slot).copied();
        let anchored = word.or(header.filter(|of| of.sequence == checkpoint.sequence).map(|of| of.hash));
        match anchored {
            _ if checkpoint.sequence == 0 => {}
            Some(hash) if hash != checkpoint.header_hash => {
                return not("another header stands at its sequence");
            }
            None if !descends => {
                return not("its sequence is not shown, and nobody says that its block is below");
            }
            _ => {}
        }
        Ok(((), format!("block {} and sequence {} stand", checkpoint.block_number, checkpoint.sequence)))
    }
}

/// How many distinct endpoints say that this block is on the chain; an error if one says otherwise.
fn agreeing(answers: &[Answer], block: BlockId, chain_id: u64) -> Result<usize, &'static str> {
    if answers.iter().any(|answer| answer.chain_id != chain_id) {
        return Err("an endpoint is of another chain");
    }
    if answers.iter().any(|answer| answer.block_hash != block.hash) {
        return Err("an endpoint has another block there");
    }
    let mut names: Vec<&str> = answers.iter().map(|answer| answer.endpoint.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names.len())
}
