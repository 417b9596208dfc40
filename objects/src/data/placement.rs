//! Where shards belong: groups, their stored slots, and the rendezvous that fills a slot.
//!
//! A chunk's group is the top bits of BLAKE3 of its id; the group's slots stand in the cluster map. Rendezvous
//! hashing with bounded load only picks what a slot lacks, so a change of the map moves what it must and
//! nothing else. Pure: the same inputs give the same map everywhere. Knows no health and no rows.

use std::collections::BTreeMap;

use ashlar_chunker::ChunkId;
use ashlar_metadata::namespace::cluster::{ClusterRow, NodeRow, NodeState};

/// Placement groups of a new map.
pub(crate) const GROUPS: usize = 256;

/// The group of a chunk in a map of `groups`.
pub(crate) fn group_of(chunk: ChunkId, groups: usize) -> usize {
    let hash = blake3::hash(&chunk.encode());
    let [a, b, c, d, ..] = *hash.as_bytes();
    let top = u64::from(u32::from_be_bytes([a, b, c, d]));
    let groups = u64::try_from(groups).expect("usize fits u64");
    usize::try_from((top * groups) >> 32).expect("less than the number of groups")
}

/// How much `node` wants to hold something named `what`: of several nodes the highest wins.
pub(crate) fn affinity(what: &[u8], node: u16) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(what);
    hasher.update(&node.to_be_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The map for these nodes: `previous` itself where nothing changed (`None`), or its successor.
pub(crate) fn next_map(
    previous: Option<&ClusterRow>,
    present: &BTreeMap<u16, String>,
    k: u8,
    m: u8,
) -> Option<ClusterRow> {
    let nodes = next_nodes(previous, present);
    if let Some(previous) = previous
        && previous.nodes == nodes
        && (previous.k, previous.m) == (k, m)
    {
        return None;
    }
    let slots = present.len().min(usize::from(k) + usize::from(m));
    let mut groups = match previous {
        Some(previous) => previous.groups.clone(),
        None => vec![Vec::new(); GROUPS],
    };
    fill_groups(&mut groups, present, slots);
    let epoch = previous.map_or(1, |previous| previous.epoch + 1);
    Some(ClusterRow { epoch, k, m, nodes, groups })
}

/// Every node ever: present ones are active, absent ones are read if they come back and get nothing new.
fn next_nodes(previous: Option<&ClusterRow>, present: &BTreeMap<u16, String>) -> Vec<NodeRow> {
    let mut nodes: BTreeMap<u16, NodeRow> = BTreeMap::new();
    for row in previous.map_or(&[][..], |previous| &previous.nodes) {
        let state = if row.state == NodeState::Removed { NodeState::Removed } else { NodeState::Draining };
        nodes.insert(row.node, NodeRow { state, ..row.clone() });
    }
    for (&node, domain) in present {
        nodes.insert(node, NodeRow { node, domain: domain.clone(), state: NodeState::Active });
    }
    nodes.into_values().collect()
}

/// Gives every group `slots` distinct nodes. Slots keep what they have, unless it is gone or bears too much.
fn fill_groups(groups: &mut [Vec<u16>], present: &BTreeMap<u16, String>, slots: usize) {
    let mut load: BTreeMap<u16, usize> = present.keys().map(|node| (*node, 0)).collect();
    let bound = (groups.len() * slots).div_ceil(present.len().max(1)) + 1;
    let mut lacking: Vec<Vec<Option<u16>>> = Vec::with_capacity(groups.len());
    for (group, held) in groups.iter().enumerate() {
        let mut kept: Vec<Option<u16>> = Vec::with_capacity(slots);
        for slot in 0..slots {
            let node = held.get(slot).copied().filter(|node| !kept.contains(&Some(*node)));
            kept.push(node.filter(|node| load.contains_key(node)));
        }
        // Groups come in order of their number, so which of an overloaded node's slots move is settled.
        for slot in &mut kept {
            if let Some(node) = *slot {
                let bears = load.get_mut(&node).expect("kept slots are of present nodes");
                if *bears >= bound {
                    tracing::trace!(group, node, "slot moves: the node bears its bound");
                    *slot = None;
                } else {
                    *bears += 1;
                }
            }
        }
        lacking.push(kept);
    }
    for (group, mut slots) in lacking.into_iter().enumerate() {
        for slot in 0..slots.len() {
            if slots[slot].is_some() {
                continue;
            }
            let name = [&group.to_be_bytes()[..], &slot.to_be_bytes()[..]].concat();
            let node = pick(&name, &slots, present, |node| load[&node] >= bound)
                .or_else(|| pick(&name, &slots, present, |_| false))
                .expect("there are at least as many nodes as slots");
            *load.get_mut(&node).expect("picked from the present ones") += 1;
            slots[slot] = Some(node);
        }
        groups[group] = slots.into_iter().flatten().collect();
    }
}

/// The best node that is not in `taken`: in the failure domain used least, then by affinity.
fn pick(
    name: &[u8],
    taken: &[Option<u16>],
    present: &BTreeMap<u16, String>,
    is_full: impl Fn(u16) -> bool,
) -> Option<u16> {
    let uses =
        |domain: &String| taken.iter().flatten().filter(|node| present.get(node) == Some(domain)).count();
    present
        .iter()
        .filter(|(node, _)| !taken.contains(&Some(**node)) && !is_full(**node))
        .min_by_key(|(node, domain)| (uses(domain), std::cmp::Reverse(affinity(name, **node))))
        .map(|(node, _)| *node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_chunker::{BlobId, SessionId};

    fn nodes(count: u16, domains: u16) -> BTreeMap<u16, String> {
        (1..=count).map(|node| (node, format!("d{}", node % domains))).collect()
    }

    fn loads(map: &ClusterRow) -> Vec<usize> {
        let mut loads: BTreeMap<u16, usize> = BTreeMap::new();
        map.groups.iter().flatten().for_each(|node| *loads.entry(*node).or_default() += 1);
        loads.into_values().collect()
    }

    #[test]
    fn slots_are_distinct_balanced_and_spread_over_domains() {
        for (count, domains) in [(6, 6), (9, 3), (7, 7), (12, 4), (20, 20)] {
            let map = next_map(None, &nodes(count, domains), 4, 2).unwrap();
            assert_eq!((map.epoch, map.groups.len()), (1, GROUPS));
            for group in &map.groups {
                let mut sorted = group.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), 6);
                for domain in 0..domains {
                    let held = group.iter().filter(|node| **node % domains == domain).count();
                    assert!(held <= 6_usize.div_ceil(usize::from(domains)) + 1, "{group:?}");
                }
            }
            let loads = loads(&map);
            let bound = (GROUPS * 6).div_ceil(usize::from(count)) + 1;
            assert!(
                loads.iter().all(|load| *load <= bound + bound / 32),
                "{count} nodes: {loads:?}, bound {bound}"
            );
        }
    }

    #[test]
    fn the_same_nodes_leave_the_map_alone() {
        let map = next_map(None, &nodes(6, 6), 4, 2).unwrap();
        assert_eq!(next_map(Some(&map), &nodes(6, 6), 4, 2), None);
        assert_eq!(next_map(Some(&map), &nodes(6, 6), 3, 2).unwrap().epoch, 2);
    }

    #[test]
    fn a_lost_node_moves_its_own_slots_only() {
        let before = next_map(None, &nodes(9, 9), 4, 2).unwrap();
        let mut left = nodes(9, 9);
        left.remove(&4);
        let after = next_map(Some(&before), &left, 4, 2).unwrap();
        let mut moved = 0;
        for (before, after) in before.groups.iter().zip(&after.groups) {
            for (before, after) in before.iter().zip(after) {
                assert!(*after != 4);
                moved += usize::from(before != after && *before != 4);
            }
        }
        assert!(moved <= 16, "{moved} slots of other nodes moved");
        assert_eq!(after.nodes.iter().find(|row| row.node == 4).unwrap().state, NodeState::Draining);
        let back = next_map(Some(&after), &nodes(9, 9), 4, 2).unwrap();
        assert_eq!(back.nodes.iter().find(|row| row.node == 4).unwrap().state, NodeState::Active);
        assert!(loads(&back).iter().all(|load| *load > 0));
    }

    #[test]
    fn few_nodes_give_short_groups() {
        let map = next_map(None, &nodes(4, 4), 4, 2).unwrap();
        assert!(map.groups.iter().all(|group| group.len() == 4));
        let grown = next_map(Some(&map), &nodes(6, 6), 4, 2).unwrap();
        assert!(grown.groups.iter().all(|group| group.len() == 6));
    }

    #[test]
    fn chunks_spread_over_groups() {
        let mut hits = vec![0_u32; GROUPS];
        for counter in 0..GROUPS as u64 * 100 {
            hits[group_of(BlobId { session: SessionId(7), counter }.chunk(0), GROUPS)] += 1;
        }
        assert!(hits.iter().all(|hits| (40..180).contains(hits)), "{hits:?}");
    }
}
