//! Workers, an identity host and a virtual clock.

use super::*;
use crate::config::Config;
use crate::token::{Verdict, verify};
use jwt_simple::prelude::*;
use jwt_simple::reexports::ct_codecs::{Base64UrlSafeNoPadding, Encoder};
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;

const START: Duration = Duration::from_secs(1_770_379_200);

#[derive(Default)]
struct Memory(HashMap<String, (Vec<u8>, u32)>);

impl Store for Memory {
    fn load(&mut self, key: &str) -> Option<(Vec<u8>, Option<u32>)> {
        self.0.get(key).map(|(bytes, mark)| (bytes.clone(), Some(*mark)))
    }

    fn swap(&mut self, key: &str, bytes: &[u8], mark: Option<u32>) -> bool {
        let entry = self.0.entry(key.to_owned()).or_default();
        let matches = mark.is_none_or(|mark| mark == entry.1);
        if matches {
            *entry = (bytes.to_vec(), entry.1 + 1);
        }
        matches
    }
}

#[derive(Default)]
struct Counts(HashMap<Stat, u64>);

impl Sink for Counts {
    fn add(&mut self, stat: Stat, amount: u64) {
        *self.0.entry(stat).or_default() += amount;
    }
}

/// What the identity host does.
enum Host {
    Serves(Vec<&'static str>),
    Answers(Option<u16>, Vec<u8>),
    Hangs,
    Down,
}

struct Cell {
    config: Config,
    workers: Vec<Keyring>,
    memory: Memory,
    counts: Counts,
    now: Duration,
    host: Host,
    signers: HashMap<&'static str, Ed25519KeyPair>,
    fetches: Vec<Duration>,
}

impl Cell {
    fn new(workers: u32, host: Host) -> Cell {
        let config = json!({
            "auth": {"providers": [{"name": "idp", "algorithms": ["EdDSA"],
                "remote_jwks": {"cluster": "idp", "uri": "https://idp.example/certs", "cache_seconds": 600, "max_stale_seconds": 3600}}]},
            "export": {"cluster": "c", "authority": "a"},
        });
        let config = Config::read(config.to_string().as_bytes(), &|_| None).unwrap();
        let mut memory = Memory::default();
        Keyring::prepare(&config.auth, &mut memory);
        let workers = (0..workers).map(|i| Keyring::new(&config.auth, u128::from(u32::wrapping_mul(i, u32::MAX / 3)))).collect();
        let signers = ["a", "b", "c"].map(|kid| (kid, Ed25519KeyPair::generate().with_key_id(kid))).into();
        Cell { config, workers, memory, counts: Counts::default(), now: START, host, signers, fetches: Vec::new() }
    }

    fn document(&self, kids: &[&'static str]) -> Vec<u8> {
        let jwk = |kid: &&'static str| {
            let x = Base64UrlSafeNoPadding::encode_to_string(self.signers[kid].public_key().to_bytes()).unwrap();
            json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
        };
        let mut keys: Vec<Value> = kids.iter().map(jwk).collect();
        keys.push(json!({"kty": "junk"}));
        keys.push(json!("junk"));
        json!({"keys": keys}).to_string().into_bytes()
    }

    /// One tick of each worker, and what the host answers.
    fn tick(&mut self) {
        for i in 0..self.workers.len() {
            let due = self.workers[i].tick(&self.config.auth, self.now, &mut self.memory, &mut self.counts);
            for provider in due {
                self.fetches.push(self.now);
                let body;
                let answer = match &self.host {
                    Host::Hangs => continue,
                    Host::Down => KeyAnswer::None,
                    Host::Answers(status, bytes) => KeyAnswer::Response(*status, bytes),
                    Host::Serves(kids) => {
                        body = self.document(kids);
                        KeyAnswer::Response(Some(200), &body)
                    }
                };
                let _ = self.workers[i].fetched(&self.config.auth, provider, answer, self.now, &mut self.memory, &mut self.counts);
            }
        }
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.tick();
            self.now += Duration::from_secs(1);
        }
    }

    fn token(&self, kid: &'static str) -> String {
        let payload = json!({"sub": "u", "exp": (self.now.as_secs() + 100_000)});
        let claims: JWTClaims<Value> = serde_json::from_value(payload).unwrap();
        self.signers[kid].sign(claims).unwrap()
    }

    fn verify(&mut self, worker: usize, kid: &'static str) -> Verdict {
        let token = self.token(kid);
        verify(token.as_bytes(), &self.config.auth, &mut self.workers[worker], self.now)
    }

    fn is_good(&mut self, worker: usize, kid: &'static str) -> bool {
        matches!(self.verify(worker, kid), Verdict::Verified(_) | Verdict::Remembered(_))
    }
}

