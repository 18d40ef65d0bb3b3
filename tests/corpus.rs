//! The seeds of the fuzz targets, and what a few thousand mutations make of them, without a fuzzer: the targets themselves are
//! in `fuzz/`. `ZTLAB_MUTATIONS=100000 cargo test --test corpus` makes more of them, others each time.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use ztlab::embedded::{
    control_plane::{
        api::decode,
        apiserver::{fuzz_streams, spdy},
        pki::CertificateRequest,
    },
    node::network_policy,
};

/// How many mutations of a target's seeds are tried, and what chooses them.
fn mutations() -> (usize, u64) {
    match std::env::var("ZTLAB_MUTATIONS") {
        Ok(number) => (number.parse().unwrap(), rand::random()),
        Err(_) => (300, 7),
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir: PathBuf = [env!("CARGO_MANIFEST_DIR"), "fuzz/corpus", target].iter().collect();
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no seeds");
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// A seed with a few bytes changed, cut out, put twice, or taken from another seed.
fn mutated(rng: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds.choose(rng).unwrap().clone();
    for _ in 0..rng.random_range(1..5) {
        if bytes.is_empty() {
            break;
        }
        let from = rng.random_range(0..bytes.len());
        let to = (from + rng.random_range(1..40)).min(bytes.len());
        match rng.random_range(0..5) {
            0 => bytes[from] = rng.random(),
            1 => bytes[from] ^= 1 << rng.random_range(0..8),
            2 => drop(bytes.drain(from..to)),
            3 => {
                let part = bytes[from..to].to_vec();
                bytes.splice(from..from, part);
            }
            _ => {
                let other = seeds.choose(rng).unwrap();
                let cut = rng.random_range(0..=other.len());
                bytes.truncate(from);
                bytes.extend_from_slice(&other[cut..]);
            }
        }
    }
    bytes
}

fn tried(target: &str, take: impl Fn(&[u8])) {
    let seeds = corpus(target);
    seeds.iter().for_each(|seed| take(seed));
    let (number, seed) = mutations();
    let mut rng = StdRng::seed_from_u64(seed);
    for place in 0..number {
        let input = mutated(&mut rng, &seeds);
        let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take(&input)));
        assert!(taken.is_ok(), "{target}: mutation {place} of seed {seed}: {input:?}");
    }
}

#[test]
fn bodies_of_requests() {
    let media = [
        "application/json",
        "application/yaml",
        "application/apply-patch+yaml",
        "application/vnd.kubernetes.protobuf",
    ];
    tried("api_body", |input| {
        for media in media {
            let _ = decode::body(media, input);
        }
    });
}

#[test]
fn lab_files() {
    tried("lab", |file| {
        let _ = ztlab::lab::fuzz(file);
    });
    // The seeds are labs: else nothing behind the first mistake would be tried.
    for seed in corpus("lab") {
        assert_eq!(
            ztlab::lab::fuzz(&seed),
            0,
            "{}",
            String::from_utf8_lossy(&seed).lines().nth(5).unwrap()
        );
    }
}

#[test]
fn captures() {
    tried("capture", |file| {
        for message in ztlab::packet::fuzz_capture(file) {
            assert!(!message.text.chars().any(|char| char.is_control() && char != '\n'));
        }
    });
}

#[test]
fn requests_for_certificates() {
    tried("credentials", |input| {
        let _ = CertificateRequest::from_pem(input.get(1..).unwrap_or_default());
    });
}

#[test]
fn spdy_of_a_client() {
    tried("spdy", |input| {
        for piece in [1, 7, 4096] {
            spdy::fuzz(input, piece);
        }
    });
}

#[test]
fn streams_of_a_client() {
    tried("streams", |input| {
        if let [way, piece, bytes @ ..] = input {
            fuzz_streams(*way, usize::from(*piece), bytes);
        }
    });
}

#[test]
fn objects_that_policies_are_compiled_for() {
    tried("network_policy", |objects| drop(network_policy::fuzz(objects)));
}

/// Were the seeds not read as what they are, nothing would be tried at all.
#[test]
fn the_seeds_of_policies_come_to_rules() {
    for seed in corpus("network_policy") {
        let rules = network_policy::fuzz(&seed);
        assert_eq!(rules.ingress.len(), 4, "pods");
        let judged = rules.ingress.values().chain(rules.egress.values());
        assert!(
            judged
                .into_iter()
                .any(|verdict| *verdict != network_policy::Verdict::Accept)
        );
    }
}

#[test]
fn spiffe_ids() {
    tried("spiffe_id", |input| {
        let _ = ztlab::identity::fuzz_id(input);
    });
}

#[test]
fn bundles() {
    tried("bundle", |input| {
        let _ = ztlab::identity::fuzz_bundle(input);
    });
}

#[test]
fn tokens() {
    tried("jwt_svid", |input| {
        let _ = ztlab::identity::fuzz_jwt(input);
    });
}

#[test]
fn certificates() {
    tried("x509_svid", |input| {
        let _ = ztlab::identity::fuzz_certificates(input);
    });
}

#[test]
fn frames_of_workloads() {
    tried("authority", |input| {
        let _ = ztlab_spire::fuzz_authority(input);
    });
}
