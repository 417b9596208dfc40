//! Credentials where AWS's own tools keep them: variables, then a profile of the shared files.
//!
//! Invariant: the same pair is found as by awscli for `AWS_ACCESS_KEY_ID`, `AWS_PROFILE`,
//! `AWS_SHARED_CREDENTIALS_FILE` and `AWS_CONFIG_FILE`. Roles, SSO and processes are not followed.

use std::path::PathBuf;

use anyhow::{Context, bail};
use zeroize::Zeroizing;

/// A pair of keys and who told us.
pub(super) struct AwsCredentials {
    pub(super) access_key: String,
    pub(super) secret_key: Zeroizing<String>,
    pub(super) source: String,
}

impl AwsCredentials {
    /// Looks in the environment unless a profile is named, then in the shared files.
    pub(super) fn find(profile: Option<&str>) -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        if profile.is_none()
            && let (Some(access_key), Some(secret)) =
                (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
        {
            let source = "from AWS_ACCESS_KEY_ID".to_owned();
            return Ok(Self { access_key, secret_key: Zeroizing::new(secret), source });
        }
        let named = profile.map(str::to_owned).or_else(|| variable("AWS_PROFILE"));
        let name = named.clone().unwrap_or_else(|| "default".to_owned());
        let home = |file: &str| variable("HOME").map(|home| PathBuf::from(home).join(".aws").join(file));
        let places = [
            (
                variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or_else(|| home("credentials")),
                name.clone(),
            ),
            (
                variable("AWS_CONFIG_FILE").map(PathBuf::from).or_else(|| home("config")),
                if name == "default" { name.clone() } else { format!("profile {name}") },
            ),
        ];
        for (path, section) in &places {
            let Some(path) = path else { continue };
            let text = match std::fs::read_to_string(path) {
                Ok(text) => Zeroizing::new(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("{} cannot be read", path.display()));
                }
            };
            if let Some((access_key, secret_key)) = pair(&text, section) {
                let source = format!("from profile {name} of {}", path.display());
                return Ok(Self { access_key, secret_key, source });
            }
        }
        match named {
            Some(name) => {
                bail!("there is no profile '{name}' with keys in ~/.aws/credentials or ~/.aws/config")
            }
            None => bail!(
                "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or make a profile in \
                 ~/.aws/credentials; for root on the server's machine set \
                 AWS_SHARED_CREDENTIALS_FILE=<data-dir>/root-credentials"
            ),
        }
    }
}

/// The two keys of a section, where it has both.
fn pair(text: &str, section: &str) -> Option<(String, Zeroizing<String>)> {
    let (mut inside, mut access, mut secret) = (false, None, None);
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name)
        {
            inside = name.split_whitespace().eq(section.split_whitespace());
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| inside) else { continue };
        let value = value.trim().to_owned();
        match key.trim().to_ascii_lowercase().as_str() {
            "aws_access_key_id" => access = Some(value),
            "aws_secret_access_key" => secret = Some(Zeroizing::new(value)),
            _ => {}
        }
    }
    Some((access?, secret?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# keys\n[default]\naws_access_key_id = A\naws_secret_access_key=s/+=\n\n[half]\n\
                        aws_access_key_id = B\n[profile  work]\n; note\nAWS_ACCESS_KEY_ID=C\naws_secret_access_key = t\n";

    #[test]
    fn sections_are_kept_apart() {
        let of = |section| pair(FILE, section).map(|(access, secret)| (access, secret.to_string()));
        assert_eq!(of("default"), Some(("A".to_owned(), "s/+=".to_owned())));
        assert_eq!(of("profile work"), Some(("C".to_owned(), "t".to_owned())));
        assert_eq!(of("half"), None);
        assert_eq!(of("absent"), None);
    }
}
