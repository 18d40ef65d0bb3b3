//! The cluster's zone, made from Services and EndpointSlices.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT},
};
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
};

/// The cluster's domain.
pub const DOMAIN: &str = "cluster.local";

/// The reverse names of the cluster's addresses (RFC 1035 §3.5).
const REVERSE: &str = "10.in-addr.arpa";

/// How long an answer may be kept, in seconds; short, because labs change their Services. CoreDNS's default.
const TTL: u32 = 5;

/// The most aliases that one answer follows: two that name each other have no end.
const MOST_ALIASES: usize = 8;

/// What the zone says to a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// These records, and records that save the asker a second question (SRV targets' addresses).
    Records {
        /// The answer section.
        answers: Vec<Record>,
        /// The additional section.
        additionals: Vec<Record>,
    },
    /// The name exists, but has no record of that type. With the zone's SOA (RFC 2308 §2.2).
    NoData(Box<Record>),
    /// There is no such name. With the zone's SOA (RFC 2308 §2.1).
    NoSuchName(Box<Record>),
    /// The name is not the cluster's to answer for.
    Refused,
}

/// Every name of the cluster, and what it stands for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Zone {
    records: BTreeMap<String, Vec<RData>>,
    /// Names that exist only because something is below them (RFC 8020: they have no data, but they exist).
    empty: BTreeSet<String>,
    serial: u32,
}

