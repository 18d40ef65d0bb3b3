//! The table of images that this binary answers for.

use super::tls::environment::DOCUMENTED;

/// An image that this binary answers for.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// The stand-in's name, as `ztlab images` lists it.
    pub name: &'static str,
    /// Image repositories it answers for, without tag.
    pub repositories: &'static [&'static str],
    /// One line: what it stands for.
    pub summary: &'static str,
    /// What of the image's command line and protocol it supports, an item a line.
    pub supports: &'static [&'static str],
    /// The image's `ENTRYPOINT`.
    pub entrypoint: &'static [&'static str],
    /// The image's `CMD`.
    pub cmd: &'static [&'static str],
    /// The image's `ENV`.
    pub env: &'static [(&'static str, &'static str)],
    /// Programs in its `/usr/local/bin`, links to this binary; one that begins with `/` is at that place.
    pub programs: &'static [&'static str],
}

const TOOLS: &[&str] = &[
    "curl",
    "dig",
    "env",
    "idle",
    "nc",
    "nslookup",
    "printenv",
    "psql",
    "reach",
    "sleep",
    "spire-agent",
    "ztls",
];

const TOOLS_SUPPORT: &[&str] = &[
    "curl: HTTP/1.1 and HTTPS; `curl --help` lists the options, exit codes as curl's (6 7 22 28 35 52 56 60)",
    "nc: TCP and UDP, -l -z -v -w -u -n -p, port ranges with -z",
    "dig: [@server] name [type] -x -p +short +tcp +search +time= +tries=",
    "nslookup: name [server], with the search list of /etc/resolv.conf",
    "psql: -h -p -U -d -c -t -A, PGPASSWORD and the other PG variables, postgresql:// URLs; no backslash commands",
    "psql over TLS: sslmode (disable, prefer, require, verify-ca, verify-full), sslrootcert, sslcert, sslkey, or PGSSLMODE and so on",
    "ztls: facts of a TLS handshake and of every certificate in it, as text or --json",
    "reach: tries many tcp:// and udp:// targets at once, once or for a while; open, refused or timeout for each",
    "spire-agent: api fetch x509|jwt, api validate jwt, api watch, as SPIRE's own, at the socket of the Workload API",
    "env, printenv: the environment of the container",
    "sleep: seconds, suffixes s m h d, infinity",
    "idle: does nothing until SIGTERM (the default command)",
    "the host's sh, openssl and tcpdump where the host has them in /usr/bin",
];