#[test]
fn before_the_first_keys_nothing_can_be_said() {
    let mut cell = Cell::new(2, Host::Down);
    assert_eq!(cell.verify(0, "a"), Verdict::NoKeys);
    assert!(cell.workers[0].is_missing());
    cell.run(5);
    assert_eq!(cell.verify(0, "a"), Verdict::NoKeys);
    cell.host = Host::Serves(vec!["a"]);
    cell.run(10);
    assert!(cell.is_good(0, "a") && cell.is_good(1, "a"));
    assert!(!cell.workers[0].is_missing());
}

#[test]
fn workers_together_fetch_once_a_period() {
    let mut cell = Cell::new(2, Host::Serves(vec!["a"]));
    cell.run(6000);
    assert!((10..=12).contains(&cell.fetches.len()), "{}", cell.fetches.len());
    assert_eq!(cell.counts.0[&Stat::KeyFetches], cell.fetches.len() as u64);
    assert_eq!(cell.counts.0[&Stat::KeysIgnored], 2 * cell.fetches.len() as u64 / 2);
}

#[test]
fn a_set_is_fetched_again_before_its_period_runs_out() {
    let mut cell = Cell::new(1, Host::Serves(vec!["a"]));
    cell.run(1300);
    for pair in cell.fetches.windows(2) {
        assert!(pair[1] - pair[0] < Duration::from_secs(600));
    }
}

#[test]
fn a_key_that_is_not_known_is_fetched_while_the_request_waits() {
    let mut cell = Cell::new(2, Host::Serves(vec!["a"]));
    cell.run(20);
    cell.host = Host::Serves(vec!["a", "b"]);
    assert_eq!(cell.verify(1, "b"), Verdict::KeyUnknown(vec![0]));
    let since = cell.now;
    assert!(cell.workers[1].wait(&[0], since));
    assert_eq!(cell.workers[1].asked(&[0], since), Asked::Waiting);
    cell.tick();
    assert_eq!(cell.workers[1].asked(&[0], since), Asked::Answered);
    assert!(cell.is_good(1, "b"));
    cell.tick();
    assert!(cell.is_good(0, "b"), "the other worker has read what this one fetched");
    assert_eq!(cell.fetches.len(), 2);
}

#[test]
fn keys_that_do_not_exist_cost_one_fetch_in_ten_seconds() {
    let mut cell = Cell::new(2, Host::Serves(vec!["a"]));
    cell.run(20);
    let before = cell.fetches.len();
    for _ in 0..100 {
        for worker in 0..2 {
            assert_eq!(cell.verify(worker, "c"), Verdict::KeyUnknown(vec![0]));
            let now = cell.now;
            if cell.workers[worker].wait(&[0], now) {
                cell.workers[worker].leave();
            }
        }
        cell.run(1);
    }
    assert!((9..=11).contains(&(cell.fetches.len() - before)), "{}", cell.fetches.len() - before);
}

#[test]
fn only_so_many_requests_wait() {
    let mut cell = Cell::new(1, Host::Hangs);
    let admitted = (0..1_000).filter(|_| cell.workers[0].wait(&[0], START)).count();
    assert_eq!(admitted, MOST_WAITING);
    cell.workers[0].leave();
    assert!(cell.workers[0].wait(&[0], START));
}

#[test]
fn a_bad_document_never_replaces_a_good_one() {
    let mut junk: Vec<(Option<u16>, Vec<u8>)> = vec![
        (Some(500), b"{}".to_vec()),
        (Some(301), b"".to_vec()),
        (None, b"".to_vec()),
        (Some(200), b"<html>".to_vec()),
        (Some(200), b"".to_vec()),
        (Some(200), b"{\"keys\":[]}".to_vec()),
        (
            Some(200),
            b"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}".to_vec(),
        ),
        (Some(200), vec![b' '; LARGEST_DOCUMENT + 1]),
    ];
    junk.push((Some(200), json!({"keys": vec![json!({"kty": "RSA"}); 101]}).to_string().into_bytes()));
    for (status, body) in junk {
        let mut cell = Cell::new(1, Host::Serves(vec!["a"]));
        cell.run(20);
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        cell.host = Host::Answers(status, body);
        cell.run(1200);
        assert!(cell.is_good(0, "a"), "{status:?} {shown}");
        assert!(cell.counts.0[&Stat::KeyFetchesFailed] > 3, "{status:?} {shown}");
    }
}

#[test]
fn keys_stay_in_force_for_so_long_while_no_others_can_be_had() {
    let mut cell = Cell::new(1, Host::Serves(vec!["a"]));
    cell.run(1);
    cell.host = Host::Down;
    cell.run(3590);
    assert!(cell.is_good(0, "a"));
    cell.run(20);
    let token = cell.token("b");
    assert_eq!(verify(token.as_bytes(), &cell.config.auth, &mut cell.workers[0], cell.now), Verdict::NoKeys);
    cell.host = Host::Serves(vec!["b"]);
    cell.run(40);
    assert!(cell.is_good(0, "b"));
}

