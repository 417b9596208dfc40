//! Several sessions do at random what sessions do; a model says what must have come of it.
//!
//! Statements of different sessions take turns, so that the model is exact: which COMMIT fails, and what every table
//! holds after each step. Futures are dropped at random moments; their statement is done as a whole or not at all.
//! `ASHLAR_SEED` repeats a run, `ASHLAR_SQL_STEPS` makes it longer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Bench;
use super::bench::rows;
use crate::Session;
use crate::session::TransactionState;

const NAMES: [&str; 3] = ["a", "b", "c"];
const SESSIONS: usize = 3;
const STEPS: usize = 150;

#[derive(Clone, Debug, PartialEq)]
struct Table {
    id: u64,
    /// Under which name it was made.
    folder: String,
    rows: BTreeSet<i64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    tables: BTreeMap<String, Table>,
    /// By folder: written anew with each change of rows.
    generations: BTreeMap<String, u64>,
}

impl State {
    /// The folder of a new table: that of its name, unless a table that was renamed still has it.
    fn free_folder(&self, name: &str, id: u64) -> String {
        if self.generations.contains_key(name) { format!("{name}-{id}") } else { name.to_owned() }
    }
}

#[derive(Clone, Debug)]
enum Change {
    /// A name, an id, a row, and the folder once it is chosen.
    Create(String, u64, i64, Option<String>),
    Insert(String, i64, u64),
    Overwrite(String, i64, u64),
    Drop(String),
    Rename(String, String),
}

impl Change {
    fn sql(&self) -> String {
        match self {
            Self::Create(name, _, n, _) => {
                format!("CREATE TABLE s.{name} AS SELECT CAST({n} AS BIGINT) AS n")
            }
            Self::Insert(name, n, _) => format!("INSERT INTO s.{name} SELECT {n}"),
            Self::Overwrite(name, n, _) => format!("INSERT OVERWRITE s.{name} SELECT {n}"),
            Self::Drop(name) => format!("DROP TABLE s.{name}"),
            Self::Rename(from, to) => format!("ALTER TABLE s.{from} RENAME TO {to}"),
        }
    }

    /// What the statement does to what its session sees, or its error.
    fn apply(&self, state: &mut State) -> Result<(), &'static str> {
        match self {
            Self::Create(name, id, n, chosen) => {
                if state.tables.contains_key(name) {
                    return Err("42P07");
                }
                let folder = chosen.clone().unwrap_or_else(|| state.free_folder(name, *id));
                let table = Table { id: *id, folder: folder.clone(), rows: BTreeSet::from([*n]) };
                state.generations.insert(folder, *id);
                state.tables.insert(name.clone(), table);
            }
            Self::Insert(name, n, generation) | Self::Overwrite(name, n, generation) => {
                let table = state.tables.get_mut(name).ok_or("42P01")?;
                if matches!(self, Self::Overwrite(..)) {
                    table.rows.clear();
                }
                table.rows.insert(*n);
                state.generations.insert(table.folder.clone(), *generation);
            }
            Self::Drop(name) => {
                let table = state.tables.remove(name).ok_or("42P01")?;
                state.generations.remove(&table.folder);
            }
            Self::Rename(from, to) => {
                if !state.tables.contains_key(from) {
                    return Err("42P01");
                }
                if state.tables.contains_key(to) {
                    return Err("42P07");
                }
                let table = state.tables.remove(from).ok_or("42P01")?;
                state.tables.insert(to.clone(), table);
            }
        }
        Ok(())
    }
}

/// What a transaction relies on, as its moment showed it.
#[derive(Clone, Debug)]
enum Relies {
    OnName(String),
    OnFolder(String),
}

#[derive(Clone, Debug)]
struct Open {
    base: State,
    seen: State,
    changes: Vec<Change>,
    relies: Vec<Relies>,
}

impl Open {
    fn at(state: &State) -> Self {
        Self { base: state.clone(), seen: state.clone(), changes: Vec::new(), relies: Vec::new() }
    }

