//! What `ashlar up` prints when it is up: where everything is, credentials, and a first command to try.
//!
//! Invariant: a secret key is printed only in the life of the process that made it. The lines `S3` and
//! `API` keep their form: scripts read them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ashlar_objects::users::RootCredentials;

use crate::configuration::Configuration;
use crate::data_directory::{Layout, RootOrigin, root_credentials_path};

/// The facts.
pub(super) struct Announcement<'a> {
    pub(super) s3: SocketAddr,
    pub(super) api: SocketAddr,
    pub(super) pg: SocketAddr,
    pub(super) flight: SocketAddr,
    /// Where the chain answers, if what is committed is published.
    pub(super) chain: Option<String>,
    pub(super) tree: &'a Configuration,
    pub(super) layout: &'a Layout,
    pub(super) root: &'a RootCredentials,
    pub(super) root_origin: RootOrigin,
    pub(super) took: Duration,
}

impl fmt::Display for Announcement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { s3, api, pg, flight, chain, tree, layout, root, root_origin, took } = self;
        let access_key = &root.identity.access_key;
        let data_dir = std::path::absolute(&tree.data_dir).unwrap_or_else(|_| tree.data_dir.clone());
        writeln!(f, "Ashlar {} is up after {:.1} s", env!("CARGO_PKG_VERSION"), took.as_secs_f64())?;
        writeln!(f)?;
        writeln!(f, "  S3    http://{s3}")?;
        writeln!(f, "  API   http://{api}")?;
        writeln!(f, "  SQL   postgresql://{access_key}@{pg}/ashlar")?;
        writeln!(f, "        grpc://{flight} (Arrow Flight SQL)")?;
        if let Some(chain) = chain {
            writeln!(f, "  chain {chain}")?;
        }
        writeln!(f, "  data  {}", data_dir.display())?;
        writeln!(f, "  nodes {}, coding {}", tree.nodes, tree.coding)?;
        writeln!(f)?;
        let file = root_credentials_path(&data_dir).display().to_string();
        let region = self.region();
        let environment = if root.changed && *root_origin == RootOrigin::Metadata {
            let secret_key = root.secret.expose();
            writeln!(f, "Root credentials, made now and shown this once ({file} keeps them):\n")?;
            writeln!(f, "  access key  {access_key}\n  secret key  {secret_key}\n")?;
            format!("AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key}")
        } else {
            writeln!(f, "Root's access key is {access_key}; {file} keeps its secret.")?;
            format!("AWS_SHARED_CREDENTIALS_FILE={}", quoted(&file))
        };
        writeln!(
            f,
            "Try:\n\n  export {environment} AWS_DEFAULT_REGION={region}\n  aws --endpoint-url http://{s3} s3 mb s3://first\n"
        )?;
        writeln!(f, "{}", self.what_may_be_lost(layout))
    }
}

impl Announcement<'_> {
    fn region(&self) -> &str {
        if self.tree.s3.region.is_empty() { "us-east-1" } else { &self.tree.s3.region }
    }

    fn what_may_be_lost(&self, layout: &Layout) -> String {
        let m = self.tree.coding.m;
        let nodes = match m {
            0 => "no node's files may be lost".to_owned(),
            1 => "any node's files may be lost".to_owned(),
            m => format!("any {m} nodes' files may be lost"),
        };
        let [root] = layout.roots.as_slice() else {
            let together = if layout.shares_file_systems() {
                "; but some of the disks named are one file system and fail together"
            } else {
                ""
            };
            let disks = layout.roots.len();
            let each = usize::from(self.tree.nodes).div_ceil(disks);
            let whole = usize::from(m) / each;
            return match whole {
                0 => format!(
                    "Nodes lie on {disks} disks: {nodes}, but a disk with {each} of them is more{together}."
                ),
                1 => format!(
                    "Nodes lie on {disks} disks: any one disk may be lost, and so may metadata/{together}."
                ),
                _ => format!(
                    "Nodes lie on {disks} disks: any {whole} disks may be lost, and so may metadata/{together}."
                ),
            };
        };
        format!(
            "All nodes lie under {}: {nodes}, but losing this disk or metadata/ loses everything. Repeat --disk to spread them.",
            root.display()
        )
    }
}

/// A path as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@%:,".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
