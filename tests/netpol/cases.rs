//! Policies on nine pods, a b c in each of the namespaces x y z, and how many of the 324 connections they leave: nine by nine
//! pods, TCP and UDP, ports 80 and 81.
//!
//! Pods have the label `pod` and namespaces the label `ns`, each with its name; ports are named `serve-80-tcp` and so on. A
//! policy is its namespace and its spec.

/// A case: what it shows, the policies, and how many connections are left.
pub type Case = (&'static str, &'static [&'static str], usize);

pub const CASES: &[Case] = &[
    ("no policy: everything flows", &[], 324),
    // --- default deny and default allow
    (
        "default deny ingress",
        &["x {podSelector: {}, policyTypes: [Ingress]}"],
        228,
    ),
    (
        "default deny egress",
        &["x {podSelector: {}, policyTypes: [Egress]}"],
        228,
    ),
    (
        "default deny both",
        &["x {podSelector: {}, policyTypes: [Ingress, Egress]}"],
        156,
    ),
    ("types default to ingress", &["x {podSelector: {}}"], 228),
    (
        "an egress section makes it egress too",
        &["x {podSelector: {}, egress: [{}]}"],
        228,
    ),
    (
        "an empty egress section does not",
        &["x {podSelector: {}, egress: []}"],
        228,
    ),
    (
        "egress only, for all it lets out",
        &["x {podSelector: {}, egress: [{}], policyTypes: [Egress]}"],
        324,
    ),
    (
        "an ingress section without the type is no matter",
        &["x {podSelector: {}, ingress: [], policyTypes: [Egress], egress: [{}]}"],
        324,
    ),
    (
        "an empty ingress list lets nobody in",
        &["x {podSelector: {}, ingress: []}"],
        228,
    ),
    (
        "an empty rule lets everybody in",
        &["x {podSelector: {}, ingress: [{}]}"],
        324,
    ),
    (
        "an empty from is everybody",
        &["x {podSelector: {}, ingress: [{from: []}]}"],
        324,
    ),
    (
        "empty ports are all ports",
        &["x {podSelector: {}, ingress: [{ports: []}]}"],
        324,
    ),
    // --- selecting pods
    ("one pod by label", &["x {podSelector: {matchLabels: {pod: a}}}"], 292),
    (
        "two pods by In",
        &["x {podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, b]}]}}"],
        260,
    ),
    (
        "two pods by NotIn",
        &["x {podSelector: {matchExpressions: [{key: pod, operator: NotIn, values: [a]}]}}"],
        260,
    ),
    (
        "all pods by Exists",
        &["x {podSelector: {matchExpressions: [{key: pod, operator: Exists}]}}"],
        228,
    ),
    (
        "no pod by DoesNotExist",
        &["x {podSelector: {matchExpressions: [{key: pod, operator: DoesNotExist}]}}"],
        324,
    ),
    (
        "labels and expressions must both match",
        &["x {podSelector: {matchLabels: {pod: a}, matchExpressions: [{key: pod, operator: NotIn, values: [a]}]}}"],
        324,
    ),
    (
        "a label nobody has",
        &["x {podSelector: {matchLabels: {pod: nobody}}}"],
        324,
    ),
    // --- peers
    (
        "pods of its own namespace",
        &["x {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"],
        252,
    ),
    (
        "one pod of its own namespace",
        &["x {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}"],
        296,
    ),
    (
        "all namespaces",
        &["x {podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}"],
        324,
    ),
    (
        "a namespace by label",
        &["x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}"],
        264,
    ),
    (
        "a namespace by the label it always has",
        &[
            "x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}]}]}",
        ],
        264,
    ),
    (
        "namespaces by expression",
        &[
            "x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}}]}]}",
        ],
        300,
    ),
    (
        "namespace and pod in one peer: both",
        &[
            "x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}, podSelector: {matchLabels: {pod: b}}}]}]}",
        ],
        240,
    ),
    (
        "namespace and pod in two peers: either",
        &[
            "x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}, {podSelector: {matchLabels: {pod: b}}}]}]}",
        ],
        272,
    ),
    (
        "a pod of any namespace",
        &["x {podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: a}}}]}]}"],
        260,
    ),
    (
        "a peer that nobody is",
        &["x {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: nobody}}}]}]}"],
        228,
    ),
    // --- addresses
    (
        "every address",
        &["x {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}"],
        324,
    ),
    (
        "every address but those of pods",
        &["x {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]}"],
        228,
    ),
    (
        "IPv6 is nobody here",
        &["x {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 'fd00::/8'}}]}]}"],
        228,
    ),
    (
        "a block and a selector: either",
        &[
            "x {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}, {namespaceSelector: {matchLabels: {ns: z}}}]}]}",
        ],
        264,
    ),
    (
        "addresses, going out",
        &["x {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}"],
        324,
    ),
    // --- ports
    (
        "a port by number",
        &["x {podSelector: {}, ingress: [{ports: [{port: 80}]}]}"],
        252,
    ),
    (
        "a port by number and protocol",
        &["x {podSelector: {}, ingress: [{ports: [{port: 81, protocol: UDP}]}]}"],
        252,
    ),
    (
        "a port by name",
        &["x {podSelector: {}, ingress: [{ports: [{port: serve-81-tcp}]}]}"],
        252,
    ),
    (
        "a name is of its protocol",
        &["x {podSelector: {}, ingress: [{ports: [{port: serve-81-tcp, protocol: UDP}]}]}"],
        228,
    ),
    (
        "a name that no pod has",
        &["x {podSelector: {}, ingress: [{ports: [{port: nobody}]}]}"],
        228,
    ),
    (
        "a protocol, all ports",
        &["x {podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}"],
        276,
    ),
    (
        "a range of ports",
        &["x {podSelector: {}, ingress: [{ports: [{port: 80, endPort: 81}]}]}"],
        276,
    ),
    (
        "a range that ends before",
        &["x {podSelector: {}, ingress: [{ports: [{port: 1, endPort: 80}]}]}"],
        252,
    ),
    (
        "several ports: any of them",
        &["x {podSelector: {}, ingress: [{ports: [{port: 80}, {port: serve-80-udp, protocol: UDP}]}]}"],
        276,
    ),
    (
        "SCTP is neither",
        &["x {podSelector: {}, ingress: [{ports: [{protocol: SCTP}]}]}"],
        228,
    ),
    (
        "peers and ports: both",
        &[
            "x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}], ports: [{port: 80}]}]}",
        ],
        237,
    ),
    (
        "two rules: either",
        &[
            "x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}, {ports: [{port: 80}]}]}",
        ],
        279,
    ),
    // --- going out
    (
        "out to one namespace",
        &[
            "x {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}",
        ],
        264,
    ),
    (
        "out to one pod and port",
        &[
            "x {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}, podSelector: {matchLabels: {pod: b}}}], ports: [{port: 80}]}]}",
        ],
        293,
    ),
    (
        "out to a port by name",
        &[
            "x {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}}], ports: [{port: serve-81-udp, protocol: UDP}]}]}",
        ],
        237,
    ),
    (
        "out to a port by name, anywhere",
        &["x {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: serve-80-tcp}]}]}"],
        252,
    ),
    (
        "out to nobody",
        &["x {podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {pod: nobody}}}]}]}"],
        228,
    ),
    // --- several policies
    (
        "policies add up",
        &[
            "x {podSelector: {}, policyTypes: [Ingress]}",
            "x {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}",
        ],
        240,
    ),
    (
        "order is no matter",
        &[
            "x {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}",
            "x {podSelector: {}, ingress: [{ports: [{port: 80}]}]}",
            "x {podSelector: {}}",
        ],
        261,
    ),
    (
        "both ends must allow: the receiver does not",
        &[
            "x {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}",
            "y {podSelector: {}, policyTypes: [Ingress]}",
        ],
        168,
    ),
    (
        "both ends must allow: they do",
        &[
            "x {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}",
            "y {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}}]}]}",
        ],
        204,
    ),
    (
        "every namespace closed",
        &[
            "x {podSelector: {}, policyTypes: [Ingress, Egress]}",
            "y {podSelector: {}, policyTypes: [Ingress, Egress]}",
            "z {podSelector: {}, policyTypes: [Ingress, Egress]}",
        ],
        36,
    ),
];