    fn change(&mut self, change: &Change) -> Result<(), &'static str> {
        let change = &match change {
            Change::Create(name, id, n, None) => {
                Change::Create(name.clone(), *id, *n, Some(self.seen.free_folder(name, *id)))
            }
            other => other.clone(),
        };
        let folder = |name: &String| self.seen.tables.get(name).map(|table| table.folder.clone());
        let mut relies = match change {
            Change::Create(name, _, _, chosen) => {
                let folder = chosen.clone().map(Relies::OnFolder);
                [vec![Relies::OnName(name.clone())], folder.into_iter().collect()].concat()
            }
            Change::Insert(name, ..) => vec![Relies::OnName(name.clone())],
            Change::Overwrite(name, ..) | Change::Drop(name) => {
                [vec![Relies::OnName(name.clone())], folder(name).map(Relies::OnFolder).into_iter().collect()]
                    .concat()
            }
            Change::Rename(from, to) => vec![Relies::OnName(from.clone()), Relies::OnName(to.clone())],
        };
        change.apply(&mut self.seen)?;
        self.relies.append(&mut relies);
        self.changes.push(change.clone());
        Ok(())
    }

    /// What is there after COMMIT; `None`: somebody else changed what it relies on.
    fn commit(&self, now: &State) -> Option<State> {
        let id = |state: &State, name: &String| state.tables.get(name).map(|table| table.id);
        let unchanged = self.relies.iter().all(|relies| match relies {
            Relies::OnName(name) => id(now, name) == id(&self.base, name),
            Relies::OnFolder(folder) => now.generations.get(folder) == self.base.generations.get(folder),
        });
        let mut state = now.clone();
        if unchanged {
            for change in &self.changes {
                change.apply(&mut state).unwrap_or_else(|e| panic!("{change:?} {e} at {state:?}"));
            }
        }
        unchanged.then_some(state)
    }
}

struct Run {
    bench: Bench,
    random: StdRng,
    sessions: Vec<(Session, Option<Open>)>,
    now: State,
    next: u64,
}

/// What tables of these names hold; where they may not be there, outside of a transaction alone.
async fn contents<'a>(
    session: &mut Session,
    names: impl IntoIterator<Item = &'a str>,
) -> BTreeMap<String, BTreeSet<i64>> {
    let mut found = BTreeMap::new();
    for name in names {
        match rows(session, &format!("SELECT n FROM s.{name} ORDER BY n")).await {
            Ok(text) => {
                drop(found.insert(name.to_owned(), text.lines().map(|n| n.parse().unwrap()).collect()))
            }
            Err(error) => assert_eq!(error.state.code(), "42P01", "{error}"),
        }
    }
    found
}

fn expected(state: &State) -> BTreeMap<String, BTreeSet<i64>> {
    state.tables.iter().map(|(name, table)| (name.clone(), table.rows.clone())).collect()
}

impl Run {
    fn change(&mut self) -> Change {
        self.next += 1;
        let (n, id) = (i64::try_from(self.next).unwrap(), self.next);
        let name = |random: &mut StdRng| NAMES[random.random_range(0..NAMES.len())].to_owned();
        match self.random.random_range(0..10) {
            0..2 => Change::Create(name(&mut self.random), id, n, None),
            2..6 => Change::Insert(name(&mut self.random), n, id),
            6..8 => Change::Overwrite(name(&mut self.random), n, id),
            8 => Change::Drop(name(&mut self.random)),
            _ => Change::Rename(name(&mut self.random), name(&mut self.random)),
        }
    }

    /// Only what open transactions hold is left.
    async fn until_settled(&self) {
        let open = self.sessions.iter().flat_map(|(_, open)| open);
        let wanted = (open.clone().filter(|open| !open.changes.is_empty()).count(), open.count());
        let settled = async {
            while self.bench.store.groups_and_leases_now().await != wanted {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), settled).await;
        let found = self.bench.store.groups_and_leases_now().await;
        assert!(waited.is_ok(), "groups, leases: {found:?}, wanted {wanted:?}");
    }

    /// A statement outside of a transaction, or COMMIT, whose future was dropped: which of both is it?
    async fn settle(&mut self, done: State) {
        self.until_settled().await;
        let found = contents(&mut self.bench.session(), NAMES).await;
        if found != expected(&self.now) {
            self.now = done;
        }
    }

