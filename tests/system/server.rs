//! One `ashlar up` under test: started on free ports, watched, and ended by its own pid.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crate::sigv4::{self, Answer, Keys};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder for one test.
pub(crate) struct Stand {
    folder: tempfile::TempDir,
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) s3: String,
    pub(crate) api: String,
    chain: Option<String>,
    pub(crate) root: Keys,
    log: PathBuf,
}

impl Stand {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// `ashlar up` on this folder, without anything of the caller's environment that it would read.
    pub(crate) fn up(&self, arguments: &[&str]) -> Command {
        let mut command = ashlar();
        command.arg("up").arg("--data-dir").arg(self.data());
        command.args(arguments);
        command.env("ASHLAR_S3_LISTEN", "127.0.0.1:0").env("ASHLAR_API_LISTEN", "127.0.0.1:0");
        command.env("ASHLAR_CHAIN_LISTEN", "127.0.0.1:0");
        command.env("ASHLAR_PG_LISTEN", "127.0.0.1:0").env("ASHLAR_FLIGHT_LISTEN", "127.0.0.1:0");
        // Small files, so that many servers start at once on a small disk.
        command.env("ASHLAR_STORAGE_LOG", "1MiB").env("ASHLAR_STORAGE_SEGMENT", "8MiB");
        command.env("ASHLAR_METADATA_SEGMENT", "1MiB");
        command.env("ASHLAR_BACKGROUND_SWEEP_INTERVAL", "1s").env("ASHLAR_BACKGROUND_GC_INTERVAL", "1s");
        command
    }

    /// Starts a server and waits until it takes writes.
    pub(crate) fn start(&self, arguments: &[&str]) -> Server {
        self.start_command(self.up(arguments))
    }

    pub(crate) fn start_command(&self, mut command: Command) -> Server {
        let number = std::fs::read_dir(self.folder.path()).unwrap().count();
        let (out, log) = (self.path(&format!("out-{number}")), self.path(&format!("log-{number}")));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let started = Instant::now();
        let said = |name: &str| {
            let text = std::fs::read_to_string(&out).unwrap();
            let line = text
                .lines()
                .find_map(|line| line.trim().strip_prefix(name).map(str::trim).map(str::to_owned))?;
            text.contains("Nodes lie on").then_some(()).or(text.contains("All nodes lie").then_some(()))?;
            line.strip_prefix("http://").map(str::to_owned)
        };
        let (s3, api) = loop {
            if let (Some(s3), Some(api)) = (said("S3 "), said("API ")) {
                break (s3, api);
            }
            let ended = child.try_wait().unwrap();
            let log = std::fs::read_to_string(&log).unwrap();
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "not up: {ended:?}\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        };
        let (root, chain) = (self.kept_root(), said("chain "));
        let server = Server { child, s3, api, chain, root, log };
        server.wait_for("readiness", || server.get("/readyz").status == 200);
        server
    }

    /// Root's keys as the data directory keeps them.
    fn kept_root(&self) -> Keys {
        let text = std::fs::read_to_string(self.data().join("root-credentials")).unwrap();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches([' ', '=']).to_owned()
        };
        Keys { access: value("aws_access_key_id"), secret: value("aws_secret_access_key") }
    }
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its chain answers.
    pub(crate) fn chain(&self) -> &str {
        self.chain.as_deref().expect("it publishes")
    }

    /// A request to S3 as root.
    pub(crate) fn s3(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.s3_as(Some(&self.root), method, path, body)
    }

    pub(crate) fn s3_as(&self, keys: Option<&Keys>, method: &str, path: &str, body: &[u8]) -> Answer {
        sigv4::call(&self.s3, keys, method, path, body)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    pub(crate) fn put(&self, path: &str, body: &[u8]) {
        let answer = self.s3("PUT", path, body);
        assert_eq!(answer.status, 200, "PUT {path}: {}\n{}", answer.text(), self.log());
    }

    pub(crate) fn get_object(&self, path: &str) -> Vec<u8> {
        let answer = self.s3("GET", path, b"");
        assert_eq!(answer.status, 200, "GET {path}: {}\n{}", answer.text(), self.log());
        answer.body
    }

    /// `GET` from the API's listener without credentials.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.api("GET", path, "", "")
    }

    /// A request to the API with header lines of the caller's, each ending in CRLF.
    pub(crate) fn api(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let (host, length) = (&self.api, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}"
        );
        sigv4::exchange(host, &head, body.as_bytes()).unwrap()
    }

    /// Another `ashlar` command against this server.
    pub(crate) fn command(&self, keys: &Keys, arguments: &[&str]) -> Output {
        let mut command = ashlar();
        command.args(arguments).env("ASHLAR_ENDPOINT", format!("http://{}", self.api));
        command.env("AWS_ACCESS_KEY_ID", &keys.access).env("AWS_SECRET_ACCESS_KEY", &keys.secret);
        command.output().unwrap()
    }

    /// A gauge or counter without labels.
    pub(crate) fn figure(&self, name: &str) -> f64 {
        let page = self.get("/metrics").text();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("/metrics has no {name}")).parse().unwrap()
    }

    /// Waits until `holds` does.
    pub(crate) fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until every shard is known to be in its place.
    pub(crate) fn wait_redundant(&self) {
        self.wait_for("redundancy", || {
            self.figure("ashlar_redundancy_full") == 1.0 && self.figure("ashlar_repair_queue") == 0.0
        });
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, and its exit status.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// SIGKILL; when this returns the process is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed leaves its server running; one that is over has waited for it already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The binary, with a clean environment.
pub(crate) fn ashlar() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar"));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("ASHLAR_") || name_text.starts_with("AWS_") {
            command.env_remove(&name);
        }
    }
    command.env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// Standard error of a command that must fail with status 1.
pub(crate) fn refusal(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

/// `length` bytes that repeat nowhere near, the same for the same seed.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Removes everything in a folder and the folder.
pub(crate) fn remove(path: &Path) {
    std::fs::remove_dir_all(path).unwrap();
}