/// Every stand-in.
pub const ALL: &[Image] = &[
    Image {
        name: "frontend",
        repositories: &["ztlab.dev/shop/frontend"],
        summary: "the shop's front door: places one order every second",
        supports: &[
            "GET /, a status as JSON; GET /healthz",
            "env ORDERS_URL, LISTEN, INTERVAL_MS, CUSTOMER, CARD_NUMBER, AMOUNT",
            DOCUMENTED,
            "access log and outcome of every order as JSON lines on stdout",
        ],
        entrypoint: &["frontend"],
        cmd: &[],
        env: &[],
        programs: &["frontend", "env", "printenv"],
    },
    Image {
        name: "orders-api",
        repositories: &["ztlab.dev/shop/orders-api"],
        summary: "takes orders and has them paid, with a bearer token",
        supports: &[
            "POST /orders {customer, amount, card}; GET /orders; GET /healthz",
            "env PAYMENTS_URL, PAYMENTS_TOKEN, LISTEN",
            DOCUMENTED,
            "access log as JSON lines on stdout",
        ],
        entrypoint: &["orders-api"],
        cmd: &[],
        env: &[],
        programs: &["orders-api", "env", "printenv"],
    },
    Image {
        name: "payments-api",
        repositories: &["ztlab.dev/shop/payments-api"],
        summary: "charges cards for whoever holds the token, and writes them to the ledger",
        supports: &[
            "POST /charge {amount, card?, customer?, order?}; GET /payments; both want the bearer token, else 401",
            "GET /healthz",
            "env PAYMENTS_TOKEN, LEDGER_URL, LEDGER_USER, LEDGER_PASSWORD, LISTEN",
            DOCUMENTED,
            "one database connection a payment; access log as JSON lines on stdout",
        ],
        entrypoint: &["payments-api"],
        cmd: &[],
        env: &[],
        programs: &["payments-api", "env", "printenv"],
    },
    Image {
        name: "ledger",
        repositories: &["ztlab.dev/shop/ledger"],
        summary: "the shop's database, PostgreSQL on the wire, in memory",
        supports: &[
            "PostgreSQL protocol 3 with cleartext password login; simple and extended query; TLS by SSLRequest",
            "INSERT INTO payments (columns) VALUES (...) [RETURNING id]",
            "SELECT columns | * | count(*) FROM payments [WHERE column = value [AND ...]] [ORDER BY column] [LIMIT n]",
            "SELECT version() | current_user | current_database() | literals; psql's \\dt and \\d",
            "env LEDGER_USER, LEDGER_PASSWORD, LEDGER_ROWS, LISTEN; logins and queries as JSON lines on stdout",
            DOCUMENTED,
        ],
        entrypoint: &["ledger"],
        cmd: &[],
        env: &[],
        programs: &["ledger", "env", "printenv"],
    },
    Image {
        name: "toolbox",
        repositories: &["ztlab.dev/toolbox"],
        summary: "network clients of ztlab's own, and a pod to use them from",
        supports: TOOLS_SUPPORT,
        entrypoint: &[],
        cmd: &["idle"],
        env: &[],
        programs: TOOLS,
    },
    Image {
        name: "observer",
        repositories: &["ztlab.dev/observer"],
        summary: "ztlab's own eyes in a pod: probes and captures are run in it",
        supports: &[
            "as an ephemeral container: waits until SIGTERM",
            "the tool box's programs",
        ],
        entrypoint: &[],
        cmd: &["idle"],
        env: &[],
        programs: TOOLS,
    },
    Image {
        name: "hello",
        repositories: &["nginxdemos/hello"],
        summary: "stands in for nginxdemos/hello: a web server that says which pod answered",
        supports: &[
            "HTTP on port 80: server address, server name, date, URI, request id",
            "every tag answers an HTML page, and plain text to a client that does not ask for HTML",
            "no nginx: no configuration, modules or files",
        ],
        entrypoint: &["hello"],
        cmd: &[],
        env: &[],
        programs: &["hello"],
    },
    Image {
        name: "curl",
        repositories: &["curlimages/curl"],
        summary: "stands in for curlimages/curl",
        supports: &[
            "arguments are curl's; a first argument that is a program runs that instead, as in the image",
            "HTTP/1.1 and HTTPS; `curl --help` lists the options, exit codes as curl's (6 7 22 28 35 52 56 60)",
        ],
        entrypoint: &["curl-entrypoint"],
        cmd: &["curl"],
        env: &[],
        programs: &["curl-entrypoint", "curl", "sleep"],
    },
    Image {
        name: "agnhost",
        repositories: &[
            "registry.k8s.io/e2e-test-images/agnhost",
            "k8s.gcr.io/e2e-test-images/agnhost",
        ],
        summary: "stands in for agnhost, the image of Kubernetes' network tests",
        supports: &[
            "every tag; subcommands as below, any other is refused by name; no TLS, no SCTP",
            "connect HOST:PORT --timeout --protocol=tcp|udp --udp-data: 0, or 1 and TIMEOUT, REFUSED, DNS, OTHER or UNKNOWN",
            "netexec --http-port --udp-port --http-override --delay-shutdown: / /clientip /dial /echo /exit /header /healthz",
            "  /hostname /redirect /serverport /shell /shutdown over HTTP; hostname, echo, clientip over UDP",
            "serve-hostname --tcp --udp --http --close --port; porter with env SERVE_PORT_<number>",
            "pause (the default command), entrypoint-tester, dns-suffix, dns-server-list, etc-hosts",
            "the host's sh and cat, and the tool box's curl, dig, nc, reach",
        ],
        entrypoint: &["/agnhost"],
        cmd: &["pause"],
        env: &[],
        programs: &["/agnhost", "curl", "dig", "nc", "reach", "sleep"],
    },
    #[cfg(target_os = "linux")]
    Image {
        name: "spire-server",
        repositories: &["ghcr.io/spiffe/spire-server"],
        summary: "stands in for SPIRE's server: authorities, registration entries, SVIDs",
        supports: &[
            "run -config FILE: the settings of SPIRE's documents; KeyManager disk and memory, NodeAttestor k8s_psat and join_token,",
            "  Notifier k8sbundle, health_checks; no upstream authority, no bundle endpoint, EC P-256 keys only",
            "SPIRE's entry, bundle, svid, agent, trustdomain and localauthority APIs on the admin socket and by mutual TLS",
            "entry, bundle, agent, token, x509, jwt, federation, localauthority, healthcheck: SPIRE's flags and output",
        ],
        entrypoint: &["/opt/spire/bin/spire-server", "run"],
        cmd: &[],
        env: &[],
        programs: &["/opt/spire/bin/spire-server"],
    },
    #[cfg(target_os = "linux")]
    Image {
        name: "spire-agent",
        repositories: &["ghcr.io/spiffe/spire-agent"],
        summary: "stands in for SPIRE's agent: the SPIFFE Workload API of a node, and Envoy's SDS",
        supports: &[
            "run -config FILE: the settings of SPIRE's documents; KeyManager memory, NodeAttestor k8s_psat and join_token,",
            "  WorkloadAttestor k8s (by the embedded node) and unix, health_checks, sds; EC P-256 keys only",
            "the Workload API with X.509- and JWT-SVIDs, bundles, validation; SVIDs rotate at half their life",
            "Envoy's secret discovery (SDS v3) on the same socket: default, ROOTCA, ALL, SPIFFE IDs",
            "api fetch x509|jwt, api validate jwt, api watch, healthcheck: SPIRE's flags and output",
        ],
        entrypoint: &["/opt/spire/bin/spire-agent", "run"],
        cmd: &[],
        env: &[],
        programs: &["/opt/spire/bin/spire-agent"],
    },
    #[cfg(target_os = "linux")]
    Image {
        name: "spire-controller-manager",
        repositories: &["ghcr.io/spiffe/spire-controller-manager"],
        summary: "stands in for SPIRE's controller manager: ClusterSPIFFEIDs become registration entries",
        supports: &[
            "-config=FILE: a ControllerManagerConfig; no webhooks",
            "ClusterSPIFFEID, ClusterStaticEntry; ClusterFederatedTrustDomain as the book says",
        ],
        entrypoint: &["/spire-controller-manager"],
        cmd: &[],
        env: &[],
        programs: &["/spire-controller-manager"],
    },
];