#[test]
fn a_host_that_fails_is_asked_less_and_less_often() {
    let mut cell = Cell::new(2, Host::Down);
    cell.run(300);
    assert!((10..=20).contains(&cell.fetches.len()), "{}", cell.fetches.len());
    let gaps: Vec<u64> = cell.fetches.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert!(gaps[0] <= 2 && gaps.last().unwrap() >= &20 && gaps.iter().all(|gap| *gap <= 31), "{gaps:?}");
}

#[test]
fn a_worker_that_dies_while_it_fetches_is_replaced_by_another() {
    let mut cell = Cell::new(1, Host::Hangs);
    cell.tick();
    assert_eq!(cell.fetches.len(), 1);
    cell.workers = vec![Keyring::new(&cell.config.auth, 1)];
    cell.host = Host::Serves(vec!["a"]);
    cell.run(5);
    assert!(cell.is_good(0, "a"), "the lease runs out a second after the timeout");
}

#[test]
fn a_failure_is_an_answer_too() {
    let mut cell = Cell::new(1, Host::Serves(vec!["a"]));
    cell.run(20);
    cell.host = Host::Down;
    let since = cell.now;
    assert!(cell.workers[0].wait(&[0], since));
    cell.tick();
    assert_eq!(cell.workers[0].asked(&[0], since), Asked::Failed);
}

#[test]
fn a_token_is_forgotten_with_its_key() {
    let mut cell = Cell::new(1, Host::Serves(vec!["a", "b"]));
    cell.run(1);
    let (a, b) = (cell.token("a"), cell.token("b"));
    for token in [&a, &b] {
        assert!(matches!(verify(token.as_bytes(), &cell.config.auth, &mut cell.workers[0], cell.now), Verdict::Verified(_)));
        assert!(matches!(verify(token.as_bytes(), &cell.config.auth, &mut cell.workers[0], cell.now), Verdict::Remembered(_)));
    }
    cell.host = Host::Serves(vec!["b", "c"]);
    cell.run(600);
    assert_eq!(verify(a.as_bytes(), &cell.config.auth, &mut cell.workers[0], cell.now), Verdict::KeyUnknown(vec![0]));
    assert!(matches!(verify(b.as_bytes(), &cell.config.auth, &mut cell.workers[0], cell.now), Verdict::Remembered(_)));
}

#[test]
fn a_record_that_can_not_be_read_is_none() {
    let mut cell = Cell::new(1, Host::Serves(vec!["a"]));
    let key = cell.memory.0.keys().next().unwrap().clone();
    cell.memory.swap(&key, b"\xffjunk", None);
    cell.run(2);
    assert!(cell.is_good(0, "a"));
}

#[test]
fn a_clock_that_was_set_back_holds_nothing_up() {
    let mut cell = Cell::new(1, Host::Serves(vec!["a"]));
    cell.run(20);
    cell.host = Host::Down;
    cell.run(700);
    cell.now -= Duration::from_secs(86_400);
    cell.host = Host::Serves(vec!["a", "b"]);
    cell.run(1);
    assert_eq!(cell.verify(0, "b"), Verdict::KeyUnknown(vec![0]));
    let since = cell.now;
    assert!(cell.workers[0].wait(&[0], since));
    cell.run(60);
    assert_eq!(cell.workers[0].asked(&[0], since), Asked::Answered);
    assert!(cell.is_good(0, "b"));
}

#[test]
fn a_provider_of_the_same_name_that_fetches_elsewhere_has_other_keys() {
    let mut cell = Cell::new(1, Host::Serves(vec!["a"]));
    cell.run(1);
    let moved = json!({
        "auth": {"providers": [{"name": "idp", "algorithms": ["EdDSA"],
            "remote_jwks": {"cluster": "idp", "uri": "https://elsewhere.example/certs", "cache_seconds": 600, "max_stale_seconds": 3600}}]},
        "export": {"cluster": "c", "authority": "a"},
    });
    cell.config = Config::read(moved.to_string().as_bytes(), &|_| None).unwrap();
    Keyring::prepare(&cell.config.auth, &mut cell.memory);
    cell.workers = vec![Keyring::new(&cell.config.auth, 1)];
    cell.host = Host::Serves(vec!["b"]);
    cell.run(1);
    assert!(cell.is_good(0, "b"));
    assert_eq!(cell.verify(0, "a"), Verdict::KeyUnknown(vec![0]));
}

