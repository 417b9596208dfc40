//! The suite on `anvil`, a node that is not ours.

mod suite;

use suite::node::{Blocks, Node};
use suite::{anchoring, proofs, sending};

macro_rules! on_anvil {
    ($($module:ident::$name:ident($blocks:ident);)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            $module::$name(Node::anvil(Blocks::$blocks).await).await;
        }
    )*};
}

on_anvil! {
    sending::deploys_calls_logs_and_reverts(AtOnce);
    sending::an_intent_is_sent_once(AtOnce);
    sending::a_dearer_replacement_reuses_the_nonce(EachSecond);
    sending::stored_bytes_are_sent_after_a_crash(AtOnce);
    sending::one_sender_a_key(AtOnce);
    sending::a_nonce_used_elsewhere_is_found(AtOnce);
    proofs::state_is_proven_and_changes_are_seen(AtOnce);
    anchoring::batches_become_final_in_order(AtOnce);
    anchoring::another_header_is_an_alarm_that_stops(AtOnce);
    anchoring::a_reorganisation_steps_back(AtOnce);
    anchoring::the_quorum_deploys(AtOnce);
    anchoring::killed_at_any_moment_nothing_is_lost_or_doubled(AtOnce);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_endpoints_must_agree() {
    let first = Node::anvil(Blocks::AtOnce).await;
    // Genesis blocks carry the second in which they were made.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    proofs::several_endpoints_must_agree(first, Node::anvil(Blocks::AtOnce).await).await;
}
