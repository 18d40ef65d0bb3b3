//! Authorities and certificates for tests, in files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use super::{Acceptor, ClientAuth, Connector, Pair, Serving, Upstream, Versions};
use crate::standins::log::Log;

/// An authority, and a directory for what it issues.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

fn named(name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::CommonName, name);
    full
}

fn leaf(name: &str, until: i32) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    params
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.crt"), issuer.pem()).unwrap();
        Authority { issuer, dir }
    }

    pub fn bundle(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A certificate for `name` and for 127.0.0.1, in files of that name.
    pub fn issue(&self, name: &str) -> Pair {
        self.issue_until(name, 2100)
    }

    pub fn issue_until(&self, name: &str, year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf(name, year).signed_by(&key, &self.issuer).unwrap();
        self.write(name, &certificate.pem(), &key)
    }

    /// A certificate that only its holder vouches for.
    pub fn self_made(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf(name, 2100).self_signed(&key).unwrap();
        self.write(&format!("self-made-{name}"), &certificate.pem(), &key)
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) -> Pair {
        let pair = Pair {
            certificate: self.dir.path().join(format!("{name}.crt")),
            key: self.dir.path().join(format!("{name}.key")),
        };
        fs::write(&pair.certificate, certificate).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    pub fn acceptor(&self, identity: Pair, auth: Option<ClientAuth>, log: &Log) -> Acceptor {
        let serving = Serving {
            identity,
            callers: auth.map(|auth| (self.bundle(), auth)),
            versions: Versions::Both,
            protocols: Vec::new(),
        };
        Acceptor::new(serving, log.clone()).unwrap()
    }

    pub fn connector(&self, identity: Option<Pair>, versions: Versions, log: &Log) -> Connector {
        let upstream = Upstream {
            authorities: self.bundle(),
            identity,
            versions,
        };
        Connector::new(upstream, log.clone()).unwrap()
    }
}
