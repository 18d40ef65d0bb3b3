//! The kubeconfig file.

use std::{fs, io, io::Write, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Identity, open_private};

/// What a client needs to reach one cluster as one user.
///
/// Source: Kubernetes' `v1.Config` (client-go `tools/clientcmd/api/v1`).
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    pub(super) cluster: String,
    pub(super) server: String,
    pub(super) namespace: Option<String>,
    pub(super) user: String,
    pub(super) ca_certificate: String,
    pub(super) identity: Identity,
}

impl Kubeconfig {
    /// The file's text. It is JSON, which every reader of the YAML format takes.
    pub fn text(&self) -> String {
        let mut context = json!({"cluster": self.cluster, "user": self.user});
        if let Some(namespace) = &self.namespace {
            context["namespace"] = json!(namespace);
        }
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.cluster,
            "clusters": [{"name": self.cluster, "cluster": {
                "server": self.server,
                "certificate-authority-data": STANDARD.encode(&self.ca_certificate),
            }}],
            "users": [{"name": self.user, "user": {
                "client-certificate-data": STANDARD.encode(&self.identity.certificate),
                "client-key-data": STANDARD.encode(&self.identity.key),
            }}],
            "contexts": [{"name": self.cluster, "context": context}],
        });
        format!("{config:#}\n")
    }

    /// Writes the file with mode 0600, in one step: a reader sees the old text or the new one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, self.text().as_bytes())
    }
}

/// Writes a file that only this user can read, in one step.
///
/// # Errors
/// When the file, or the temporary one beside it, cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = match open_private(&temporary) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary).and_then(|()| open_private(&temporary))
        }
        other => other,
    }
    .and_then(|mut file| file.write_all(bytes))
    .and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}
