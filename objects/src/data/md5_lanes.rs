//! MD5 of many bodies at once.
//!
//! MD5 is a chain: one body cannot use a CPU's vectors, but eight bodies take little longer than one. Rows
//! that wait for their MD5 at the same time are hashed side by side. A row never waits for others to come;
//! it only lets rows that wait to be coded go first while there are free lanes, because their MD5 is due next.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use md5_many::{Md5Many, Md5State};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::cpu::CpuPool;
use crate::error::Error;

/// Most rows hashed side by side.
const LANES_MAX: usize = 16;
/// How often a batch that is not full lets coding go first.
const TURNS_MAX: usize = 8;

/// One row and the state of its body's MD5 before it.
struct Row {
    state: Md5State,
    bytes: Bytes,
    done: oneshot::Sender<Md5State>,
}

#[derive(Default)]
struct Queue {
    rows: VecDeque<Row>,
    /// Somebody takes rows until there are none.
    served: bool,
}

/// The lanes of a data path. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Md5Lanes {
    queue: Arc<Mutex<Queue>>,
    cpu: CpuPool,
    tasks: TaskTracker,
}

/// Whoever serves the queue. After a panic rows that wait are given up, which whoever waits is told, and the
/// next that comes finds the office free.
struct Serving {
    queue: Arc<Mutex<Queue>>,
    given_up: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.given_up {
            let mut queue = self.queue.lock();
            queue.served = false;
            queue.rows.clear();
        }
    }
}

impl Md5Lanes {
    /// `tasks` is the group of its task.
    pub(crate) fn new(cpu: CpuPool, tasks: TaskTracker) -> Self {
        Self { queue: Arc::default(), cpu, tasks }
    }

    /// The state after `bytes`.
    pub(crate) async fn update(&self, state: Md5State, bytes: Bytes) -> Result<Md5State, Error> {
        let (done, updated) = oneshot::channel();
        let serves = {
            let mut queue = self.queue.lock();
            queue.rows.push_back(Row { state, bytes, done });
            !std::mem::replace(&mut queue.served, true)
        };
        if serves {
            // A task of its own: who waits here may be dropped, and others wait too.
            self.tasks.spawn(self.clone().serve(Serving { queue: Arc::clone(&self.queue), given_up: false }));
        }
        updated.await.map_err(|e| Error::internal("computing an MD5", e))
    }

    async fn serve(self, mut serving: Serving) {
        loop {
            for _ in 0..TURNS_MAX {
                if self.cpu.waiting() == 0 || self.queue.lock().rows.len() >= LANES_MAX {
                    break;
                }
                self.cpu.turn().await;
            }
            let rows: Vec<Row> = {
                let mut queue = self.queue.lock();
                let count = queue.rows.len().min(LANES_MAX);
                if count == 0 {
                    // Said under the same lock: the next row finds nobody and serves itself.
                    queue.served = false;
                    serving.given_up = true;
                    return;
                }
                queue.rows.drain(..count).collect()
            };
            let hashed = self.cpu.run(move || {
                for row in hash(rows) {
                    // Whoever asked may be gone.
                    let _told = row.done.send(row.state);
                }
            });
            if hashed.await.is_err() {
                return;
            }
        }
    }
}

/// Lanes that cost no more than one, by what this CPU has.
fn lanes() -> usize {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return 8;
    }
    4
}

/// Updates all states: side by side as far as the shortest row goes, then on with those that are longer.
fn hash(mut rows: Vec<Row>) -> Vec<Row> {
    let engine = Md5Many::new();
    let mut hashed = Vec::with_capacity(rows.len());
    while rows.len() > 1 {
        let common = rows.iter().map(|row| row.bytes.len()).min().unwrap_or(0) / 64 * 64;
        let mut states: Vec<Md5State> = rows.iter().map(|row| row.state).collect();
        let mut inputs: Vec<&[u8]> = rows.iter().map(|row| &row.bytes[..common]).collect();
        // Empty lanes do the first row's work again: a full set of lanes is faster than part of one.
        let full = rows.len().next_multiple_of(lanes());
        states.resize(full, states[0]);
        inputs.resize(full, inputs[0]);
        engine.update_many(&mut states, &inputs);
        for (row, state) in rows.iter_mut().zip(states) {
            row.state = state;
            row.bytes = row.bytes.slice(common..);
        }
        // What is left of a row is less than a block, or longer than what was common.
        let (ended, longer): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.bytes.len() < 64);
        hashed.extend(ended);
        rows = longer;
    }
    hashed.extend(rows);
    for row in &mut hashed {
        row.state.update(&std::mem::take(&mut row.bytes));
    }
    hashed
}

#[cfg(test)]
mod tests {
    use md5::Digest;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    #[tokio::test]
    async fn every_body_gets_its_own_md5() {
        let seed = rand::rng().random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let lanes = Md5Lanes::new(CpuPool::new(2), TaskTracker::new());
        let bodies: Vec<Vec<Bytes>> = (0..40)
            .map(|_| {
                let rows = random.random_range(0..6);
                let row = |random: &mut StdRng| {
                    let length = *[0, 1, 63, 64, 65, 4096, 100_000, 262_144]
                        .get(random.random_range(0..8_usize))
                        .expect("one of eight");
                    let mut bytes = vec![0; length];
                    random.fill(&mut bytes[..]);
                    Bytes::from(bytes)
                };
                (0..rows).map(|_| row(&mut random)).collect()
            })
            .collect();
        let hashed = bodies.iter().map(async |rows| {
            let mut state = Md5State::new();
            for row in rows {
                state = lanes.update(state, row.clone()).await.unwrap();
            }
            state.finalize()
        });
        let hashed = futures::future::join_all(hashed).await;
        for (rows, found) in bodies.iter().zip(hashed) {
            let expected: [u8; 16] = md5::Md5::digest(rows.concat()).into();
            assert_eq!(
                found,
                expected,
                "seed {seed}, rows {:?}",
                rows.iter().map(Bytes::len).collect::<Vec<_>>()
            );
        }
        // Nobody goes on serving an empty queue.
        while lanes.queue.lock().served {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_one_who_died_serving() {
        let lanes = Md5Lanes::new(CpuPool::new(1), TaskTracker::new());
        let serving = Serving { queue: Arc::clone(&lanes.queue), given_up: false };
        lanes.queue.lock().served = true;
        let mut waits = Box::pin(lanes.update(Md5State::new(), Bytes::from_static(b"stone")));
        assert!(futures::poll!(&mut waits).is_pending());
        drop(serving);
        assert!(waits.await.is_err());
        let next = lanes.update(Md5State::new(), Bytes::from_static(b"stone")).await.unwrap();
        let expected: [u8; 16] = md5::Md5::digest(b"stone").into();
        assert_eq!(next.finalize(), expected);
    }

    #[tokio::test]
    async fn who_leaves_takes_nobody_along() {
        let lanes = Md5Lanes::new(CpuPool::new(1), TaskTracker::new());
        let bytes = Bytes::from(vec![7; 262_144]);
        let mut leaves = Box::pin(lanes.update(Md5State::new(), bytes.clone()));
        assert!(futures::poll!(&mut leaves).is_pending());
        let stays = lanes.update(Md5State::new(), bytes.clone());
        drop(leaves);
        let expected: [u8; 16] = md5::Md5::digest(&bytes).into();
        assert_eq!(stays.await.unwrap().finalize(), expected);
    }
}
