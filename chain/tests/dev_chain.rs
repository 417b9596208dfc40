//! The suite on the dev chain.

mod suite;

use suite::node::{Blocks, Node};
use suite::{anchoring, market, proofs, sending};

macro_rules! on_the_dev_chain {
    ($($module:ident::$name:ident($blocks:ident);)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            $module::$name(Node::dev(Blocks::$blocks).await).await;
        }
    )*};
}

on_the_dev_chain! {
    sending::deploys_calls_logs_and_reverts(AtOnce);
    sending::an_intent_is_sent_once(AtOnce);
    sending::a_dearer_replacement_reuses_the_nonce(EachSecond);
    sending::stored_bytes_are_sent_after_a_crash(AtOnce);
    sending::one_sender_a_key(AtOnce);
    sending::a_nonce_used_elsewhere_is_found(AtOnce);
    proofs::state_is_proven_and_changes_are_seen(AtOnce);
    anchoring::batches_become_final_in_order(AtOnce);
    anchoring::another_header_is_an_alarm_that_stops(AtOnce);
    anchoring::the_quorum_deploys(AtOnce);
    anchoring::killed_at_any_moment_nothing_is_lost_or_doubled(AtOnce);
}

macro_rules! on_the_dev_chain_by_hand {
    ($($name:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            market::$name(Node::dev_by_hand(1_800_000_000).await).await;
        }
    )*};
}

on_the_dev_chain_by_hand! {
    a_lock_lives_from_opening_to_withdrawal;
    what_is_not_settled_goes_back_after_the_time;
    what_nobody_accepts_is_cancelled;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_endpoints_must_agree() {
    let first = Node::dev(Blocks::AtOnce).await;
    // Genesis blocks carry the second in which they were made.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    proofs::several_endpoints_must_agree(first, Node::dev(Blocks::AtOnce).await).await;
}