impl Zone {
    /// The zone of these Services and their EndpointSlices. `serial` tells one version from the next.
    pub fn build<'a>(
        services: impl IntoIterator<Item = &'a Service>,
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
        serial: u32,
    ) -> Self {
        let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices {
            if slice.address_type != "IPv4" {
                continue;
            }
            let labels = slice.metadata.labels.as_ref();
            let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
            if let (Some(namespace), Some(service)) = (slice.metadata.namespace.as_deref(), service) {
                by_service.entry((namespace, service)).or_default().push(slice);
            }
        }
        let mut zone = Self {
            serial,
            ..Self::default()
        };
        zone.put(
            &format!("dns-version.{DOMAIN}"),
            RData::TXT(TXT::new(vec!["1.1.0".to_owned()])),
        );
        for service in services {
            let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name) else {
                continue;
            };
            let slices = by_service
                .remove(&(namespace.as_str(), name.as_str()))
                .unwrap_or_default();
            zone.add_service(&format!("{name}.{namespace}.svc.{DOMAIN}"), service, &slices);
        }
        zone.add_empty_names();
        zone
    }

    fn add_service(&mut self, fqdn: &str, service: &Service, slices: &[&EndpointSlice]) {
        let Some(spec) = &service.spec else { return };
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().unwrap_or_default();
            if let Some(target) = absolute(target) {
                self.put(fqdn, RData::CNAME(CNAME(target)));
            }
            return;
        }
        match spec.cluster_ip.as_deref() {
            None | Some("") => {}
            Some("None") => self.add_headless(fqdn, spec.publish_not_ready_addresses == Some(true), slices),
            Some(address) => {
                let Ok(address) = address.parse::<Ipv4Addr>() else {
                    return;
                };
                self.put(fqdn, RData::A(A(address)));
                self.put_pointer(address, fqdn);
                for port in spec.ports.iter().flatten() {
                    let protocol = port.protocol.as_deref().unwrap_or("TCP");
                    self.put_srv(fqdn, port.name.as_deref(), protocol, port.port, fqdn);
                }
            }
        }
    }

    fn add_headless(&mut self, fqdn: &str, not_ready_too: bool, slices: &[&EndpointSlice]) {
        for slice in slices {
            let ports: &[EndpointPort] = slice.ports.as_deref().unwrap_or_default();
            for endpoint in &slice.endpoints {
                if !not_ready_too && !is_ready(endpoint) {
                    continue;
                }
                for address in endpoint
                    .addresses
                    .iter()
                    .filter_map(|text| text.parse::<Ipv4Addr>().ok())
                {
                    let hostname = endpoint
                        .hostname
                        .clone()
                        .unwrap_or_else(|| address.to_string().replace('.', "-"));
                    let host = format!("{hostname}.{fqdn}");
                    self.put(fqdn, RData::A(A(address)));
                    self.put(&host, RData::A(A(address)));
                    self.put_pointer(address, &host);
                    for port in ports {
                        if let Some(number) = port.port {
                            let protocol = port.protocol.as_deref().unwrap_or("TCP");
                            self.put_srv(fqdn, port.name.as_deref(), protocol, number, &host);
                        }
                    }
                }
            }
        }
    }

    fn put(&mut self, name: &str, data: RData) {
        let records = self.records.entry(name.to_ascii_lowercase()).or_default();
        if !records.contains(&data) {
            records.push(data);
        }
    }

    fn put_pointer(&mut self, address: Ipv4Addr, name: &str) {
        if let Some(target) = absolute(name) {
            let [a, b, c, d] = address.octets();
            self.put(&format!("{d}.{c}.{b}.{a}.in-addr.arpa"), RData::PTR(PTR(target)));
        }
    }

    fn put_srv(&mut self, fqdn: &str, port: Option<&str>, protocol: &str, number: i32, target: &str) {
        // Unnamed ports have no SRV record: there is nothing to ask for.
        let (Some(port), Ok(number), Some(target)) = (
            port.filter(|name| !name.is_empty()),
            u16::try_from(number),
            absolute(target),
        ) else {
            return;
        };
        let name = format!("_{port}._{}.{fqdn}", protocol.to_ascii_lowercase());
        self.put(&name, RData::SRV(SRV::new(0, 100, number, target)));
    }

    fn add_empty_names(&mut self) {
        for name in self.records.keys() {
            let mut rest = name.as_str();
            while let Some((_, parent)) = rest.split_once('.') {
                if !self.empty.insert(parent.to_owned()) {
                    break;
                }
                rest = parent;
            }
        }
        for name in [
            DOMAIN.to_owned(),
            format!("svc.{DOMAIN}"),
            format!("pod.{DOMAIN}"),
            REVERSE.to_owned(),
        ] {
            self.empty.insert(name);
        }
    }

    /// Answers one question. `name` may end in a dot; case does not matter (RFC 4343).
    pub fn lookup(&self, name: &str, record_type: RecordType) -> Answer {
        let asked = name.trim_end_matches('.').to_ascii_lowercase();
        // every address of a cluster is in 10.0.0.0/8: nobody else could say more of one
        let reverse = asked == REVERSE || asked.ends_with(&format!(".{REVERSE}")) || self.is_pointer(&asked);
        if asked != DOMAIN && !asked.ends_with(&format!(".{DOMAIN}")) && !reverse {
            return Answer::Refused;
        }
        if asked == DOMAIN {
            return self.apex(record_type);
        }
        if let Some(address) = pod_address(&asked) {
            return match record_type {
                RecordType::A | RecordType::ANY => self.records_of(&asked, vec![RData::A(A(address))]),
                _ => Answer::NoData(Box::new(self.soa())),
            };
        }
        let Some(data) = self.records.get(&asked) else {
            return if self.empty.contains(&asked) {
                Answer::NoData(Box::new(self.soa()))
            } else {
                Answer::NoSuchName(Box::new(self.soa()))
            };
        };
        let wanted: Vec<RData> = data
            .iter()
            .filter(|data| {
                let has = data.record_type();
                record_type == RecordType::ANY || has == record_type || has == RecordType::CNAME
            })
            .cloned()
            .collect();
        if wanted.is_empty() {
            return Answer::NoData(Box::new(self.soa()));
        }
        let mut answer = self.records_of(&asked, wanted);
        if let Answer::Records { answers, .. } = &mut answer
            && !matches!(record_type, RecordType::CNAME | RecordType::ANY)
        {
            self.follow(record_type, answers);
        }
        answer
    }

    /// Adds what the last record's canonical name has, as long as it is one of this zone's, so that a resolver need not ask
    /// again (RFC 1034 §4.3.2).
    fn follow(&self, record_type: RecordType, answers: &mut Vec<Record>) {
        for _ in 0..MOST_ALIASES {
            let Some(RData::CNAME(CNAME(target))) = answers.last().map(|record| &record.data) else {
                return;
            };
            let target = target.clone();
            let key = target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
            let held = self.records.get(&key).into_iter().flatten();
            let found: Vec<Record> = held
                .filter(|data| [record_type, RecordType::CNAME].contains(&data.record_type()))
                .map(|data| Record::from_rdata(target.clone(), TTL, data.clone()))
                .collect();
            if found.is_empty() {
                return;
            }
            answers.extend(found);
        }
    }

    /// An endpoint that somebody wrote by hand may be anywhere.
    fn is_pointer(&self, asked: &str) -> bool {
        asked.ends_with(".in-addr.arpa") && self.records.contains_key(asked)
    }

    fn apex(&self, record_type: RecordType) -> Answer {
        let name_server = absolute(&format!("ns.dns.{DOMAIN}"));
        match (record_type, name_server) {
            (RecordType::SOA, _) => Answer::Records {
                answers: vec![self.soa()],
                additionals: Vec::new(),
            },
            (RecordType::NS, Some(name)) => self.records_of(DOMAIN, vec![RData::NS(NS(name))]),
            _ => Answer::NoData(Box::new(self.soa())),
        }
    }

    fn records_of(&self, name: &str, data: Vec<RData>) -> Answer {
        let Some(owner) = absolute(name) else {
            return Answer::NoSuchName(Box::new(self.soa()));
        };
        let mut additionals = Vec::new();
        for target in data.iter().filter_map(|data| match data {
            RData::SRV(srv) => Some(srv.target.clone()),
            _ => None,
        }) {
            let key = target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
            for address in self.records.get(&key).into_iter().flatten() {
                let record = Record::from_rdata(target.clone(), TTL, address.clone());
                if address.record_type() == RecordType::A && !additionals.contains(&record) {
                    additionals.push(record);
                }
            }
        }
        let answers = data
            .into_iter()
            .map(|data| Record::from_rdata(owner.clone(), TTL, data))
            .collect();
        Answer::Records { answers, additionals }
    }

    fn soa(&self) -> Record {
        let name = |text: &str| absolute(text).unwrap_or_else(Name::root);
        let soa = SOA::new(
            name(&format!("ns.dns.{DOMAIN}")),
            name(&format!("hostmaster.{DOMAIN}")),
            self.serial,
            7200,
            1800,
            86400,
            TTL,
        );
        Record::from_rdata(name(DOMAIN), TTL, RData::SOA(soa))
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true)
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// `10-244-0-5.<namespace>.pod.cluster.local`: the address is in the name, and is not looked up (CoreDNS's `pods insecure`).
fn pod_address(name: &str) -> Option<Ipv4Addr> {
    let host = name.strip_suffix(&format!(".pod.{DOMAIN}"))?;
    let (dashed, namespace) = host.split_once('.')?;
    if namespace.is_empty() || namespace.contains('.') {
        return None;
    }
    dashed.replace('-', ".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(value: serde_json::Value) -> Service {
        serde_json::from_value(value).unwrap()
    }

    fn alias(name: &str, target: &str) -> Service {
        service(json!({"metadata": {"name": name, "namespace": "shop"},
            "spec": {"type": "ExternalName", "externalName": target}}))
    }

    fn zone() -> Zone {
        let services = [
            service(json!({"metadata": {"name": "ledger", "namespace": "shop"}, "spec": {
                "clusterIP": "10.96.3.4", "ports": [{"name": "postgres", "port": 5432, "protocol": "TCP"}, {"port": 80}]}})),
            service(
                json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "None", "ports": [{"name": "pg", "port": 5432}]}}),
            ),
            service(
                json!({"metadata": {"name": "away", "namespace": "shop"}, "spec": {"type": "ExternalName", "externalName": "example.com"}}),
            ),
            alias("near", "away.shop.svc.cluster.local"),
            alias("alias", "LEDGER.shop.svc.cluster.local"),
            alias("again", "alias.shop.svc.cluster.local."),
            alias("lost", "nobody.shop.svc.cluster.local"),
            alias("ping", "pong.shop.svc.cluster.local"),
            alias("pong", "ping.shop.svc.cluster.local"),
            service(
                json!({"metadata": {"name": "early", "namespace": "shop"}, "spec": {"clusterIP": "None", "publishNotReadyAddresses": true}}),
            ),
        ];
        let slice = |service: &str| -> EndpointSlice {
            serde_json::from_value(json!({
                "metadata": {"name": format!("{service}-x"), "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4",
                "endpoints": [
                    {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
                    {"addresses": ["10.244.0.6"], "conditions": {"ready": true}},
                    {"addresses": ["10.244.0.7"], "conditions": {"ready": false}}
                ],
                "ports": [{"name": "pg", "port": 5432, "protocol": "TCP"}]
            }))
            .unwrap()
        };
        Zone::build(&services, &[slice("db"), slice("early")], 7)
    }

    fn answer(name: &str, record_type: RecordType) -> Vec<String> {
        match zone().lookup(name, record_type) {
            Answer::Records { answers, .. } => answers.iter().map(|record| record.data.to_string()).collect(),
            Answer::NoData(_) => vec!["nodata".to_owned()],
            Answer::NoSuchName(_) => vec!["nxdomain".to_owned()],
            Answer::Refused => vec!["refused".to_owned()],
        }
    }

    #[test]
    fn names_of_the_specification() {
        for (name, record_type, expected) in [
            ("ledger.shop.svc.cluster.local.", RecordType::A, vec!["10.96.3.4"]),
            ("LEDGER.Shop.SVC.cluster.LOCAL", RecordType::A, vec!["10.96.3.4"]),
            ("ledger.shop.svc.cluster.local.", RecordType::AAAA, vec!["nodata"]),
            ("nobody.shop.svc.cluster.local.", RecordType::A, vec!["nxdomain"]),
            ("shop.svc.cluster.local.", RecordType::A, vec!["nodata"]),
            ("other.svc.cluster.local.", RecordType::A, vec!["nxdomain"]),
            ("svc.cluster.local.", RecordType::A, vec!["nodata"]),
            (
                "_postgres._tcp.ledger.shop.svc.cluster.local.",
                RecordType::SRV,
                vec!["0 100 5432 ledger.shop.svc.cluster.local."],
            ),
            (
                "4.3.96.10.in-addr.arpa.",
                RecordType::PTR,
                vec!["ledger.shop.svc.cluster.local."],
            ),
            (
                "db.shop.svc.cluster.local.",
                RecordType::A,
                vec!["10.244.0.5", "10.244.0.6"],
            ),
            ("db-0.db.shop.svc.cluster.local.", RecordType::A, vec!["10.244.0.5"]),
            (
                "10-244-0-6.db.shop.svc.cluster.local.",
                RecordType::A,
                vec!["10.244.0.6"],
            ),
            (
                "_pg._tcp.db.shop.svc.cluster.local.",
                RecordType::SRV,
                vec![
                    "0 100 5432 db-0.db.shop.svc.cluster.local.",
                    "0 100 5432 10-244-0-6.db.shop.svc.cluster.local.",
                ],
            ),
            (
                "early.shop.svc.cluster.local.",
                RecordType::A,
                vec!["10.244.0.5", "10.244.0.6", "10.244.0.7"],
            ),
            ("away.shop.svc.cluster.local.", RecordType::A, vec!["example.com."]),
            ("10-244-0-9.shop.pod.cluster.local.", RecordType::A, vec!["10.244.0.9"]),
            ("dns-version.cluster.local.", RecordType::TXT, vec!["1.1.0"]),
            ("example.com.", RecordType::A, vec!["refused"]),
            ("9.9.9.9.in-addr.arpa.", RecordType::PTR, vec!["refused"]),
            ("110.in-addr.arpa.", RecordType::PTR, vec!["refused"]),
            ("5.3.96.10.in-addr.arpa.", RecordType::PTR, vec!["nxdomain"]),
            ("3.96.10.in-addr.arpa.", RecordType::PTR, vec!["nodata"]),
            ("10.in-addr.arpa.", RecordType::PTR, vec!["nodata"]),
            ("evilcluster.local.", RecordType::A, vec!["refused"]),
        ] {
            assert_eq!(answer(name, record_type), expected, "{name} {record_type}");
        }
    }

    #[test]
    fn aliases_are_followed_within_the_zone() {
        let shop = |name: &str| format!("{name}.shop.svc.cluster.local.");
        for (name, record_type, expected) in [
            ("alias", RecordType::A, vec![shop("LEDGER"), "10.96.3.4".to_owned()]),
            (
                "again",
                RecordType::A,
                vec![shop("alias"), shop("LEDGER"), "10.96.3.4".to_owned()],
            ),
            ("alias", RecordType::AAAA, vec![shop("LEDGER")]),
            ("alias", RecordType::CNAME, vec![shop("LEDGER")]),
            ("near", RecordType::A, vec![shop("away"), "example.com.".to_owned()]),
            ("lost", RecordType::A, vec![shop("nobody")]),
        ] {
            assert_eq!(answer(&shop(name), record_type), expected, "{name} {record_type}");
        }
        assert_eq!(answer(&shop("ping"), RecordType::A).len(), MOST_ALIASES + 1);
    }

    #[test]
    fn an_srv_answer_brings_its_addresses() {
        let Answer::Records { additionals, .. } = zone().lookup("_pg._tcp.db.shop.svc.cluster.local", RecordType::SRV)
        else {
            panic!("no records");
        };
        assert_eq!(additionals.len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn any_name_gets_an_answer(name in ".{0,300}") {
            let _ = zone().lookup(&name, RecordType::A);
        }
    }
}