    async fn step(&mut self, which: usize) -> String {
        let dropped = (self.random.random_range(0..5) == 0)
            .then(|| Duration::from_micros(1 << self.random.random_range(0..14)));
        let change = self.change();
        let ends = self.random.random_range(0..4) == 0;
        let commits = self.random.random_range(0..4) != 0;
        let begins = self.random.random_range(0..3) == 0;
        let (session, open) = &mut self.sessions[which];
        let Some(mut transaction) = open.take() else {
            if begins {
                rows(session, "BEGIN").await.unwrap();
                *open = Some(Open::at(&self.now));
                return "BEGIN".to_owned();
            }
            let (sql, mut alone) = (change.sql(), Open::at(&self.now));
            let wanted = alone.change(&change);
            let told = run(session, &sql, dropped).await;
            let done = wanted.is_ok().then(|| alone.seen.clone());
            match (told, wanted) {
                (None, _) => self.settle(done.unwrap_or_else(|| self.now.clone())).await,
                (Some(told), wanted) => {
                    assert_eq!(told.map(drop).map_err(|e| e.state.code()), wanted, "{sql}");
                    self.now = done.unwrap_or_else(|| self.now.clone());
                }
            }
            return format!("{sql} (dropped: {dropped:?})");
        };
        if !ends {
            let (sql, wanted) = (change.sql(), transaction.change(&change));
            let told = run(session, &sql, dropped).await;
            if matches!((&told, wanted), (Some(Ok(_)), Ok(()))) {
                let seen = contents(session, transaction.seen.tables.keys().map(String::as_str)).await;
                assert_eq!(seen, expected(&transaction.seen), "{sql}");
                *open = Some(transaction);
                return sql;
            }
            if let Some(told) = &told {
                assert_eq!(told.as_ref().map(drop).map_err(|e| e.state.code()), wanted, "{sql}");
            }
            // Dropped while it was prepared, it left nothing behind.
            if session.transaction_state() == TransactionState::Failed {
                assert_eq!(rows(session, "COMMIT").await.unwrap(), "ROLLBACK");
            } else {
                rows(session, "ROLLBACK").await.unwrap();
            }
            self.until_settled().await;
            return format!("{sql} (failed or dropped: {dropped:?})");
        }
        if !commits {
            rows(session, "ROLLBACK").await.unwrap();
            return "ROLLBACK".to_owned();
        }
        let wanted = transaction.commit(&self.now);
        match run(session, "COMMIT", dropped).await {
            // A future that was dropped before it began has not taken the transaction's end.
            None if session.transaction_state() != TransactionState::Idle => {
                rows(session, "ROLLBACK").await.unwrap();
            }
            None => self.settle(wanted.unwrap_or_else(|| self.now.clone())).await,
            Some(told) => {
                let told = told.map(drop).map_err(|e| e.state.code());
                let relied = format!("{:?} on {:?}", transaction.changes, transaction.relies);
                assert_eq!(told, wanted.as_ref().map(|_| ()).ok_or("40001"), "{relied}");
                self.now = wanted.unwrap_or_else(|| self.now.clone());
            }
        }
        format!("COMMIT (dropped: {dropped:?})")
    }
}

/// `None`: it was dropped before its end.
async fn run(
    session: &mut Session,
    sql: &str,
    dropped: Option<Duration>,
) -> Option<Result<String, crate::SqlError>> {
    match dropped {
        None => Some(rows(session, sql).await),
        Some(after) => tokio::time::timeout(after, rows(session, sql)).await.ok(),
    }
}

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_at_random_leave_what_the_model_says() {
    let seed: u64 = from_environment("ASHLAR_SEED").unwrap_or_else(rand::random);
    println!("ASHLAR_SEED={seed}");
    let bench = Bench::new().await;
    bench.rows("CREATE SCHEMA s LOCATION 's3://data/s/'").await;
    let sessions = (0..SESSIONS).map(|_| (bench.session(), None)).collect();
    let random = StdRng::seed_from_u64(seed);
    let mut run = Run { bench, random, sessions, now: State::default(), next: 0 };
    for step in 0..from_environment("ASHLAR_SQL_STEPS").unwrap_or(STEPS) {
        let which = run.random.random_range(0..SESSIONS);
        let what = run.step(which).await;
        println!("{step}: session {which}: {what}");
        let found = contents(&mut run.bench.session(), NAMES).await;
        assert_eq!(found, expected(&run.now), "what is committed");
    }
    run.sessions.clear();
    run.bench.until_nothing_is_left().await;
}
