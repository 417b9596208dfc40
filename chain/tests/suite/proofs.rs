//! Headers and state, checked here and not believed.

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use ashlar_chain::light::{self, LightError};
use ashlar_chain::{Call, EndpointLimits, Endpoints};

use super::node::Node;
use super::{POLL, counter, endpoints, intent, sender};

pub(crate) async fn state_is_proven_and_changes_are_seen(node: Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let sender = sender(&node, folder.path()).await;
    let deployed = counter(&sender).await;
    let contract = deployed.address;
    for round in 0..3 {
        let id = intent(&format!("count {round}"));
        sender.send(id, &Call::to(contract, Bytes::new())).await.expect("it is sent");
        sender.wait(id, 0, POLL).await.expect("it is included");
    }
    let endpoints = endpoints(&node).await;
    let header = light::header(&endpoints, BlockId::latest()).await.expect("a header");
    let same = light::header(&endpoints, header.hash().into()).await.expect("a header by hash");
    assert_eq!(header, same);
    let parent = light::header(&endpoints, header.parent_hash().into()).await.expect("its parent");
    assert_eq!(parent.number() + 1, header.number());
    let nothing = light::header(&endpoints, B256::repeat_byte(3).into()).await;
    assert!(matches!(nothing, Err(LightError::NoBlock(_))), "{nothing:?}");

    let slots = [B256::ZERO, B256::repeat_byte(5)];
    let account = light::account(&endpoints, &header, contract, &slots).await.expect("it is proven");
    assert_eq!(account.slots, [U256::from(3), U256::ZERO]);
    assert_eq!(account.account.code_hash, deployed.code_hash);
    let code = light::code(&endpoints, &header, &account).await.expect("it is its code");
    assert_eq!(keccak256(&code), deployed.code_hash);
    let absent = light::account(&endpoints, &header, Address::repeat_byte(0xab), &[B256::ZERO]).await;
    let absent = absent.expect("that there is none is proven");
    assert!(absent.account.balance.is_zero() && absent.slots == [U256::ZERO]);
    // An earlier header has earlier state.
    let earlier = light::account(&endpoints, &parent, contract, &slots).await.expect("it is proven");
    assert_eq!(earlier.slots, [U256::from(2), U256::ZERO]);

    let block = BlockId::from(header.number());
    let good = endpoints.any(|endpoint| endpoint.proof(contract, &slots, block)).await.expect("a proof");
    let check = |proof: &_| light::check_account(header.state_root(), contract, &slots, proof);
    assert_eq!(check(&good).expect("it holds"), account);
    let mut bad = Vec::new();
    let mut with = |change: &dyn Fn(&mut alloy_rpc_types_eth::EIP1186AccountProofResponse)| {
        let mut changed = good.clone();
        change(&mut changed);
        bad.push(changed);
    };
    with(&|proof| proof.balance += U256::ONE);
    with(&|proof| proof.nonce += 1);
    with(&|proof| proof.code_hash = B256::repeat_byte(1));
    with(&|proof| proof.storage_hash = B256::repeat_byte(1));
    with(&|proof| proof.address = Address::ZERO);
    with(&|proof| proof.storage_proof[0].value = U256::from(4));
    with(&|proof| proof.storage_proof[1].value = U256::ONE);
    with(&|proof| proof.storage_proof.swap(0, 1));
    with(&|proof| proof.storage_proof.truncate(1));
    with(&|proof| proof.storage_proof[0].proof.clear());
    with(&|proof| proof.account_proof.clear());
    with(&|proof| proof.account_proof.truncate(1));
    with(&|proof| proof.account_proof.push(proof.account_proof[0].clone()));
    with(&|proof| proof.account_proof = vec![Bytes::from(vec![0; 2000]); 2]);
    with(&|proof| proof.account_proof = vec![Bytes::new(); 100]);
    with(&|proof| {
        // The account is told to be absent with the proof that it is there.
        proof.balance = U256::ZERO;
        proof.nonce = 0;
        proof.code_hash = B256::ZERO;
        proof.storage_hash = B256::ZERO;
    });
    for (index, proof) in bad.iter().enumerate() {
        assert!(matches!(check(proof), Err(LightError::Proof { .. })), "change {index} passes");
    }
    for at in 0..good.account_proof.iter().map(|node| node.len()).sum() {
        let mut changed = good.clone();
        let mut rest = at;
        for node in &mut changed.account_proof {
            if rest < node.len() {
                let mut bytes = node.to_vec();
                bytes[rest] ^= 1;
                *node = bytes.into();
                break;
            }
            rest -= node.len();
        }
        assert!(check(&changed).is_err(), "byte {at} of the proof does not count");
    }
    let other_root = light::check_account(parent.state_root(), contract, &slots, &good);
    assert!(other_root.is_err());
}

pub(crate) async fn several_endpoints_must_agree(node: Node, other: Node) {
    let itself = [node.url(), node.url()];
    let itself = Endpoints::connect(&itself, node.chain_id(), EndpointLimits::default()).await;
    assert!(matches!(itself, Err(ashlar_chain::AskError::Twice { .. })), "{itself:?}");
    // By two names it stands for two that agree.
    let names = [node.url(), node.url().replace("127.0.0.1", "localhost")];
    let twice = Endpoints::connect(&names, node.chain_id(), EndpointLimits::default()).await;
    let twice = twice.expect("they answer");
    node.mine().await;
    other.mine().await;
    let header = light::agreed_header(&twice, 1, 2).await.expect("they agree");
    assert_eq!(header.number(), 1);
    assert!(matches!(light::agreed_header(&twice, 99, 2).await, Err(LightError::NoBlock(_))));
    let alone = light::agreed_header(&twice, 1, 3).await;
    assert!(
        matches!(alone, Err(LightError::Ask(ashlar_chain::AskError::TooFew { found: 2, .. }))),
        "{alone:?}"
    );
    let both =
        Endpoints::connect(&[node.url(), other.url()], node.chain_id(), EndpointLimits::default()).await;
    let both = both.expect("they answer");
    let disagree = light::agreed_header(&both, 0, 2).await;
    assert!(
        matches!(disagree, Err(LightError::Ask(ashlar_chain::AskError::Disagree { .. }))),
        "{disagree:?}"
    );
    let elsewhere = Endpoints::connect(&[node.url()], 1, EndpointLimits::default()).await;
    assert!(matches!(elsewhere, Err(ashlar_chain::AskError::OtherChain { wanted: 1, .. })));
    // One that is gone is passed over.
    let gone = "http://127.0.0.1:9".to_owned();
    let connected = Endpoints::connect(&[gone, node.url()], node.chain_id(), EndpointLimits::default()).await;
    let connected = connected.expect("one answers");
    assert_eq!(connected.any(|endpoint| endpoint.block_number()).await.expect("one answers"), 1);
}