#[test]
fn a_remembered_token_holds_no_longer_than_the_keys() {
    let mut cell = Cell::new(1, Host::Serves(vec!["a"]));
    cell.run(1);
    let token = cell.token("a");
    cell.host = Host::Down;
    for (seconds, remembered) in [(3_590, true), (20, false)] {
        cell.run(seconds);
        let verdict = verify(token.as_bytes(), &cell.config.auth, &mut cell.workers[0], cell.now);
        assert_eq!(matches!(verdict, Verdict::Verified(_) | Verdict::Remembered(_)), remembered, "{verdict:?}");
    }
}

/// A JWK of the signer, with an id or without.
fn jwk(signer: &Ed25519KeyPair, kid: Option<&str>) -> Value {
    let x = Base64UrlSafeNoPadding::encode_to_string(signer.public_key().to_bytes()).unwrap();
    json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid.map_or(json!(null), |kid| json!(kid))})
        .as_object()
        .map(|jwk| Value::Object(jwk.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect()))
        .unwrap()
}

#[test]
fn a_key_id_that_no_key_has_is_unknown_though_there_are_keys_without_one() {
    let mut cell = Cell::new(1, Host::Down);
    let set = json!({"keys": [jwk(&Ed25519KeyPair::generate(), None)]});
    cell.host = Host::Answers(Some(200), set.to_string().into_bytes());
    cell.run(1);
    assert_eq!(cell.verify(0, "a"), Verdict::KeyUnknown(vec![0]));
}

#[test]
fn the_key_that_a_token_names_is_tried_before_those_without_a_name() {
    let mut cell = Cell::new(1, Host::Down);
    let mut keys: Vec<Value> = (0..20).map(|_| jwk(&Ed25519KeyPair::generate(), None)).collect();
    keys.push(jwk(&cell.signers["a"], Some("a")));
    cell.host = Host::Answers(Some(200), json!({"keys": keys}).to_string().into_bytes());
    cell.run(1);
    assert!(cell.is_good(0, "a"));
}

#[test]
fn a_key_that_can_not_be_used_does_not_take_the_id_of_one_that_can() {
    let mut cell = Cell::new(1, Host::Down);
    let mut encrypts = jwk(&Ed25519KeyPair::generate(), Some("a"));
    encrypts["use"] = json!("enc");
    let set =
        json!({"keys": [encrypts, json!({"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "a"}), jwk(&cell.signers["a"], Some("a"))]});
    cell.host = Host::Answers(Some(200), set.to_string().into_bytes());
    cell.run(1);
    assert!(cell.is_good(0, "a"));
}

#[test]
fn of_two_keys_with_one_id_the_first_is_taken_and_the_other_ignored_and_counted() {
    let mut cell = Cell::new(1, Host::Down);
    let set = json!({"keys": [jwk(&cell.signers["a"], Some("a")), jwk(&cell.signers["b"], Some("a")), jwk(&cell.signers["b"], Some("b"))]});
    cell.host = Host::Answers(Some(200), set.to_string().into_bytes());
    cell.run(1);
    assert!(cell.is_good(0, "a") && cell.is_good(0, "b"));
    assert_eq!(cell.counts.0[&Stat::KeysIgnored], 1);
}

#[test]
fn of_several_providers_that_may_have_the_key_all_are_asked() {
    let mut cell = Cell::new(1, Host::Serves(vec!["c"]));
    let provider = |name: &str| json!({"name": name, "algorithms": ["EdDSA"], "remote_jwks": {"cluster": name, "uri": "https://idp.example/certs", "cache_seconds": 600}});
    let config = json!({"auth": {"providers": [provider("one"), provider("two")]}, "export": {"cluster": "c", "authority": "a"}});
    cell.config = Config::read(config.to_string().as_bytes(), &|_| None).unwrap();
    Keyring::prepare(&cell.config.auth, &mut cell.memory);
    cell.workers = vec![Keyring::new(&cell.config.auth, 0)];
    cell.run(20);
    assert_eq!(cell.verify(0, "a"), Verdict::KeyUnknown(vec![0, 1]));
    let since = cell.now;
    assert!(cell.workers[0].wait(&[0, 1], since));
    cell.host = Host::Hangs;
    cell.tick();
    let due = [0, 1].map(|i| cell.workers[0].asked(&[i], since));
    assert_eq!(due, [Asked::Waiting, Asked::Waiting], "both are being fetched");
    let documents = [cell.document(&["c"]), cell.document(&["a"])];
    for (i, document) in documents.iter().enumerate() {
        assert_eq!(cell.workers[0].asked(&[0, 1], since), Asked::Waiting);
        let answer = KeyAnswer::Response(Some(200), document);
        cell.workers[0].fetched(&cell.config.auth, i, answer, cell.now, &mut cell.memory, &mut cell.counts).unwrap();
    }
    assert_eq!(cell.workers[0].asked(&[0, 1], since), Asked::Answered);
    assert!(cell.is_good(0, "a"));
}
