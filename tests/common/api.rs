//! An API server without a node, under the real, unmodified kubectl.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use ztlab::embedded::control_plane::{
    apiserver::{ApiServer, ApiServerConfig, Component, UserInfo},
    pki::Pki,
    snapshot::content::Places,
    storage::Store,
};

/// A server on a loopback port, and a home directory for kubectl's cache.
pub struct Cluster {
    pub home: TempDir,
    pub server: ApiServer,
    pub pki: Pki,
    pub runtime: Runtime,
}

impl Cluster {
    /// `None` where there is no kubectl, loudly; in CI that is a failure.
    pub fn start() -> Option<Self> {
        if Command::new("kubectl").arg("help").output().is_err() {
            assert!(std::env::var("CI").is_err(), "CI must have kubectl");
            eprintln!("SKIPPED: no kubectl on this machine");
            return None;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let home = tempfile::tempdir().unwrap();
        let pki = Pki::create().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = ApiServer::new(ApiServerConfig {
            store: Store::default(),
            token_key: pki.token_key(),
            ca_certificate: pki.ca_certificate().to_owned(),
            address: address.clone(),
            services: "10.96.0.0/16".parse().unwrap(),
            snapshots: Some(Places {
                snapshots: home.path().join("snapshots"),
                volumes: home.path().join("volumes"),
                node: Vec::new(),
            }),
        });
        let tls = pki.server_config(&[]).unwrap();
        let serving = server.clone();
        runtime.spawn(async move { serving.serve(listener, tls).await });
        let kubeconfig = pki.kubeconfig("test", &format!("https://{address}"), None);
        kubeconfig.write(&home.path().join("kubeconfig")).unwrap();
        Some(Self {
            home,
            server,
            pki,
            runtime,
        })
    }

    /// The flag by which kubectl asks with other credentials: the `user` of a kubeconfig.
    pub fn credentials(&self, name: &str, user: serde_json::Value) -> String {
        let config = std::fs::read_to_string(self.home.path().join("kubeconfig")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config["users"][0]["user"] = user;
        let path = self.home.path().join(name);
        std::fs::write(&path, config.to_string()).unwrap();
        format!("--kubeconfig={}", path.display())
    }

    /// The flag by which kubectl asks as the user of a client certificate.
    pub fn user(&self, name: &str, groups: &[&str]) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let identity = self.pki.client(name, groups).unwrap();
        let user = serde_json::json!({
            "client-certificate-data": STANDARD.encode(identity.certificate),
            "client-key-data": STANDARD.encode(identity.key),
        });
        self.credentials(name, user)
    }

    /// Starts the controllers, as a cluster with a node has them.
    pub fn start_controllers(&self) {
        use ztlab::embedded::{
            components, control_plane::controllers, events::Recorder, informer::Informers, tasks::Tasks,
        };
        let server = self.server.clone();
        self.runtime.block_on(async {
            let client = server.client(&components::controller_manager());
            let stop = tokio_util::sync::CancellationToken::new();
            let informers = Informers::start(&server.client(&components::shared_informers()), &stop);
            informers.synced().await;
            controllers::start(&controllers::Context {
                client: client.clone(),
                clients: Arc::new(move |account| server.client(&components::controller(account))),
                informers,
                recorder: Recorder::start(client),
                ca_pem: self.pki.ca_certificate().to_owned(),
                token_key: self.pki.token_key(),
                // No volume is made here: there is no node for a pod.
                volumes: std::env::temp_dir().join("no-volumes"),
                signer: self.pki.signer(),
                tasks: Tasks::default(),
                stop,
            });
        });
    }

    /// Waits until a command that shows something shows `expected`.
    #[track_caller]
    pub fn until(&self, args: &str, expected: &str) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let output = self.run(args, None);
            let shown = String::from_utf8_lossy(&output.stdout);
            if shown.contains(expected) {
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "kubectl {args}: no {expected:?} in\n{shown}"
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(shell_words(args))
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("kubeconfig"))
            .env("TMPDIR", self.home.path())
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &str, input: Option<&str>) -> Output {
        let mut command = self.command(args);
        let Some(input) = input else {
            return command.output().unwrap();
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Standard output of a command that must succeed.
    #[track_caller]
    pub fn ok(&self, args: &str) -> String {
        self.ok_with(args, None)
    }

    #[track_caller]
    pub fn ok_with(&self, args: &str, input: Option<&str>) -> String {
        let output = self.run(args, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        assert!(output.status.success(), "kubectl {args}\n{stdout}\n{stderr}");
        stdout
    }

    /// Standard error of a command that must fail.
    #[track_caller]
    pub fn fails(&self, args: &str, input: Option<&str>) -> String {
        let output = self.run(args, input);
        assert!(
            !output.status.success(),
            "kubectl {args}\n{}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
    }

    pub fn client(&self) -> kube::Client {
        let _inside = self.runtime.enter();
        self.server.client(&Component::new(UserInfo::master("test"), "test"))
    }
}

/// Splits at spaces outside single quotes.
pub fn shell_words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[track_caller]
pub fn contains(text: &str, part: &str) {
    assert!(text.contains(part), "no {part:?} in:\n{text}");
}
